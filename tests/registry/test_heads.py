"""The head of an answer is read as the standard library reads it, however it is cut into packets."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from registry.heads import MAX_HEAD_BYTES, Answer

WELL_FORMED = {
    "length": b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\nETag: "a"\r\n\r\nbody',
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    "until the end": b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nbody",
    "closing": b"HTTP/1.1 200 OK\r\nconnection: Close\r\ncontent-length: 4\r\n\r\nbody",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    "old and kept": b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbody",
    "no reason": b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n",
    "no headers": b"HTTP/1.1 204 No Content\r\n\r\n",
    "unchanged": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    "continue": b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nLink: <a>;\r\n  rel=next\r\nContent-Length: 4\r\n\r\nbody",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 4\n\r\nbody",
    "many of a name": b"HTTP/1.1 200 OK\r\nLink: a\r\nLink: b\r\nContent-Length:4 \r\n\r\nbody",
    "latin-1": b"HTTP/1.1 200 \xfc\r\nX: \xfc\r\nContent-Length: 0\r\n\r\n",
}
MALFORMED = {
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody!",
    "length in words": b"HTTP/1.1 200 OK\r\nContent-Length: four\r\n\r\nbody",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +4\r\n\r\nbody",
    "coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nbody",
    "no colon": b"HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n",
    "folded at first": b"HTTP/1.1 200 OK\r\n X: y\r\n\r\n",
    "line feed ends the head": b"HTTP/1.1 200 OK\nContent-Length: 0\n\nbody\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "carriage return": b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 9\r\n\r\n",
    "version": b"HTTP/2.0 200 OK\r\n\r\n",
    "status": b"HTTP/1.1 20 OK\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "cut short": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n",
    "without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_HEAD_BYTES // 6) + b"\r\n",
    "continue without end": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 25 + 1),
}


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    near.settimeout(10)
    with near, far:
        yield near, far


def _send(far: socket.socket, packets: list[bytes]) -> None:
    with suppress(OSError):  # the reader has had enough
        for packet in packets:
            far.sendall(packet)
        far.shutdown(socket.SHUT_WR)


def _standard(answer: bytes) -> http.client.HTTPResponse:
    near, far = socket.socketpair()
    with near, far:
        _send(far, [answer])
        response = http.client.HTTPResponse(near, method="GET")
        response.begin()
        response.raw = response.read()  # type: ignore[attr-defined]
        return response


@pytest.mark.parametrize("packet", [1, 7, 10_000])
@pytest.mark.parametrize("answer", WELL_FORMED.values(), ids=WELL_FORMED.keys())
def test_a_head_means_what_the_standard_library_says(
    pair: tuple[socket.socket, socket.socket], answer: bytes, packet: int
) -> None:
    near, far = pair
    packets = [answer[start : start + packet] for start in range(0, len(answer), packet)]
    sender = threading.Thread(target=_send, args=(far, packets))
    sender.start()
    expected = _standard(answer)

    with Answer(near, "GET") as read:
        read.begin()

        assert (read.status, read.version) == (expected.status, expected.version)
        assert (read.length, read.chunked, read.will_close) == (
            len(expected.raw) if read.length is not None else None,  # type: ignore[attr-defined]
            expected.chunked,
            expected.will_close,
        )
        names = [(name.lower(), b" ".join(value.split())) for name, value in read.fields]
        assert names == [
            (name.lower().encode(), b" ".join(value.encode("latin-1").split()))
            for name, value in expected.headers.raw_items()
        ]
        assert read.read() == expected.raw  # type: ignore[attr-defined]
    sender.join()


@pytest.mark.parametrize("packet", [3, 1_000_000])
@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_head_that_can_be_read_in_two_ways_is_refused(
    pair: tuple[socket.socket, socket.socket], answer: bytes, packet: int
) -> None:
    near, far = pair
    packets = [answer[start : start + packet] for start in range(0, len(answer), packet)]
    sender = threading.Thread(target=_send, args=(far, packets))
    sender.start()

    with Answer(near, "GET") as read, pytest.raises(http.client.HTTPException):
        read.begin()

    near.close()
    sender.join()


def test_an_answer_to_head_has_no_body(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    _send(far, [b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"])

    with Answer(near, "HEAD") as read:
        read.begin()

        assert (read.length, read.will_close) == (0, False)
