"""From where to where: ``OLD=NEW`` by prefixes of whole components, the longest that fits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from registry.reference import DOCKER_HUB, LAYOUT, MalformedReference, Reference, Wildcard

_OFFICIAL = "library"
_HOW = "write OLD=NEW, as in docker.io/org=ghcr.io/org"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A registry, what is below a path of it, or one repository."""

    host: str
    path: str
    """Of whole components, without a slash at its end; empty: all that the registry has."""

    @classmethod
    def parse(cls, text: str) -> Prefix:
        """``HOST``, ``HOST/PATH`` or either with ``/*`` behind it. Raises MalformedReference."""
        body = text.removesuffix("/*").rstrip("/")
        first, slash, rest = body.partition("/")
        if body.startswith(LAYOUT):
            raise MalformedReference(f"{text!r}: a layout folder cannot be referred to from files")
        if not slash and not any(mark in first for mark in ".:") and first != "localhost":
            raise MalformedReference(
                f"{text!r}: write {DOCKER_HUB}/{text} for an account of Docker Hub, "
                f"{DOCKER_HUB}/library/{text} for an official image, or a registry's host"
            )
        if ":" in rest or "@" in body:
            raise MalformedReference(f"{text!r}: tags and digests stay as they are; leave them out")
        wildcard = Wildcard.parse(f"{body}/*")
        return cls(wildcard.host, wildcard.prefix.rstrip("/"))

    def __str__(self) -> str:
        return f"{self.host}/{self.path}".rstrip("/")

    def covers(self, reference: Reference) -> bool:
        below = f"{reference.repository}/".startswith(f"{self.path}/") if self.path else True
        return reference.host == self.host and below


@dataclass(frozen=True, slots=True)
class Moves:
    """Every ``OLD=NEW`` of a rewrite."""

    pairs: tuple[tuple[Prefix, Prefix], ...]

    @classmethod
    def parse(cls, texts: Iterable[str], *, in_place: bool = False) -> Moves:
        """``in_place``: something may also stay where it is, to be pinned. Raises MalformedReference."""
        found: dict[Prefix, Prefix] = {}
        for text in texts:
            old_text, equals, new_text = text.partition("=")
            if not (equals and old_text and new_text):
                raise MalformedReference(f"{text!r}: {_HOW}")
            old, new = Prefix.parse(old_text), Prefix.parse(new_text)
            if old == new and not in_place:
                raise MalformedReference(f"{text!r}: old and new are the same place; only --pin changes that")
            if found.setdefault(old, new) != new:
                raise MalformedReference(f"{old} would become {found[old]} and {new}; choose one")
        return cls(tuple(found.items()))

    def of(self, reference: Reference) -> Reference | None:
        """The same image at its new place; None where it has none, or is there already."""
        fitting = [(old, new) for old, new in self.pairs if old.covers(reference)]
        if not fitting:
            return None
        old, new = max(fitting, key=lambda pair: len(pair[0].path))
        if any(
            at.covers(reference) and len(at.path) > len(old.path)
            for _, at in self.pairs
            if at.host == old.host
        ):
            return None  # NEW is a part of OLD
        rest = reference.repository[len(old.path) :].lstrip("/")
        path = "/".join(part for part in (new.path, rest) if part)
        return replace(reference, host=new.host, repository=path) if path else None

    @property
    def needles(self) -> tuple[str, ...] | None:
        """What a text holds that refers to an old place, one of them at least; None: that cannot be said."""
        if any(old.host == DOCKER_HUB and old.path in {"", _OFFICIAL} for old, _ in self.pairs):
            return None  # short names say neither
        return tuple((old.path or old.host).rpartition("/")[2] for old, _ in self.pairs)
