"""HTTP/1.1 for simulated registries: one thread, one answer for each request, whole bodies in memory.

They share two cores with the fleet that is measured, so a request has to cost them next to nothing: see
docs/scale.md for how much it does, next to the in-memory registry of the tests.
"""

from __future__ import annotations

import re
import select
import socket
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from tests.support.ports import LOOPBACK

MAX_REQUEST_BYTES = 2**20
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TYPE = re.compile(rb"\r\ncontent-type: *([^\r;]+)", re.IGNORECASE)
_PHRASES = {
    200: "OK",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Too Many Requests",
}


class Asked(NamedTuple):
    """One request."""

    method: str
    path: str
    query: str
    media_type: str
    body: bytes


class Answer(NamedTuple):
    """``head`` is header lines, each with its line end; of the answer to a HEAD ``body`` is not sent."""

    status: int
    head: str = ""
    body: bytes = b""


PING = Answer(200, "Content-Type: application/json\r\n", b"{}")
"""To whoever asks whether this is a registry."""
Serve = Callable[[Asked], Answer]


class Served:
    """What was served, by ``METHOD kind STATUS``."""

    def __init__(self) -> None:
        self.answers: Counter[tuple[str, str, int]] = Counter()

    def note(self, method: str, kind: str, status: int) -> None:
        self.answers[method, kind, status] += 1

    def document(self) -> dict[str, int]:
        return {f"{method} {kind} {status}": n for (method, kind, status), n in self.answers.items()}


def refused(status: int, code: str, message: str, head: str = "") -> Answer:
    """The error body of the distribution-spec ("Error Codes")."""
    body = f'{{"errors":[{{"code":"{code}","message":"{message}","detail":null}}]}}'
    return Answer(status, f"Content-Type: application/json\r\n{head}", body.encode())


def _rendered(answer: Answer, *, with_body: bool) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {_PHRASES[answer.status]}\r\n"
        "Docker-Distribution-Api-Version: registry/2.0\r\n"
        f"{answer.head}Content-Length: {len(answer.body)}\r\n\r\n"
    ).encode("latin-1")
    return head + answer.body if with_body else head


class _Connection:
    """A socket and what came of the next request."""

    __slots__ = ("sock", "unread")

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.unread = sock, b""

    def next(self) -> Asked | None:
        """The next request, once it is there with all of its body."""
        end = self.unread.find(b"\r\n\r\n")
        if end < 0:
            return None
        head, begin = self.unread[:end], end + 4
        length = int(match[1]) if (match := _LENGTH.search(head)) else 0
        if len(self.unread) < begin + length:
            return None
        body, self.unread = self.unread[begin : begin + length], self.unread[begin + length :]
        method, url, _ = head[: head.find(b"\r\n")].decode("latin-1").split(" ")
        path, _, query = url.partition("?")
        media_type = match[1].decode("latin-1") if (match := _TYPE.search(head)) else ""
        return Asked(method, path, query, media_type, body)


def serve_forever(serve: Serve, port: int) -> None:
    """Serve at ``port`` of the loopback, in this thread.

    Answers are a few KB and clients read them at once: sockets block, and no answer waits to be written.
    """
    listener = socket.create_server((LOOPBACK, port), backlog=512)
    connections: dict[int, _Connection] = {}
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    while True:
        for number, _ in poller.poll():
            connection = connections.get(number)
            if connection is None:
                sock, _ = listener.accept()
                connections[sock.fileno()] = _Connection(sock)
                poller.register(sock, select.EPOLLIN)
            elif not _answer(connection, serve):
                del connections[number]
                connection.sock.close()  # which takes it out of the poller


def _answer(connection: _Connection, serve: Serve) -> bool:
    """Answer what has come; whether the connection is still of use."""
    try:
        data = connection.sock.recv(MAX_REQUEST_BYTES)
        connection.unread += data
        while asked := connection.next():
            connection.sock.sendall(_rendered(serve(asked), with_body=asked.method != "HEAD"))
    except OSError:
        return False
    return bool(data) and len(connection.unread) < MAX_REQUEST_BYTES
