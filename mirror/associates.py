"""What belongs to an image without being reached from it: OCI referrers and cosign's digest tags."""

from __future__ import annotations

from collections.abc import Iterable

from mirror.engine import Engine
from mirror.ledger.batches import Associate
from registry.errors import NotFound, Refused
from registry.reference import LAYOUT
from registry.repository import Repository

SUFFIXES = (".sig", ".att", ".sbom")
MAX_DEPTH = 4
"""A signature of an SBOM of an image is two deep; nothing sensible goes further."""


def digest_tags_of(digest: str) -> tuple[str, ...]:
    """The tags by which cosign names what belongs to ``digest``."""
    return tuple(f"{digest.replace(':', '-')}{suffix}" for suffix in SUFFIXES)


def associates(
    engine: Engine, source: Repository, digests: Iterable[str], listed: frozenset[str] | None
) -> list[Associate]:
    """Everything associated with ``digests`` at the source, referrers of referrers included.

    ``listed`` holds the digest tags that the source's tag listing showed; None where nothing was listed,
    so that each possible tag of the first digest (the root) has to be asked for.
    """
    found: list[Associate] = []
    for index, digest in enumerate(digests):
        names = digest_tags_of(digest)
        asked = [n for n in names if n in listed] if listed is not None else (names if index == 0 else ())
        found += _digest_tags(engine, source, digest, asked)
        found += _referrers(engine, source, digest, 1)
    return found


def _digest_tags(engine: Engine, source: Repository, digest: str, names: Iterable[str]) -> list[Associate]:
    found = []
    for name in names:
        try:
            descriptor = engine.patience.attempt(lambda name=name: source.resolve(name))  # type: ignore[misc]
        except NotFound:
            continue
        found.append(Associate(digest, descriptor, name))
    return found


def _referrers(engine: Engine, source: Repository, digest: str, depth: int) -> list[Associate]:
    try:
        listed = engine.patience.attempt(lambda: source.referrers(digest))
    except Refused:  # registries without the API answer it in many ways
        return []
    if listed and source.host != LAYOUT:
        engine.ledger.content.note_referrers(source.host)
    found = []
    for descriptor in listed:
        found.append(Associate(digest, descriptor))
        if depth < MAX_DEPTH:
            found += _referrers(engine, source, descriptor.digest, depth + 1)
    return found
