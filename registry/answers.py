"""What a registry's answer means: capped bodies, error documents, typed errors."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from registry.dialing import ForbiddenAddress
from registry.errors import (
    Denied,
    DigestMismatch,
    NotFound,
    Refused,
    RegistryError,
    TagImmutable,
    Throttled,
    Transient,
    Unauthorized,
    Unreachable,
    Unsafe,
)
from registry.redact import redacted
from registry.retry_after import retry_after_s

MAX_ERROR_BYTES = 64 * 1024
_MAX_REASON = 300
_CODE = re.compile(r"[A-Z][A-Z0-9_]{1,63}")
_FULL = re.compile(r"\bquota\b", re.IGNORECASE)
_IMMUTABLE = re.compile(
    r"\bimmutab(le|ility)\b|\boperation is disallowed on this registry, repository or image\b", re.IGNORECASE
)
"""How ECR (400 TAG_INVALID), Harbor (412), Google (400 MANIFEST_INVALID) and others say that a tag stays
where it is; the last words are those of Azure, whose images are locked."""
_ABOUT_RULES = frozenset({400, 403, 405, 409, 412, 422})
_WRONG_BYTES = frozenset({"DIGEST_INVALID", "SIZE_INVALID"})
_BY_STATUS: dict[int, type[RegistryError]] = {
    401: Unauthorized,
    403: Denied,
    404: NotFound,
    408: Transient,
    425: Transient,
    501: Refused,
    505: Refused,
}
_REASONS: dict[type[RegistryError], str] = {
    Unauthorized: "the credentials are missing or wrong",
    Denied: "the credentials do not allow it",
    NotFound: "not there",
    Throttled: "the registry asks for patience",
    Transient: "the registry is unwell",
    DigestMismatch: "the registry got other bytes than promised",
}


class TooLarge(Exception):
    """A body is larger than its cap."""


def read_capped(response: httpx.Response, limit: int) -> bytes:
    """The whole body as it came, never inflated; TooLarge above ``limit`` bytes. Closes the response."""
    content = bytearray()
    try:
        for block in _blocks(response):
            content += block
            if len(content) > limit:
                raise TooLarge(f"more than {limit} bytes")
    finally:
        response.close()
    return bytes(content)


def kept(response: httpx.Response, limit: int = MAX_ERROR_BYTES) -> httpx.Response:
    """The same answer with its body in memory, cut at ``limit`` bytes, its connection given back.

    Content-Encoding goes: nothing a registry sends is ever inflated (design, section 7).
    """
    content = bytearray()
    try:
        for block in _blocks(response):
            content += block
            if len(content) >= limit:
                break
    finally:
        response.close()
    dropped = {b"content-encoding", b"transfer-encoding", b"content-length"}
    headers = [(k, v) for k, v in response.headers.raw if k.lower() not in dropped]
    return httpx.Response(response.status_code, headers=headers, content=bytes(content[:limit]))


def failure(end: str, what: str, response: httpx.Response) -> RegistryError:
    """The error that ``response``, an answer nobody hoped for, stands for. Reads and closes it."""
    status = response.status_code
    try:
        body = kept(response).content
    except httpx.HTTPError:
        body = b""  # the status alone says what to do; half a text would add nothing
    code, message = _error_document(body)
    kind = _kind(status, code, message)
    reason = message or _REASONS.get(kind) or f"the registry answered {status}"
    if kind is Throttled:
        return Throttled(end, what, reason, status, code, retry_after_s(response.headers))
    return kind(end, what, reason, status, code)


def translated(end: str, what: str, error: httpx.HTTPError) -> RegistryError:
    """A failure of the wire as the error of ``end``."""
    reason = redacted(str(error))[:_MAX_REASON] or type(error).__name__
    if isinstance(error, ForbiddenAddress):
        return Unsafe(end, what, reason)
    if isinstance(error, httpx.LocalProtocolError):
        return DigestMismatch(end, what, f"what was to be sent is not of its size: {reason}")
    if isinstance(error, httpx.UnsupportedProtocol):
        return Refused(end, what, reason)
    return Unreachable(end, what, reason)


@contextmanager
def wire_errors(end: str, what: str) -> Iterator[None]:
    """Turn failures of the wire into errors of ``end``."""
    try:
        yield
    except httpx.HTTPError as error:
        raise translated(end, what, error) from error


def json_object(content: bytes) -> dict[str, Any] | None:
    """The JSON object in ``content``, None where there is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _blocks(response: httpx.Response) -> Iterator[bytes]:
    stream = response.stream
    assert isinstance(stream, httpx.SyncByteStream)  # noqa: S101 - a type that httpx.Response cannot express
    yield from stream


def _kind(status: int, code: str | None, message: str) -> type[RegistryError]:
    if status == 429 or code == "TOOMANYREQUESTS":
        return Throttled
    if code in _WRONG_BYTES and status < 500:
        return DigestMismatch
    if code == "BLOB_UPLOAD_UNKNOWN":
        return Transient  # a session that was forgotten is worth a new one
    if status in _ABOUT_RULES and (_IMMUTABLE.search(message) or "IMMUTABLE" in (code or "")):
        return TagImmutable
    if status == 403 and _FULL.search(message):
        return Refused  # no other account would be given the room
    return _BY_STATUS.get(status) or (Transient if status >= 500 else Refused)


def _error_document(body: bytes) -> tuple[str | None, str]:
    """Code and message of the first error in the specification's document, or a plain text's first line."""
    document = json_object(body)
    if document is None:
        return None, _plain(body)
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else document
    code, message = first.get("code"), first.get("message")
    known = isinstance(code, str) and _CODE.fullmatch(code)
    return (str(code) if known else None), _clean(message if isinstance(message, str) else "")


def _plain(body: bytes) -> str:
    """Docker Hub's abuse limit answers one line of text; proxies answer pages, which nobody wants to read."""
    text = body.decode("utf-8", "replace").strip()
    return "" if text.startswith("<") else _clean(text.partition("\n")[0])


def _clean(text: str) -> str:
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_REASON])
    return redacted(printable)[:_MAX_REASON].strip()
