"""One HTTP/1.1 connection over a blocking socket: a request out, its answer's head in, the body by blocks.

Bodies are read by the standard library's ``http.client``, heads by :mod:`registry.heads`; what it lets pass
and a mirror must not (a body cut short) is refused around it.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx

from registry.dialing import ORDERLY
from registry.heads import Answer, Reader, TooLong
from registry.repository import BLOCK

_MAX_FRAMING_BYTES = 8 * BLOCK
"""Chunk sizes and trailers around one block of a chunked body."""
_EARLY_ANSWER_S = 5.0
_INTERIM = b"HTTP/1.1 100"
_ILLEGAL = re.compile(rb"[\r\n\0]")

Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Phases:
    """Seconds of silence allowed in each phase; None waits for ever. As httpx's ``timeout`` extension."""

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None
    whole: float | None = None
    """For all of the answer."""

    @classmethod
    def of(cls, request: httpx.Request) -> Phases:
        given = request.extensions.get("timeout") or {}
        return cls(*(given.get(phase) for phase in ("connect", "read", "write", "pool", "whole")))


class NoAnswer(Exception):
    """The connection was dead before the first byte of an answer; ``error`` is what the caller is told."""

    def __init__(self, error: httpx.TransportError) -> None:
        super().__init__(str(error))
        self.error = error


class _Unsent(Exception):
    """The peer took no more of the request; it may have answered early."""

    def __init__(self, error: httpx.TransportError) -> None:
        super().__init__(str(error))
        self.error = error


