"""The head of an HTTP/1.1 answer, taken in at once; its body is read as the standard library reads it.

``http.client`` hands heads to a parser made for mail, which costs more than all else that a small answer
needs. What two readers could read in two ways is refused here (RFC 9112, sections 5, 6 and 11).
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MAX_HEAD_BYTES = 100 * 1024
"""As httpcore: status line and headers together, interim answers included."""
_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n\0]*)?")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTINUE = 100


class TooLong(TimeoutError):
    """The answer comes, and takes longer than the whole of it may."""


class _Incoming(io.RawIOBase):
    """What a socket receives, asked for without the layers of ``makefile``: TLS brings 16 KiB at a time."""

    def __init__(self, sock: socket.socket, within_s: float | None) -> None:
        """``within_s``: from when on nothing is waited for, whatever the socket's own timeout."""
        super().__init__()
        self._sock = sock
        self._until = None if within_s is None else time.monotonic() + within_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            if self._until is not None:
                self._hurry(self._until - time.monotonic())
            if isinstance(self._sock, ssl.SSLSocket):
                return self._sock.read(len(memoryview(buffer)), buffer)  # type: ignore[return-value]
            return self._sock.recv_into(buffer)
        except TimeoutError as error:
            if self._until is not None and time.monotonic() >= self._until:
                raise TooLong("the answer takes too long") from error
            raise

    def _hurry(self, left_s: float) -> None:
        if left_s <= 0:
            raise TimeoutError
        usual_s = self._sock.gettimeout()
        self._sock.settimeout(left_s if usual_s is None else min(usual_s, left_s))


class Reader(io.BufferedReader):
    """Takes the end of the stream for what it is, where ``http.client`` takes it for the end of the head."""

    budget = MAX_HEAD_BYTES

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self.budget -= len(line)
        if self.budget < 0:
            raise http.client.HTTPException("the head or the framing of the answer has no end")
        if not line.endswith(b"\n") and (size is None or size < 0 or len(line) < size):
            raise http.client.HTTPException("the answer was cut short")
        return line

    def head(self) -> list[bytes]:
        """The lines up to the next empty one, without their ends. A bare LF ends a line, but not the head."""
        at_hand = self.peek(1)
        end = at_hand.find(_END) + len(_END)
        if end >= len(_END):
            self.budget -= end
            head = self.read(end)
        else:
            head = b"".join(iter(self._line_of_head, b"\r\n"))
        return [line.rstrip(b"\r") for line in head.rstrip(b"\r\n").split(b"\n")]

    def _line_of_head(self) -> bytes:
        line = self.readline()
        if line == b"\n":
            raise http.client.HTTPException("malformed header")
        return line


class Answer(http.client.HTTPResponse):
    """An answer whose head is read by :meth:`begin`."""

    fields: list[tuple[bytes, bytes]]
    """Name and value of each header as they were sent."""

    def __init__(self, sock: socket.socket, method: str, within_s: float | None = None) -> None:
        super().__init__(sock, method=method)
        self.fp.close()
        self.fp = self.reader = Reader(_Incoming(sock, within_s))
        self._is_headless = method == "HEAD"

    def begin(self) -> None:
        """Read the head. OSError, or ``http.client.HTTPException`` for what no reader should accept."""
        minor, status, lines = self._final_head()
        self.code = self.status = status
        self.version = 10 + minor
        self.fields = _fields(lines)
        framing = _Framing.of(self.fields)
        if framing.codings not in ([], [b"chunked"]):
            raise http.client.HTTPException("a transfer coding that was not asked for")
        length = _content_length(framing.lengths)
        self.chunked = bool(framing.codings)
        self.chunk_left = None
        if self._is_headless or status in {204, 304}:
            self.length = 0
        else:
            self.length = None if self.chunked else length
        closes = b"close" in framing.connection or (minor == 0 and b"keep-alive" not in framing.connection)
        self.will_close = closes or (self.length is None and not self.chunked)

    def _final_head(self) -> tuple[int, int, list[bytes]]:
        """HTTP's minor version, the status and the header lines of the first answer that is not interim."""
        while True:
            start, *lines = self.reader.head()
            matched = _STATUS.fullmatch(start)
            if not matched:
                raise http.client.BadStatusLine(start[:80].decode("latin-1"))
            status = int(matched[2])
            if status >= 200:
                return int(matched[1]), status, lines
            if status != _CONTINUE:
                raise http.client.HTTPException(f"unexpected interim answer {status}")


class _Framing(NamedTuple):
    """What the headers say about where the body ends and whether the connection does, in lower case."""

    lengths: list[bytes]
    codings: list[bytes]
    connection: bytes

    @classmethod
    def of(cls, fields: list[tuple[bytes, bytes]]) -> _Framing:
        said: dict[bytes, list[bytes]] = {b"content-length": [], b"transfer-encoding": [], b"connection": []}
        for name, value in fields:
            values = said.get(name.lower())
            if values is not None:
                values.append(value.lower())
        return cls(said[b"content-length"], said[b"transfer-encoding"], b",".join(said[b"connection"]))


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if b"\0" in line or b"\r" in line:
            raise http.client.HTTPException("malformed header")
        if colon and _TOKEN.fullmatch(name):
            fields.append((name, value.strip(b" \t")))
        elif fields and line.startswith((b" ", b"\t")):
            name, value = fields[-1]  # obs-fold (RFC 9112, section 5.2)
            fields[-1] = (name, value + b" " + line.strip())
        else:
            raise http.client.HTTPException("malformed header")
    return fields


def _content_length(said: list[bytes]) -> int | None:
    if len(set(said)) > 1 or not all(text.isdigit() for text in said):
        raise http.client.HTTPException("malformed Content-Length")
    return int(said[0]) if said else None
