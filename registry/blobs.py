"""Reading a blob's answer: the range that was asked for, no more bytes and no fewer than promised."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx

from registry.answers import wire_errors
from registry.descriptor import Descriptor
from registry.errors import DigestMismatch, Refused

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")


def bytes_to_skip(end: str, what: str, response: httpx.Response, blob: Descriptor, offset: int) -> int:
    """How far the answer's body starts before ``offset``; a registry may ignore a Range and send it all.

    Raises Refused for a range nobody asked for, DigestMismatch where the announced length is not the blob's.
    """
    skip = offset
    if response.status_code == 206:
        text = response.headers.get("content-range", "")
        match = _CONTENT_RANGE.fullmatch(text)
        if not match or (int(match[1]), int(match[2])) != (offset, blob.size - 1):
            raise Refused(end, what, f"asked for bytes {offset}-{blob.size - 1}, it sends {text[:80]!r}", 206)
        skip = 0
    length = response.headers.get("content-length")
    expected = blob.size - offset + skip
    if length is not None and length != str(expected):
        raise DigestMismatch(end, what, f"{length[:20]} bytes instead of {expected}")
    return skip


def blob_blocks(
    end: str, what: str, response: httpx.Response, expected: int, skip: int
) -> Iterator[bytes | memoryview]:
    """Blocks of the body after ``skip`` bytes; ``expected`` bytes, or DigestMismatch.

    Consumed inside the other end's upload, which would otherwise take the blame for a broken download: so
    failures of this end are translated here.
    """
    left = expected
    for block in _wire_blocks(end, what, response):
        rest = memoryview(block)[skip:] if skip else block
        skip -= len(block) - len(rest)
        left -= len(rest)
        if left < 0:
            raise DigestMismatch(end, what, f"more than the {expected} bytes that were promised")
        if len(rest):
            yield rest
    if left:
        raise DigestMismatch(end, what, f"{left} bytes less than promised")


def _wire_blocks(end: str, what: str, response: httpx.Response) -> Iterator[bytes]:
    stream = response.stream
    assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - a type that httpx.Response cannot express
    with wire_errors(end, what):
        yield from stream
