"""Manifests by digest, from the fleet's cache or, once for the whole fleet, from the source."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.engine import Engine
from mirror.graph import Graph, walk
from registry.descriptor import Descriptor, is_digest
from registry.manifest import Manifest
from registry.repository import Repository


@dataclass(frozen=True, slots=True)
class Manifests:
    """One source repository's manifests; what was read once is in the ledger's cache for everyone."""

    engine: Engine
    source: Repository

    def get(self, digest: str) -> Manifest:
        """The manifest's bytes, verified; any RegistryError of the source."""
        cached = self.engine.ledger.content.manifest(digest)
        if cached is not None:
            return cached
        manifest = self.engine.patience.attempt(lambda: self.source.manifest(digest))
        self.engine.ledger.content.keep_manifest(manifest)
        return manifest

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
