"""What belongs to an image without being reached from it: OCI referrers and cosign's digest tags."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mirror.anywhere import Anywhere
from mirror.engine import Engine
from mirror.ledger.batches import Associate
from mirror.ledger.sources import Listed
from registry.descriptor import Descriptor
from registry.errors import NotFound, Refused
from registry.reference import LAYOUT
from registry.referrers import fallback_tag
from registry.repository import Source

SIGNATURE = ".sig"
SUFFIXES = (SIGNATURE, ".att", ".sbom")
SIGNATURE_KINDS = frozenset(
    {"application/vnd.cncf.notary.signature", "application/vnd.dev.cosign.artifact.sig.v1+json"}
)
"""Artifact types: notation's, and that of cosign 2's OCI 1.1 mode."""
BUNDLE, PREDICATE = "application/vnd.dev.sigstore.bundle.", "dev.sigstore.bundle.predicateType"
SIGNS = "https://sigstore.dev/cosign/sign/v1"
"""cosign 3: a bundle of this predicate is a signature, of any other an attestation."""
MAX_DEPTH = 4
"""A signature of an SBOM of an image is two deep; nothing sensible goes further."""


def digest_tags_of(digest: str) -> tuple[str, ...]:
    """The tags that name what belongs to ``digest``: cosign's, and the tag schema's list of referrers."""
    return (*_cosign_tags_of(digest), fallback_tag(digest))


def listed_for(engine: Engine, run: str, digests: Iterable[str], source: Source) -> Listed:
    """Digest tags of ``digests`` that the run's listing of the source showed."""
    names = [name for one in digests for name in digest_tags_of(one)]
    return engine.ledger.sources.digest_tags(run, source.name, names)


def associates(
    engine: Engine, run: str, source: Source, digests: Iterable[str], listed: frozenset[str] | None
) -> list[Associate]:
    """Everything associated with ``digests`` at the source, referrers of referrers included.

    ``listed`` says which digest tags there are. Where nothing was listed, each possible tag has to be
    asked for: cosign's of the first digest (the root) only.
    """
    asking = _Asking(engine, run, source)
    found: list[Associate] = []
    for index, digest in enumerate(digests):
        names = _cosign_tags_of(digest)
        asked = [n for n in names if n in listed] if listed is not None else (names if index == 0 else ())
        found += asking.digest_tags(digest, asked)
        found += asking.referrers(digest, listed, 1)
    return found


def is_signed(digest: str, found: Iterable[Associate]) -> bool:
    """Whether a signature of that very image is among what is associated with it and its parts."""
    return any(one.subject == digest and _is_signature(one) for one in found)


def _is_signature(one: Associate) -> bool:
    if one.tag:
        return one.tag.endswith(SIGNATURE)
    kind, annotations = one.descriptor.artifact_type or "", dict(one.descriptor.annotations)
    if kind.startswith(BUNDLE):  # attestations have the same kind
        return annotations.get(PREDICATE, SIGNS) == SIGNS
    return kind in SIGNATURE_KINDS


def _cosign_tags_of(digest: str) -> tuple[str, ...]:
    return tuple(f"{digest.replace(':', '-')}{suffix}" for suffix in SUFFIXES)


@dataclass(frozen=True, slots=True)
class _Asking:
    """The source, and what the run's listing says of it."""

    engine: Engine
    run: str
    source: Source

    def digest_tags(self, digest: str, names: Iterable[str]) -> list[Associate]:
        found = []
        for name in names:
            try:
                descriptor = self.engine.patience.attempt(lambda name=name: self._named(name))  # type: ignore[misc]
            except NotFound:
                continue
            found.append(Associate(digest, descriptor, name))
        return found

    def _named(self, tag: str) -> Descriptor:
        return self.source.named(tag) if isinstance(self.source, Anywhere) else self.source.resolve(tag)

    def referrers(self, digest: str, listed: frozenset[str] | None, depth: int) -> list[Associate]:
        has_tag = listed is None or fallback_tag(digest) in listed
        try:
            answer = self.engine.patience.attempt(lambda: self.source.referrers(digest, has_tag=has_tag))
        except Refused:  # registries without the API answer it in many ways
            return []
        if answer and self.source.host != LAYOUT:
            self.engine.ledger.content.note_referrers(self.source.host)
        found = []
        for descriptor in answer:
            found.append(Associate(digest, descriptor))
            if depth < MAX_DEPTH:
                deeper = listed_for(self.engine, self.run, [descriptor.digest], self.source).tags
                found += self.referrers(descriptor.digest, deeper, depth + 1)
        return found
