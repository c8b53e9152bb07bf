"""An HTTP server at the wire, for what no real server does on demand: cuts, lies, silence, extra bytes.

Written on bare sockets: an HTTP library would repair the very faults that tests are about.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from tests.support.ports import LOOPBACK

REASON = "As Scripted"
_JOIN_S = 5.0


class HungUp(Exception):
    """The script ended the connection."""


@dataclass(slots=True)
class Call:
    """One request, and the means to answer it; ``connection`` counts the server's connections from 1."""

    method: str
    target: str
    headers: dict[str, str]
    connection: int
    _sock: socket.socket = field(repr=False)
    _file: Any = field(repr=False)
    _body: bytes | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    def body(self) -> bytes:
        """The whole request body; shorter than announced if the client hung up."""
        if self._body is None:
            length = int(self.headers.get("content-length", "0"))
            self._body = bytes(self._file.read(length))
        return self._body

    def answer(
        self, status: int = 200, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """A proper answer; ``headers`` may override Content-Length."""
        content = body.encode() if isinstance(body, str) else body
        lines = {"Content-Length": str(len(content)), **(headers or {})}
        head = f"HTTP/1.1 {status} {REASON}\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items())
        self.send(head.encode("latin-1") + b"\r\n" + (b"" if self.method == "HEAD" else content))

    def send(self, raw: bytes) -> None:
        """Bytes as they are."""
        self._sock.sendall(raw)

    def hang_up(self, *, reset: bool = False) -> None:
        """End the connection; ``reset`` throws away what is still under way."""
        if reset:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise HungUp


Script = Callable[[Call], None]


def answering(status: int = 200, body: bytes | str = b"", headers: Mapping[str, str] | None = None) -> Script:
    """A script that reads every call to its end and gives it this answer."""

    def script(call: Call) -> None:
        call.body()
        call.answer(status, body, headers)

    return script


def routed(routes: Mapping[tuple[str, str], Script]) -> Script:
    """Scripts by method and path (without query); everything else is 404."""

    def script(call: Call) -> None:
        routes.get((call.method, call.path), answering(404))(call)

    return script


def in_turn(*scripts: Script) -> Script:
    """One script after the other; the last one stays."""
    left = list(scripts)

    def script(call: Call) -> None:
        this = left.pop(0) if len(left) > 1 else left[0]
        this(call)

    return script


def silent_until(event: threading.Event) -> Script:
    """A script that neither reads nor answers until ``event``, and hangs up then."""

    def script(call: Call) -> None:
        event.wait(_JOIN_S)
        call.hang_up()

    return script


class Wire:
    """The server, on a free loopback port; ``script`` answers every call and may be exchanged."""

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self._tls = tls
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def host(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    def asked(self) -> list[tuple[str, str]]:
        """Method and target of every call so far."""
        return [(call.method, call.target) for call in self.calls]

    def drop_connections(self) -> None:
        """End every open connection, as a server does that lost patience with idle ones."""
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            _shut(sock)

    def close(self) -> None:
        """Stop; raises what went wrong inside a script."""
        _shut(self._listener)
        self._listener.close()
        self.drop_connections()
        for thread in self._threads:
            thread.join(_JOIN_S)
        if self.failures:
            raise self.failures[0]

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, sock, self.connections)

    def _serve(self, raw: socket.socket, number: int) -> None:
        with self._lock:
            self._open.add(raw)
        sock = raw
        try:
            if self._tls:
                sock = self._tls.wrap_socket(raw, server_side=True)
                with self._lock:
                    self._open.add(sock)
            with sock.makefile("rb") as file:
                while call := _read_call(sock, file, number):
                    self.calls.append(call)
                    self.script(call)
                    call.body()
        except (OSError, HungUp):
            pass  # the client or the script ended it
        except BaseException as error:  # noqa: BLE001 - shown to the test at close
            self.failures.append(error)
        finally:
            sock.close()
            with self._lock:
                self._open -= {raw, sock}


def _read_call(sock: socket.socket, file: Any, number: int) -> Call | None:
    first = file.readline()
    if not first:
        return None
    method, target, _ = first.decode("latin-1").split(" ", 2)
    headers: dict[str, str] = {}
    while (line := file.readline()) not in {b"\r\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return Call(method, target, headers, number, sock, file)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):  # it may have ended by itself
        sock.shutdown(socket.SHUT_RDWR)
