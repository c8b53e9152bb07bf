"""What a tag promises to be in a target, part by part, and what is wrong with a part, in words. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mirror.graph import Graph
from mirror.ledger.batches import Associate
from registry.descriptor import Platform

MOST_SAID = 3
_UNKNOWN = Platform("unknown", "unknown")
Companion = tuple[Associate, Graph]
"""A referrer, or what a digest tag names, and everything that it reaches."""


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that has to be in the target."""

    kind: Literal["manifest", "blob", "tag", "listed"]
    """``tag``: a digest tag is at its digest; ``listed``: a referrer is found by asking for its subject."""
    digest: str
    name: str
    """What people call it, its digest included."""
    size: int = 0
    """Bytes, of manifests and blobs."""
    at: str = ""
    """The tag, or the subject."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One part that is not as it should be."""

    part: Part
    text: str
    is_there: bool = False
    """The registry has something under that digest, so that it has to be sent again all the same."""


def gone(part: Part) -> Flaw:
    return Flaw(part, f"{part.name} is gone")


def other_size(part: Part, size: int) -> Flaw:
    return Flaw(part, f"{part.name} has {size} bytes instead of {part.size}", is_there=True)


def other_bytes(part: Part, found: str) -> Flaw:
    return Flaw(part, f"{part.name} has other bytes: {found}", is_there=True)


def other_digest(part: Part, digest: str) -> Flaw:
    return Flaw(part, f"{part.name} is at {digest} instead of {part.digest}")


def unlisted(part: Part) -> Flaw:
    return Flaw(part, f"{part.name} is not listed as one of {part.at}")


def said(flaws: Sequence[Flaw]) -> str:
    """The first of them, and how many more there are."""
    texts = [flaw.text for flaw in flaws[:MOST_SAID]]
    more = len(flaws) - len(texts)
    return "; ".join(texts) + (f"; and {more} more" if more else "")


def parts_of(graph: Graph, companions: Iterable[Companion] = ()) -> tuple[Part, ...]:
    """Everything a target has to have besides the tag and its root, which the tag's own answer proves."""
    parts = list(_content(graph))
    for associate, own in companions:
        parts += _companion(associate, own)
    return tuple({(part.kind, part.digest, part.at): part for part in reversed(parts)}.values())[::-1]


def _companion(associate: Associate, graph: Graph) -> Iterator[Part]:
    digest = associate.descriptor.digest
    if associate.tag:
        yield Part("tag", digest, f"tag {associate.tag}", at=associate.tag)
        yield from _content(graph, f" of {associate.tag}")
        return
    name = f"referrer {digest}"
    yield Part("manifest", digest, name, graph.root.size)
    yield from _content(graph, f" of {name}")
    yield Part("listed", digest, name, at=associate.subject)


def _content(graph: Graph, of: str = "") -> Iterator[Part]:
    """Manifests below the root, then configs and layers, each called after the platform that needs it."""
    images = {
        child.digest: f" of {child.platform}"
        for manifest in graph.manifests
        for child in manifest.children
        if child.platform is not None and child.platform != _UNKNOWN
    }
    for manifest in graph.manifests[:-1]:
        place = images.get(manifest.digest, of)
        yield Part("manifest", manifest.digest, f"manifest {manifest.digest}{place}", manifest.size)
    names: dict[str, str] = {}
    for manifest in graph.manifests:
        place = images.get(manifest.digest, of)
        for number, blob in enumerate(manifest.blobs):
            names.setdefault(blob.digest, f"{'layer' if number else 'config'} {blob.digest}{place}")
    for blob in graph.blobs:
        yield Part("blob", blob.digest, names.get(blob.digest, f"blob {blob.digest}{of}"), blob.size)
