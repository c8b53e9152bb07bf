"""Content that is known to be somewhere: manifests by digest, who holds which blob.

All of it is derived: losing it costs requests, never truth. Every key expires.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mirror.ledger.keys import Client, Keys
from mirror.ledger.leases import Leases
from registry.manifest import Manifest

MANIFEST_TTL_S = 6 * 3600
REFERRERS_TTL_S = 7 * 86400


@dataclass(frozen=True, slots=True)
class Memory:
    """How long it is believed that a blob is where it was seen, in seconds."""

    present_s: int = 300
    """... without another look: content can be deleted behind our back."""
    mount_s: int = 86400
    """... as a place to mount from: a wrong hint costs nothing but a copy."""


class Content:
    """What the fleet knows about content, shared by all its workers."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis = client
        self._keys = keys
        self.leases = Leases(client, keys)

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
