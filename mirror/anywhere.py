"""Content that several repositories may hold, read by digest from whichever has it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from mirror.select import is_digest_tag
from mirror.several import Failures, Several
from mirror.siblings import Shunned
from registry.descriptor import Descriptor, is_digest
from registry.errors import NotFound, Refused, RegistryError
from registry.manifest import Manifest
from registry.repository import Source


class Anywhere(Several):
    """A Source over several, in this order but for who served last: that one is asked first.

    By digest, and by tags that name one (``sha256-….sig``): what any other tag is depends on whom one asks.
    What none of them has is NotFound; where one could not be asked, that one's error is raised instead, since
    it may be the one that has it.
    """

    def __init__(
        self,
        places: Sequence[Source],
        named: Source | None = None,
        *,
        helpers: Sequence[Source] = (),
        shunned: Shunned | None = None,
    ) -> None:
        """``named``: whose tags and referrers count, and whose name this has, where there is such a one.

        ``helpers``: those of the places that need not be reached from here. What such a one cannot be asked
        about what belongs to an image it does not know, and its host is ``shunned``.
        """
        super().__init__()
        self._places = tuple(places)
        self._first = self._places[0]
        self._named, self._helpers, self._shunned = named, tuple(helpers), shunned or Shunned()

    @property
    def name(self) -> str:
        return (self._named or self._first).name

    @property
    def host(self) -> str:
        return (self._named or self._first).host

    @property
    def places(self) -> tuple[Source, ...]:
        """Whoever may be asked, the one whose tags count among them."""
        return self._places if self._named is None else (*self._places, self._named)

    def without(self, names: Collection[str]) -> Anywhere:
        """The same but for those, unless there are no others."""
        left = [one for one in self._places if one.name not in names]
        return Anywhere(left or self._places, self._named)

    def tags(self, last: str | None = None) -> Iterator[list[str]]:
        """Each has its own; nobody asks for those of all."""
        raise NotImplementedError

    def resolve(self, tag_or_digest: str) -> Descriptor:
        if self._named is not None and not is_digest(tag_or_digest):
            return self._named.resolve(tag_or_digest)
        return self._ask(_digest(tag_or_digest), lambda one: one.resolve(tag_or_digest))

    def named(self, tag: str) -> Descriptor:
        """What a tag is where it counts, or at all that have it: NotFound where that is not the same."""
        if self._named is not None:
            return self._named.named(tag) if isinstance(self._named, Anywhere) else self._named.resolve(tag)
        found: dict[str, Descriptor] = {}
        for place in self._reached():
            with suppress(NotFound), self._if_reached(place):
                one = place.resolve(tag)
                found[one.digest] = one
        if len(found) == 1:
            return found.popitem()[1]
        reason = "its holders do not have the same" if found else "no such tag"
        raise NotFound(self.host, f"{self.name}:{tag}", reason)

    def manifest(self, tag_or_digest: str) -> Manifest:
        return self._ask(_digest(tag_or_digest), lambda one: one.manifest(tag_or_digest))

    def blob_size(self, digest: str) -> int:
        return self._ask(digest, lambda one: one.blob_size(digest))

    def referrers(self, digest: str, *, has_tag: bool = True) -> list[Descriptor]:
        """What any of them knows to be about the digest; or the one whose referrers count."""
        if self._named is not None:
            return self._named.referrers(digest, has_tag=has_tag)
        found: dict[str, Descriptor] = {}
        for place in self._reached():
            with self._if_reached(place):
                found |= {one.digest: one for one in place.referrers(digest, has_tag=has_tag)}
        return list(found.values())

    def _reached(self) -> list[Source]:
        return [one for one in self._places if one not in self._helpers or one.host not in self._shunned]

    @contextmanager
    def _if_reached(self, place: Source) -> Iterator[None]:
        try:
            yield
        except RegistryError as error:
            if place not in self._helpers:
                raise
            if not isinstance(error, NotFound | Refused):
                self._shunned.add(place.host)

    def _in_order(self) -> Sequence[Source]:
        first = self._first
        return [first, *(one for one in self._places if one is not first)]

    def _served(self, place: Source) -> None:
        self._first = place

    def _failed(self, place: Source, error: RegistryError) -> bool:  # noqa: ARG002 - any other may help
        return False

    def _worst(self, failures: Failures) -> RegistryError:
        errors = list(failures.values())
        first = next((error for error in errors if not isinstance(error, NotFound)), errors[0])
        others = [end for end in dict.fromkeys(error.end for error in errors) if end != first.end]
        if isinstance(first, NotFound) and others:
            reason = f"{first.reason}, and none in {', '.join(others)} either"
            return NotFound(first.end, first.what, reason, first.status, first.code)
        return first


def places_of(source: Source) -> tuple[Source, ...]:
    """Each repository that may be asked, where ``source`` is several; else itself."""
    if not isinstance(source, Anywhere):
        return (source,)
    return tuple(one for place in source.places for one in places_of(place))


def hosts_of(source: Source) -> frozenset[str]:
    """Every host that may be asked."""
    return frozenset(one.host for one in places_of(source))


def _digest(text: str) -> str:
    if not is_digest(text) and not is_digest_tag(text):
        raise ValueError(f"{text} is a tag, and which of several repositories is meant is not said")
    return text
