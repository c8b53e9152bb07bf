"""What is missing where, and in which portions it travels. Pure and deterministic: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from registry.descriptor import Descriptor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BlobWork:
    """One blob and the targets that may miss it; with several targets it is read once for all of them."""

    blob: Descriptor
    targets: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes to write where every target misses it."""
        return self.blob.size * len(self.targets)


def blob_work(wanted: Iterable[tuple[Descriptor, Iterable[str]]]) -> list[BlobWork]:
    """What several tags want, each blob once with all its targets.

    Biggest first, so that no long copy starts last; equal ones by digest.
    """
    blobs: dict[str, Descriptor] = {}
    targets: dict[str, dict[str, None]] = {}
    for blob, names in wanted:
        blobs.setdefault(blob.digest, blob)
        targets.setdefault(blob.digest, {}).update(dict.fromkeys(names))
    work = [BlobWork(blob, tuple(targets[digest])) for digest, blob in blobs.items()]
    return sorted(work, key=lambda one: (-one.blob.size, one.blob.digest))


def split_hauls(work: Sequence[BlobWork], haul_bytes: int) -> tuple[list[BlobWork], list[BlobWork]]:
    """(what one task carries itself, what travels as tasks of its own); a task never hands on everything."""
    far = [one for one in work if one.blob.size > haul_bytes]
    own = [one for one in work if one.blob.size <= haul_bytes]
    return (own, far) if own else (far[:1], far[1:])


def cut(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """``items`` in their order, ``size`` at a time; reads no further ahead than one portion."""
    if size < 1:
        raise ValueError(f"portions of {size}: at least 1")
    rest = iter(items)
    while portion := tuple(islice(rest, size)):
        yield portion
