"""Lists that come page by page: capped in bytes and in number, and never off the registry's own host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import httpx

from registry.answers import TooLarge, read_capped, wire_errors
from registry.errors import Unsafe
from registry.exchange import Call, Registry
from registry.locations import ForbiddenLocation, next_page

MAX_PAGES = 10_000


def linked_pages(registry: Registry, call: Call, max_bytes: int) -> Iterator[bytes]:
    """The body of every page from ``call`` on, as ``Link: …; rel="next"`` leads; one exchange a page.

    Raises Unsafe for a page above ``max_bytes``, for one on another host and for a chain without end.
    """
    visited: set[httpx.URL] = set()
    while True:
        visited.add(call.url)
        with registry.exchange(call) as response:
            content = read_page(registry, call, response, max_bytes)
            link = response.links.get("next", {}).get("url")
        yield content
        if not link:
            return
        url = _next(registry, call, link)
        if url in visited or len(visited) >= MAX_PAGES:
            raise Unsafe(registry.host, call.what, "its list has no end")
        call = replace(call, url=url)


def read_page(registry: Registry, call: Call, response: httpx.Response, max_bytes: int) -> bytes:
    try:
        with wire_errors(registry.host, call.what):
            return read_capped(response, max_bytes)
    except TooLarge as error:
        raise Unsafe(registry.host, call.what, f"a page of its list has {error}") from error


def _next(registry: Registry, call: Call, link: str) -> httpx.URL:
    try:
        return next_page(registry.endpoint, call.url, link)
    except ForbiddenLocation as error:
        raise Unsafe(registry.host, call.what, str(error)) from error
