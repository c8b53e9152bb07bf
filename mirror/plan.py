"""What is missing where, and in which portions it travels. Pure and deterministic: no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from registry.descriptor import Descriptor

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BlobWork:
    """One blob and the targets that miss it; with several targets it is read once for all of them."""

    blob: Descriptor
    targets: tuple[str, ...]


def missing(
    blobs: Iterable[Descriptor], held: Mapping[str, Collection[str]], tee_bytes: int = 0
) -> list[BlobWork]:
    """What to copy so that every target of ``held`` (target → digests it holds) has all ``blobs``.

    Biggest first, so that no long copy starts last; each (blob, target) once. A blob of ``tee_bytes`` or
    less, for which a shared read gains nothing, is one piece of work for each target.
    """
    work: list[BlobWork] = []
    once = {blob.digest: blob for blob in blobs}
    for blob in sorted(once.values(), key=lambda blob: (-blob.size, blob.digest)):
        targets = tuple(target for target, digests in held.items() if blob.digest not in digests)
        if blob.size > tee_bytes and targets:
            work.append(BlobWork(blob, targets))
        else:
            work += (BlobWork(blob, (target,)) for target in targets)
    return work


def cut(items: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """``items`` in their order, ``size`` at a time; reads no further ahead than one portion."""
    if size < 1:
        raise ValueError(f"portions of {size}: at least 1")
    rest = iter(items)
    while portion := tuple(islice(rest, size)):
        yield portion
