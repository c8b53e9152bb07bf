"""What uploads have in common, whole or in pieces: where they may go, and how they end."""

from __future__ import annotations

import httpx

from registry.descriptor import Descriptor, is_digest
from registry.errors import DigestMismatch, Unsafe
from registry.exchange import Call, Content, Outgoing, Registry
from registry.locations import ForbiddenLocation, upload_location, with_query
from registry.repository import Upload
from registry.urls import origin_of

OCTETS = ("Content-Type", "application/octet-stream")
"""Also for an empty body: registries parse one of another type as a form."""


def upload_url(
    registry: Registry, location: str, what: str, current: httpx.URL | None = None
) -> tuple[httpx.URL, bool]:
    """Where an upload continues, and whether that is the registry itself; Unsafe where it must not go."""
    try:
        return upload_location(registry.endpoint, current or origin_of(registry.base), location)
    except ForbiddenLocation as error:
        raise Unsafe(registry.host, what, str(error)) from error


def end_upload(
    registry: Registry,
    upload: Upload,
    blob: Descriptor,
    what: str,
    scopes: tuple[str, ...],
    body: Content | Outgoing,
) -> None:
    """The PUT that makes a blob of a session, with the bytes that it still lacks in ``body``."""
    url, is_own = upload_url(registry, upload.location, what)
    target = with_query(url, f"digest={blob.digest}")
    accepted = frozenset({201, 204})
    call = Call("PUT", "upload", target, what, scopes, (OCTETS,), body, accepted, is_own)
    with registry.exchange(call) as response:
        check_stored(registry.host, what, response, blob.digest)


def check_stored(host: str, what: str, response: httpx.Response, digest: str) -> None:
    """A registry that says which digest it stored must have stored this one: else DigestMismatch."""
    if contradicts(response.headers.get("docker-content-digest", ""), digest):
        raise DigestMismatch(host, what, "the registry stored other bytes than were sent")


def contradicts(stated: str, digest: str) -> bool:
    """Whether ``stated`` is another digest of the same algorithm."""
    same_algorithm = stated.partition(":")[0] == digest.partition(":")[0]
    return is_digest(stated) and same_algorithm and stated != digest
