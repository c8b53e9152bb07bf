"""HTTP messages as bytes, read whole and passed on as they came: what a proxy can do harm to."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

LIMIT = 64 * 2**20


class Hangup(Exception):
    """The other side closed the connection; ``sent`` is what came of a message before."""

    def __init__(self, sent: bytes = b"") -> None:
        super().__init__("hung up")
        self.sent = sent


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer; ``head`` ends with the blank line, ``body`` is as framed on the wire."""

    head: bytes
    body: bytes = b""

    @property
    def start(self) -> list[str]:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    @property
    def method(self) -> str:
        return self.start[0]

    @property
    def path(self) -> str:
        return self.start[1]

    @property
    def status(self) -> int:
        return int(self.start[1])

    def header(self, name: str) -> str:
        """The header's value; empty where there is none."""
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode("latin-1").lower() == name.lower():
                return value.decode("latin-1").strip()
        return ""

    @property
    def closes(self) -> bool:
        return self.header("Connection").lower() == "close"

    def aimed_at(self, path: str) -> Message:
        """The same request for another path."""
        method, _, version = self.start
        rest = self.head.split(b"\r\n", 1)[1]
        return replace(self, head=f"{method} {path} {version}\r\n".encode("latin-1") + rest)

    def corrupted(self, at: int) -> Message:
        """The same with one byte of its body changed."""
        wrong = bytearray(self.body)
        wrong[at % len(wrong)] ^= 0xFF
        return replace(self, body=bytes(wrong))


async def read_request(stream: asyncio.StreamReader) -> Message | None:
    """The next request; None where the connection ended between two. Hangup with what came of it."""
    head = await _head(stream)
    if head is None:
        return None
    message = Message(head)
    return replace(message, body=await _body(stream, message, until_end=False))


async def read_answer(stream: asyncio.StreamReader, method: str) -> Message:
    """The answer to a request of that method; Hangup."""
    head = await _head(stream)
    if head is None:
        raise Hangup
    message = Message(head)
    if method == "HEAD" or message.status in {204, 304} or message.status < 200:
        return message
    return replace(message, body=await _body(stream, message, until_end=True))


async def _head(stream: asyncio.StreamReader) -> bytes | None:
    try:
        return await stream.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise Hangup(error.partial) from error
        return None


async def _body(stream: asyncio.StreamReader, message: Message, *, until_end: bool) -> bytes:
    try:
        if message.header("Transfer-Encoding").lower() == "chunked":
            return await _chunks(stream)
        if length := message.header("Content-Length"):
            return await stream.readexactly(int(length))
    except asyncio.IncompleteReadError as error:
        raise Hangup(message.head + error.partial) from error
    return await stream.read(LIMIT) if until_end and message.closes else b""


async def _chunks(stream: asyncio.StreamReader) -> bytes:
    whole = b""
    while True:
        size = await stream.readuntil(b"\r\n")
        chunk = await stream.readexactly(int(size.split(b";")[0], 16) + 2)
        whole += size + chunk
        if chunk == b"\r\n":
            return whole


def answer(status: int, reason: str, body: bytes = b"", **headers: str) -> bytes:
    """An answer of the proxy's own; underscores in header names stand for hyphens."""
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
