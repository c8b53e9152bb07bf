"""Requests put straight into a transport, without a client around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from registry.dialing import AddressGuard
from registry.transport import VIEWS

TIMEOUTS = {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0}
LOOPBACK_IS_FINE = AddressGuard(frozenset({"127.0.0.1", "localhost"}))


@dataclass(frozen=True, slots=True)
class Stream(httpx.SyncByteStream):
    """A request body from a function, read once."""

    chunks: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[bytes]:
        return self.chunks()


def request(method: str, url: str, body: Stream | None = None, **extensions: Any) -> httpx.Request:
    headers = {"Host": httpx.URL(url).netloc.decode()}
    if length := extensions.pop("length", None):
        headers["Content-Length"] = str(length)
    if extensions.pop("views", False):
        extensions[VIEWS] = True
    return httpx.Request(
        method,
        url,
        headers=headers,
        stream=body or Stream(lambda: iter(())),
        extensions={"timeout": TIMEOUTS | extensions.pop("timeout", {}), **extensions},
    )


def fetch(
    transport: httpx.BaseTransport, url: str, method: str = "GET", **extensions: Any
) -> tuple[int, bytes]:
    response = transport.handle_request(request(method, url, **extensions))
    try:
        assert isinstance(response.stream, httpx.SyncByteStream)
        return response.status_code, b"".join(bytes(block) for block in response.stream)
    finally:
        response.close()


def upload(transport: httpx.BaseTransport, url: str, *chunks: bytes, length: int) -> int:
    answer = transport.handle_request(request("PUT", url, Stream(lambda: iter(chunks)), length=length))
    answer.close()
    return answer.status_code
