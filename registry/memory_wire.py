"""The wire of the in-memory registry: HTTP/1.1 by the standard library, large reads, a thread per client."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from socketserver import TCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from registry.memory_api import Reply, Request
from registry.memory_store import ErrorReply
from registry.repository import BLOCK

_IDLE_S = 300.0
_MAX_LINE = 1024

_log = logging.getLogger(__name__)

Admit = Callable[[str, str], None]
Serve = Callable[[Request], Reply]


class Cut(Exception):
    """Raised by a hook: the connection breaks, after ``after_bytes`` of the request's or answer's body."""

    def __init__(self, after_bytes: int = 0) -> None:
        super().__init__(after_bytes)
        self.after_bytes = after_bytes


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], admit: Admit, serve: Serve) -> None:
        """Listen at ``address``; ``admit`` has every request first and may wait or raise."""
        try:
            if ipaddress.ip_address(address[0]).version == 6:
                self.address_family = socket.AF_INET6
        except ValueError:
            pass  # a name: IPv4, as TCPServer does by default
        self._connections: set[socket.socket] = set()
        super().__init__(address, partial(_Handler, admit, serve))

    def server_bind(self) -> None:
        # HTTPServer asks DNS for its own full name here, which can take seconds and is never used.
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def cut_all(self) -> None:
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                _log.debug("a connection was closed by its client at the same moment")

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002  (the base class passes it)
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            _log.debug("the connection of %s broke: %s", client_address, error)
        else:
            _log.exception("request of %s failed in the registry", client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = _IDLE_S
    rbufsize = 64 * 1024

    def __init__(self, admit: Admit, serve: Serve, request: Any, client_address: Any, server: Any) -> None:
        self._admit, self._serve = admit, serve
        super().__init__(request, client_address, server)

    def do_any(self) -> None:
        body = _Body(self.rfile, self.headers)
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        request = Request(self.command, url.path, query, _Headers(self.headers), body)
        try:
            self._admit(self.command, self.path)
            self._send(self._reply(request))
        except ErrorReply as error:
            self._send(Reply.of_error(error))
        except Cut as cut:
            self._break(request, body, cut.after_bytes)
            return
        # A refused upload is read to its end: closing on unread bytes would reset the connection, and
        # the client might lose the answer that says why.
        body.drain()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_any  # noqa: N815  (http.server finds methods by these names)

    def _reply(self, request: Request) -> Reply:
        try:
            return self._serve(request)
        except ErrorReply as error:
            return Reply.of_error(error)

    def _break(self, request: Request, body: _Body, after_bytes: int) -> None:
        self.close_connection = True
        if after_bytes and body.expected:
            body.drain(after_bytes)
        elif after_bytes:
            self._send(self._reply(request), after_bytes)

    def _send(self, reply: Reply, limit: int | None = None) -> None:
        head = self._head(reply)
        left = reply.length if limit is None else min(limit, reply.length)
        if self.command == "HEAD" or not left:
            self.connection.sendall(head)
            return
        for block in reply.blocks():
            part = memoryview(block)[:left]
            # Head and first block leave together: one segment for every small answer.
            self.connection.sendall(b"".join((head, part)) if head else part)
            head, left = b"", left - len(part)
            if not left:
                return

    def _head(self, reply: Reply) -> bytes:
        lines = [
            f"HTTP/1.1 {reply.status} {_phrase(reply.status)}",
            "Docker-Distribution-Api-Version: registry/2.0",
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        if reply.status != 204:
            lines.append(f"Content-Length: {reply.length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the base class names it so)
        _log.debug("%s %s", self.address_string(), format % args)


class _Headers(Mapping[str, str]):
    """Request headers by name, in any case, first value of each."""

    def __init__(self, headers: Message) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> str:
        return str(self._headers[name]) if name in self._headers else ""

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers.keys())

    def __len__(self) -> int:
        return len(self._headers)


class _Body:
    """A request's body in blocks of a reused buffer; with Content-Length or chunked (RFC 9112, 7.1)."""

    def __init__(self, file: BufferedIOBase, headers: Message) -> None:
        self._file = file
        self._chunked = "chunked" in headers.get("Transfer-Encoding", "").lower()
        self._left = 0 if self._chunked else int(headers.get("Content-Length") or 0)
        self.expected = self._chunked or self._left > 0
        self._blocks = self._read()

    def __iter__(self) -> Iterator[memoryview]:
        return self._blocks

    def drain(self, at_least: int | None = None) -> None:
        """Read on, to the end or until ``at_least`` bytes more have come."""
        seen = 0
        for block in self._blocks:
            seen += len(block)
            if at_least is not None and seen >= at_least:
                return

    def _read(self) -> Iterator[memoryview]:
        if not self.expected:
            return
        buffer = memoryview(bytearray(BLOCK))
        if not self._chunked:
            yield from self._exactly(self._left, buffer)
            return
        while size := int(self._line().partition(b";")[0], 16):
            yield from self._exactly(size, buffer)
            self._line()
        while self._line():
            pass

    def _exactly(self, count: int, buffer: memoryview) -> Iterator[memoryview]:
        while count:
            got = self._file.readinto(buffer[: min(count, BLOCK)])
            if not got:
                raise ConnectionAbortedError("the client hung up in the middle of its body")
            count -= got
            yield buffer[:got]

    def _line(self) -> bytes:
        line = self._file.readline(_MAX_LINE)
        if not line.endswith(b"\n"):
            raise ConnectionAbortedError("the client hung up between two chunks")
        return line.strip()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
