"""Manifests by digest, from the fleet's cache or, once for the whole fleet, from the source."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.engine import Engine
from mirror.graph import Graph, walk
from mirror.ledger.leases import TURN_WAIT_S, Lease
from registry.descriptor import Descriptor, is_digest
from registry.manifest import Manifest
from registry.repository import Source


@dataclass(frozen=True, slots=True)
class Manifests:
    """One source repository's manifests; what was read once is in the ledger's cache for everyone."""

    engine: Engine
    source: Source

    def get(self, digest: str) -> Manifest:
        """The manifest's bytes, verified; any RegistryError of the source.

        Whoever else needs it at the same time, in any region, waits for the one who reads it.
        """
        content = self.engine.ledger.content
        found: Manifest | Lease | None = content.manifest(digest)
        while not isinstance(found, Manifest):
            found = content.begin_reading(digest)
            if found is None:
                self.engine.patience.wait(TURN_WAIT_S)
            elif not isinstance(found, Manifest):
                found = self._read(digest, found)
        return found

    def _read(self, digest: str, lease: Lease) -> Manifest:
        content = self.engine.ledger.content
        try:
            read = self.engine.patience.attempt(lambda: self.source.manifest(digest))
        except BaseException:
            content.leases.release(lease)
            raise
        content.end_reading(lease, read)
        return read

    def named(self, tag_or_digest: str) -> Manifest:
        """The same for a tag: by a HEAD, which nobody counts, and its digest."""
        if is_digest(tag_or_digest):
            return self.get(tag_or_digest)
        return self.get(self.engine.patience.attempt(lambda: self.source.resolve(tag_or_digest)).digest)

    def graph(self, digest: str, platforms: tuple[str, ...] = ()) -> Graph:
        """Everything the digest reaches; GraphError where it is not what it claims to be."""
        return walk(self.get(digest), self._child, platforms)

    def _child(self, descriptor: Descriptor) -> Manifest:
        return self.get(descriptor.digest)
