"""What a manifest reaches, children before parents: the order in which a target can take it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from registry.descriptor import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    MANIFEST_TYPES,
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_LAYER,
    Descriptor,
    Platform,
)
from registry.manifest import Manifest

MAX_DEPTH = 4
"""Indexes on one path (design, section 7, rule 6)."""
MAX_MANIFESTS = 2000
MAX_BYTES = 64 * 2**20
MOST_NAMED, LONGEST_NAME = 16, 40
"""Of platforms, for people."""
"""All manifests of one graph together: bounds a worker's memory (G10)."""

BUILDKIT_CACHE = "application/vnd.buildkit.cacheconfig.v0"
_ATTESTATION = ("vnd.docker.reference.type", "attestation-manifest")
_ATTESTED = "vnd.docker.reference.digest"
_UNKNOWN = Platform("unknown", "unknown")
_BLOB_TYPES = frozenset({OCI_CONFIG, OCI_EMPTY, DOCKER_CONFIG, DOCKER_LAYER, BUILDKIT_CACHE})

Fetch = Callable[[Descriptor], Manifest]


class GraphError(ValueError):
    """The graph cannot be copied as it is; the text says which content is to blame and why."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything a target must hold for ``root`` to be whole."""

    root: Manifest
    manifests: tuple[Manifest, ...]
    """Children first, each once, ``root`` last."""
    blobs: tuple[Descriptor, ...]
    """To be copied: configs and layers, each digest once, in the order of first use."""
    left_out: tuple[Descriptor, ...] = ()
    """Children of indexes that the wished platforms leave out."""
    foreign: tuple[Descriptor, ...] = ()
    """Layers that live elsewhere by their own account and are not copied; none is in ``blobs``."""

    @property
    def platforms_left_out(self) -> tuple[str, ...]:
        """Each once, as people write it; of very many, or very long, the beginning."""
        named = (child.platform for child in self.left_out)
        names = dict.fromkeys(str(one)[:LONGEST_NAME] for one in named if one and one != _UNKNOWN)
        return tuple(names)[:MOST_NAMED]

    @property
    def size(self) -> int:
        """Bytes of ``blobs`` and ``manifests``."""
        return sum(blob.size for blob in self.blobs) + sum(manifest.size for manifest in self.manifests)


def walk(root: Manifest, fetch: Fetch, platforms: tuple[str, ...] = ()) -> Graph:
    """Walk from ``root``; ``fetch`` is asked once for each digest, its answers are held to their descriptor.

    ``platforms`` (``os/architecture[/variant]``; none: all) narrows what indexes reach: an attestation
    goes with the image it is about, a child that names no platform is kept. An image manifest as ``root``
    is kept whatever its platform, which only its config knows.

    Raises GraphError for content that contradicts its descriptor, unknown kinds, too deep or too large
    graphs, and an index none of whose platforms is wished for; whatever ``fetch`` raises passes through.
    """
    wanted = tuple(_normal(Platform.parse(text)) for text in platforms)
    walker = _Walk(fetch, wanted)
    walker.visit(root, depth=1)
    if wanted and walker.platforms and not walker.matched:
        offered = ", ".join(sorted({str(platform) for platform in walker.platforms}))
        raise GraphError(f"no image for {', '.join(platforms)}; there is {offered}")
    blobs = {blob.digest: blob for blob in reversed(walker.blobs) if not is_foreign(blob)}
    first_use = dict.fromkeys(blob.digest for blob in walker.blobs)
    foreign = {blob.digest: blob for blob in walker.blobs if blob.digest not in blobs}
    return Graph(
        root,
        tuple(walker.done.values()),
        tuple(blobs[digest] for digest in first_use if digest in blobs),
        tuple(child for digest, child in walker.left_out.items() if digest not in walker.done),
        tuple(foreign.values()),
    )


def is_foreign(blob: Descriptor) -> bool:
    """Whether a layer is to be had elsewhere: by its ``urls``, or as its kind forbids distribution."""
    return bool(blob.urls) or "foreign" in blob.media_type or "nondistributable" in blob.media_type


@dataclass(slots=True)
class _Walk:
    fetch: Fetch
    wanted: tuple[Platform, ...]
    done: dict[str, Manifest] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    blobs: list[Descriptor] = field(default_factory=list)
    left_out: dict[str, Descriptor] = field(default_factory=dict)
    platforms: set[Platform] = field(default_factory=set)
    matched: bool = False
    bytes: int = 0

    def visit(self, manifest: Manifest, depth: int) -> None:
        self.open.add(manifest.digest)
        self._count(manifest)
        for child in self._kept(manifest):
            if child.digest in self.open:
                raise GraphError(f"{manifest.digest} is its own descendant")
            if not child.is_manifest:
                self.blobs.append(_blob(child, manifest))
            elif child.digest not in self.done:
                if depth == MAX_DEPTH and child.is_index:
                    raise GraphError(f"{child.digest}: indexes nested more than {MAX_DEPTH} deep")
                self.visit(_checked(self.fetch(child), child), depth + 1)
        self.blobs += manifest.blobs
        self.open.discard(manifest.digest)
        self.done[manifest.digest] = manifest

    def _count(self, manifest: Manifest) -> None:
        self.bytes += manifest.size
        if len(self.done) + len(self.open) > MAX_MANIFESTS or self.bytes > MAX_BYTES:
            raise GraphError(
                f"more than {MAX_MANIFESTS} manifests or {MAX_BYTES // 2**20} MiB of them under one tag"
            )

    def _kept(self, manifest: Manifest) -> Iterable[Descriptor]:
        """The children that the wished platforms want, in the index's order."""
        if not self.wanted:
            return manifest.children
        images = {child.digest for child in manifest.children if not _attests(child) and self._wants(child)}
        kept: list[Descriptor] = []
        for child in manifest.children:
            about = _attests(child)
            if (about or child.digest) in images:
                kept.append(child)
            else:
                self.left_out.setdefault(child.digest, child)
        return kept

    def _wants(self, child: Descriptor) -> bool:
        platform = child.platform
        if platform is None or platform == _UNKNOWN:
            return True
        self.platforms.add(platform)
        wanted = any(wish.covers(_normal(platform)) for wish in self.wanted)
        self.matched |= wanted
        return wanted


def _attests(child: Descriptor) -> str | None:
    """The digest of the image that buildkit's attestation ``child`` is about; None for anything else."""
    return dict(child.annotations).get(_ATTESTED) if _ATTESTATION in child.annotations else None


def _blob(child: Descriptor, index: Manifest) -> Descriptor:
    """An index's child that is a blob: buildkit's registry cache lists layers so, and registries agree."""
    kind = child.media_type
    if kind in _BLOB_TYPES or kind.startswith(OCI_LAYER) or is_foreign(child):
        return child
    raise GraphError(
        f"{index.digest} lists {child.digest} of unknown kind {kind!r}; "
        f"an index may list {', '.join(sorted(MANIFEST_TYPES))}"
    )


def _checked(manifest: Manifest, promised: Descriptor) -> Manifest:
    for name, got, wanted in (
        ("digest", manifest.digest, promised.digest),
        ("size", manifest.size, promised.size),
        ("media type", manifest.media_type, promised.media_type),
    ):
        if got != wanted:
            raise GraphError(f"{promised.digest}: its index promises {name} {wanted}, it has {got}")
    return manifest


def _normal(platform: Platform) -> Platform:
    """``linux/arm64/v8`` and ``linux/arm64`` are the same (containerd's platforms.Normalize)."""
    if platform.architecture == "arm64" and platform.variant == "v8":
        return Platform(platform.os, platform.architecture)
    return platform
