"""URLs of plain characters, put together without a parser.

httpx looks at every character of a URL, several times: parsing the Locations of uploads, which may be signed
and long, was an eighth of what a worker computed. What is put together here is what httpx would have
made of the same text (a test compares them); any text that is not that plain is httpx's to read.
"""

from __future__ import annotations

import re
from functools import lru_cache

import httpx

_PLAIN = re.compile(r"(/[A-Za-z0-9._~:@+=/-]*)(?:\?((?:[A-Za-z0-9._~:@+=/&-]|%[0-9A-Fa-f]{2})*))?")
_MAX_CHARS = 8192


@lru_cache(maxsize=256)
def origin_of(base_url: str) -> httpx.URL:
    """A registry's own address, parsed once."""
    return httpx.URL(base_url)


def at(base_url: str, target: str) -> httpx.URL:
    """``target``, a path from the root and perhaps a query, on the host of ``base_url``."""
    return plain_at(base_url, target) or httpx.URL(base_url + target)


def plain_at(base_url: str, target: str) -> httpx.URL | None:
    """As :func:`at`; None where ``target`` has to be parsed to know what it is."""
    return plain_in_place(origin_of(base_url), target)


def plain_in_place(url: httpx.URL, target: str) -> httpx.URL | None:
    """``url``, which has no fragment, with ``target`` instead of its path and query; else None."""
    match = _PLAIN.fullmatch(target) if len(target) <= _MAX_CHARS else None
    if match is None or match[1].startswith("//") or "/." in match[1]:
        return None
    placed = httpx.URL(url)
    # httpx has no way to say that a path and a query are in order as they are.
    placed._uri_reference = url._uri_reference._replace(path=match[1], query=match[2])  # noqa: SLF001
    return placed


def plain_of(base_url: str, location: str) -> httpx.URL | None:
    """``location`` where it is an absolute URL on exactly the host of ``base_url``, and plain; else None."""
    return plain_at(base_url, location[len(base_url) :]) if location.startswith(f"{base_url}/") else None
