"""The proof that an image is at its new place: the same digest under its tag, and all platforms of it.

By HEADs, which count nowhere as pulls; an index is read once for its children, never from Docker Hub.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from mirror.retry import Patience
from mirror.select import is_digest_tag, is_keeper_tag
from mirror.threads import carrying
from registry.descriptor import Descriptor, Platform, abridged
from registry.errors import Denied, NotFound, RegistryError, Unauthorized
from registry.reference import DOCKER_HUB, Reference
from registry.repository import Repository

THREADS = 8
MOST_TAGS = 2000
"""Tags that are compared where any of a repository may be meant."""
_SHOWN = 3
_UNKNOWN = Platform("unknown", "unknown")
T = TypeVar("T")
Open = Callable[[Reference], Repository]


@dataclass(frozen=True, slots=True)
class Claim:
    """``old`` and ``new`` are the same image: by digest, else by tag, else by every tag that ``old`` has."""

    old: Reference
    new: Reference


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim; it holds where ``why_not`` is empty."""

    digest: str | None = None
    """Of the image at both places; None where many are meant."""
    why_not: str = ""
    is_denied: bool = False
    """Whether an account or its right is what is missing."""

    @property
    def holds(self) -> bool:
        return not self.why_not


class _Unproven(Exception):
    """The claim does not hold; the text says why."""


@dataclass(frozen=True, slots=True)
class Prover:
    """Asks both places. ``platforms``: which of an index need be there; none: all."""

    open_repository: Open
    patience: Patience
    platforms: tuple[Platform, ...] = ()

    def prove(self, claims: Iterable[Claim]) -> dict[Claim, Verdict]:
        """A verdict on each, several at a time."""
        wanted = list(dict.fromkeys(claims))
        with ThreadPoolExecutor(THREADS, thread_name_prefix="proof") as pool:
            return dict(zip(wanted, pool.map(carrying(self._verdict), wanted), strict=True))

    def _verdict(self, claim: Claim) -> Verdict:
        try:
            return Verdict(self._digest(claim))
        except _Unproven as error:
            return Verdict(why_not=str(error))
        except RegistryError as error:
            return Verdict(why_not=str(error), is_denied=isinstance(error, Unauthorized | Denied))

    def _digest(self, claim: Claim) -> str | None:
        if claim.old.digest or claim.old.tag:
            return self._equal(claim)
        self._all_equal(claim)
        return None

    def _equal(self, claim: Claim) -> str:
        """The digest of one tag or digest at both places."""
        old, new = claim.old, claim.new
        if old.digest:
            there = self._head(new, old.digest)
            if there is None:
                raise _Unproven(f"{new.name} has no {abridged(old.digest)}")
        else:
            here, there = self._head(old, str(old.tag)), self._head(new, str(old.tag))
            if here is None:
                raise _Unproven(f"it is not there (any more), and nothing else says what {new} should be")
            if there is None:
                raise _Unproven(f"{new} is not there: `sealift mirror {old} --to {new.name}` brings it")
            if here.digest != there.digest:
                raise _Unproven(
                    f"{new} is another image: {abridged(there.digest)} instead of {abridged(here.digest)}"
                )
        self._check_children(claim, there)
        return there.digest

    def _all_equal(self, claim: Claim) -> None:
        """Which tag is meant is known later, so each must be there; signatures' tags and keepers are none."""
        old = self.open_repository(claim.old)
        listed = (tag for page in self._asked(lambda: list(old.tags())) for tag in page)
        tags = list(
            islice((tag for tag in listed if not (is_digest_tag(tag) or is_keeper_tag(tag))), MOST_TAGS + 1)
        )
        if not tags or len(tags) > MOST_TAGS:
            count = f"more than {MOST_TAGS}" if tags else "no"
            raise _Unproven(f"which tag is meant is known later, and {claim.old.name} has {count} tags")
        wrong = [tag for tag in tags if not self._is_equal(claim, tag)]
        if wrong:
            names = ", ".join(wrong[:_SHOWN]) + (", …" if len(wrong) > _SHOWN else "")
            raise _Unproven(
                f"which tag is meant is known later, and of {len(tags)} tags of {claim.old.name} "
                f"{len(wrong)} are missing or others at {claim.new.name}: {names}"
            )

    def _is_equal(self, claim: Claim, tag: str) -> bool:
        here, there = self._head(claim.old, tag), self._head(claim.new, tag)
        return here is None or (there is not None and here.digest == there.digest)

    def _check_children(self, claim: Claim, index: Descriptor) -> None:
        readable = [one for one in (claim.new, claim.old) if one.host != DOCKER_HUB]
        if not index.is_index or not readable:
            return
        repository = self.open_repository(readable[0])
        children = self._asked(lambda: repository.manifest(index.digest)).children
        missing = [
            child
            for child in children
            if self._is_wanted(child) and self._head(claim.new, child.digest) is None
        ]
        if missing:
            names = dict.fromkeys(_platform_of(child) for child in missing)
            raise _Unproven(f"{claim.new} lacks {', '.join(names)}; --platform says which are needed")

    def _is_wanted(self, child: Descriptor) -> bool:
        platform = child.platform
        if not self.platforms:
            return True
        return platform is not None and any(wish.covers(platform) for wish in self.platforms)

    def _head(self, place: Reference, tag_or_digest: str) -> Descriptor | None:
        repository = self.open_repository(place)
        try:
            return self._asked(lambda: repository.resolve(tag_or_digest))
        except NotFound:
            return None

    def _asked(self, question: Callable[[], T]) -> T:
        return self.patience.attempt(question)


def _platform_of(child: Descriptor) -> str:
    if child.platform is None or child.platform == _UNKNOWN:
        return "an attestation"
    return str(child.platform)