class Connection:
    """A connected socket to ``origin``; used by one thread at a time."""

    def __init__(self, origin: Origin, sock: socket.socket) -> None:
        self.origin = origin
        self._sock = sock
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)
        self._idle_since = 0.0
        self._response: Answer | None = None

    def close(self) -> None:
        """An orderly end, where no exchange is under way."""
        with contextlib.suppress(OSError):
            self._sock.setsockopt(*ORDERLY)
        self.abandon()

    def abandon(self) -> None:
        """End it in the middle: what the other end has not received it never will."""
        if self._response is not None:
            self._response.close()  # what reads from the socket keeps it open
        self._sock.close()

    def rest(self) -> None:
        self._idle_since = time.monotonic()

    def is_usable(self, max_idle_s: float) -> bool:
        """Whether nothing came while it was idle: neither the peer's goodbye nor bytes nobody asked for."""
        if time.monotonic() - self._idle_since > max_idle_s:
            return False
        pending = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return not pending and not self._poller.poll(0)

    def exchange(self, request: httpx.Request, length: int, timeouts: Phases) -> Answer:
        """Send ``request`` with its ``length`` bytes of body; return the answer, its body still unread.

        A server that refuses an upload answers before it has read it all: the rest is then kept back.
        Whatever the body's iterator raises propagates unchanged. Raises NoAnswer or httpx.TransportError; the
        connection is then good for nothing.
        """
        self._response = response = Answer(self._sock, request.method, timeouts.whole)
        self._sock.settimeout(timeouts.write)
        try:
            self._send(request_head(request))
            for block in counted(request.stream, length):
                if self._has_answer(response.reader, timeouts.write):
                    return self._early(response, httpx.WriteError("the server stopped reading"))
                self._send(block)
        except _Unsent as unsent:
            return self._early(response, unsent.error)
        return self._read_head(response, timeouts.read)

    def _send(self, data: bytes | memoryview) -> None:
        """All of it; the timeout is for each part that the peer takes, where ``sendall`` has one for all."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._sock.send(left) :]
        except TimeoutError as error:
            raise _Unsent(httpx.WriteTimeout("the server takes no more bytes")) from error
        except OSError as error:
            raise _Unsent(httpx.WriteError(f"the connection broke while sending: {error}")) from error

    def _has_answer(self, reader: Reader, timeout_s: float | None) -> bool:
        """Whether an answer, not only an interim one, is there before the body was sent.

        This also takes in TLS session tickets: unread, they would bar an answer after a failed write.
        """
        if not self._poller.poll(0):
            return False
        self._sock.settimeout(0)
        try:
            begun = reader.peek(1)[: len(_INTERIM)]
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True  # reading the answer says what it is
        finally:
            self._sock.settimeout(timeout_s)
        return bool(begun) and not _INTERIM.startswith(begun)

    def _early(self, response: Answer, unsent: httpx.TransportError) -> Answer:
        """The answer of a server that takes no more of the request: it says more than a broken pipe."""
        try:
            self._read_head(response, _EARLY_ANSWER_S)
        except NoAnswer as error:
            raise NoAnswer(unsent) from error
        except httpx.TransportError as error:
            raise unsent from error
        response.will_close = True
        return response

    def _read_head(self, response: Answer, timeout_s: float | None) -> Answer:
        self._sock.settimeout(timeout_s)
        try:
            if not response.reader.peek(1):
                raise NoAnswer(httpx.RemoteProtocolError("the server hung up without an answer"))
        except TimeoutError as error:
            raise httpx.ReadTimeout("no answer in time") from error
        except OSError as error:
            raise NoAnswer(httpx.ReadError(f"the connection broke before an answer: {error}")) from error
        _translated(response.begin)
        return response


class Body(httpx.SyncByteStream):
    """The body of one answer, once; ``done`` is told, once, whether the connection can be used again."""

    def __init__(
        self, response: Answer, *, reuse: bool, done: Callable[[bool], None], block: int = BLOCK
    ) -> None:
        """With ``reuse`` every block is a view of one buffer, which the next block overwrites."""
        self._block = block
        self._response = response
        self._reuse = reuse
        self._done = done
        self._is_open = True
        self._finish_if_read()

    def __iter__(self) -> Iterator[bytes]:
        """Blocks of at most ``block`` bytes; httpx.ReadError or its kin where the body is cut short."""
        length = self._response.length
        view = memoryview(bytearray(self._block if length is None else min(self._block, length)))
        while self._is_open and (count := self._fill(view)):
            self._finish_if_read()
            block = view[:count]
            # httpx types a block as bytes; only callers that asked for views get one.
            yield block if self._reuse else bytes(block)  # type: ignore[misc]
        self._finish(reusable=not self._response.will_close)

    def close(self) -> None:
        self._finish(reusable=False)

    def _fill(self, view: memoryview) -> int:
        response = self._response
        wanted = 1 if response.length is None else min(len(view), response.length)
        if isinstance(response.fp, Reader):
            response.fp.budget = _MAX_FRAMING_BYTES
        try:
            count = _translated(lambda: response.readinto(view))
        except BaseException:
            self._finish(reusable=False)
            raise
        if response.length is not None and count < wanted:
            self._finish(reusable=False)
            raise httpx.RemoteProtocolError("the body was cut short")
        return count

    def _finish_if_read(self) -> None:
        """Give the connection back with the last byte: who holds the last block may be busy with it."""
        if self._response.length == 0:
            self._finish(reusable=not self._response.will_close)

    def _finish(self, *, reusable: bool) -> None:
        if self._is_open:
            self._is_open = False
            self._response.close()
            self._done(reusable)


def body_length(request: httpx.Request) -> int:
    """Content-Length, 0 where there is none: this transport sends no chunked bodies."""
    if "transfer-encoding" in request.headers:
        raise httpx.LocalProtocolError("a request body needs a Content-Length")
    return int(request.headers.get("content-length", "0"))


def request_head(request: httpx.Request) -> bytes:
    """The request line and headers as bytes; httpx.LocalProtocolError where a value would break out."""
    lines = [
        b"%s %s HTTP/1.1" % (request.method.encode("ascii"), request.url.raw_path),
        *(b"%s: %s" % pair for pair in request.headers.raw),
    ]
    if any(_ILLEGAL.search(line) for line in lines):
        raise httpx.LocalProtocolError("a header with a line break")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def counted(stream: httpx.SyncByteStream | httpx.AsyncByteStream, length: int) -> Iterator[memoryview]:
    """A request's body in blocks a timeout can be set on.

    Raises httpx.LocalProtocolError unless it has ``length`` bytes.
    """
    assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - a type that httpx.Request cannot express
    left = length
    for chunk in stream:
        left -= len(chunk)
        if left < 0:
            raise httpx.LocalProtocolError("the body is longer than its Content-Length")
        view = memoryview(chunk)
        for start in range(0, len(view), BLOCK):
            yield view[start : start + BLOCK]
    if left:
        raise httpx.LocalProtocolError("the body is shorter than its Content-Length")


def _translated(read: Callable[[], int | None]) -> int:
    """Run ``read``; its failures as httpx spells them."""
    try:
        return read() or 0
    except TooLong as error:
        raise httpx.ReadTimeout(str(error)) from error
    except TimeoutError as error:
        raise httpx.ReadTimeout("silence in the middle of an answer") from error
    except OSError as error:
        raise httpx.ReadError(f"the connection broke in the middle of an answer: {error}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise httpx.RemoteProtocolError(f"malformed answer: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return "cut short"
    return str(error)[:200] or type(error).__name__
