"""Content that is known to be somewhere: manifests by digest, who holds which blob, who is copying it.

All of it is derived: losing it costs requests, never truth. Every key expires.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mirror.ledger import scripts
from mirror.ledger.keys import Client, Keys
from registry.manifest import Manifest

MANIFEST_TTL_S = 6 * 3600
REFERRERS_TTL_S = 7 * 86400
TURN_WAIT_S = 0.05
LEASE_MS = 60_000
"""A copy renews its lease far more often than this; one whose worker died is free after it."""


@dataclass(frozen=True, slots=True)
class Memory:
    """How long it is believed that a blob is where it was seen, in seconds."""

    present_s: int = 300
    """... without another look: content can be deleted behind our back."""
    mount_s: int = 86400
    """... as a place to mount from: a wrong hint costs nothing but a copy."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to be the one that brings a blob to a place just now; losing it is only wasteful."""

    place: str
    digest: str
    token: str


class Content:
    """What the fleet knows about content, shared by all its workers."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis = client
        self._keys = keys
        self._release, self._renew = (
            client.register_script(scripts.RELEASE),
            client.register_script(scripts.RENEW),
        )

    def manifest(self, digest: str) -> Manifest | None:
        """A manifest's bytes from the fleet's cache, parsed."""
        value: bytes | None = self._redis.get(self._keys.manifest(digest))
        if value is None:
            return None
        media_type, _, content = value.partition(b"\n")
        return Manifest.parse(content, media_type.decode(), digest.partition(":")[0])

    def keep_manifest(self, manifest: Manifest) -> None:
        self._redis.set(
            self._keys.manifest(manifest.digest),
            manifest.media_type.encode() + b"\n" + manifest.content,
            ex=MANIFEST_TTL_S,
        )

    def known(self, host: str, repository: str, digests: Iterable[str]) -> tuple[set[str], dict[str, str]]:
        """Of ``digests``: those seen in ``repository`` lately, and for the others where to mount from.

        ``host`` separates registries; a mount hint is the path of another repository of the same one.
        """
        wanted = list(digests)
        if not wanted:
            return set(), {}
        present = self._redis.mget([self._keys.present(host, repository, digest) for digest in wanted])
        holders = self._redis.mget([self._keys.holder(host, digest) for digest in wanted])
        here = {digest for digest, seen in zip(wanted, present, strict=True) if seen}
        return here, {
            digest: holder.decode()
            for digest, holder in zip(wanted, holders, strict=True)
            if holder and digest not in here and holder.decode() != repository
        }

    def saw(self, host: str, repository: str, digest: str, ttl: Memory) -> None:
        """Remember that ``repository`` holds the blob or manifest."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(self._keys.present(host, repository, digest), "1", ex=ttl.present_s)
        pipe.set(self._keys.holder(host, digest), repository, ex=ttl.mount_s)
        pipe.execute()

    def forget(self, host: str, repository: str, digests: Iterable[str]) -> None:
        """The registry denies having them: no longer believe what was remembered."""
        if names := [
            name
            for digest in digests
            for name in (self._keys.present(host, repository, digest), self._keys.holder(host, digest))
        ]:
            self._redis.delete(*names)

    def lease(self, place: str, digest: str) -> Lease | None:
        """The right to copy the blob to ``place`` (a registry host); None while another has it."""
        lease = Lease(place, digest, secrets.token_hex(8))
        taken = self._redis.set(self._keys.lease(place, digest), lease.token, nx=True, px=LEASE_MS)
        return lease if taken else None

    def renew(self, lease: Lease) -> None:
        self._renew([self._keys.lease(lease.place, lease.digest)], [lease.token, LEASE_MS])

    def release(self, lease: Lease) -> None:
        self._release([self._keys.lease(lease.place, lease.digest)], [lease.token])

    @contextlib.contextmanager
    def turn(self, place: str, what: str) -> Iterator[None]:
        """Wait for one's turn at something that only one worker may do at a time (at most LEASE_MS each)."""
        while (lease := self.lease(place, what)) is None:
            time.sleep(TURN_WAIT_S)
        try:
            yield
        finally:
            self.release(lease)

    def has_referrers(self, host: str) -> bool:
        """Whether referrers were ever seen at a registry."""
        return bool(self._redis.exists(self._keys.referrers_api(host)))

    def note_referrers(self, host: str) -> None:
        self._redis.set(self._keys.referrers_api(host), "1", ex=REFERRERS_TTL_S)

    def landed_referrers(self, repository: str, digest: str) -> set[str]:
        """Digests of the referrers of ``digest`` that this fleet has brought to ``repository``."""
        return {member.decode() for member in self._redis.smembers(self._keys.referrers(repository, digest))}

    def add_landed_referrers(self, repository: str, digest: str, referrers: Iterable[str]) -> None:
        if members := list(referrers):
            key = self._keys.referrers(repository, digest)
            self._redis.sadd(key, *members)
            self._redis.expire(key, REFERRERS_TTL_S)
