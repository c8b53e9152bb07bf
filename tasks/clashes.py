"""Targets that two mirrors may write the same tag to: each would undo the other's work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from config.fleet import Fleet
from config.problems import Problem
from mirror.select import Selection
from mirror.spec import ANY, MirrorSpec

_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True)
class Writer:
    """One mirror, at its place in the file, that writes to ``target``."""

    place: int
    spec: MirrorSpec
    target: str

    @property
    def prefix(self) -> str:
        return self.target.removesuffix(ANY)


@dataclass(slots=True)
class _Writers:
    """Those seen so far, found by what they write to."""

    all: list[Writer] = field(default_factory=list)
    wild: list[Writer] = field(default_factory=list)
    by_target: dict[str, list[Writer]] = field(default_factory=dict)

    def add(self, writer: Writer) -> None:
        self.all.append(writer)
        self.by_target.setdefault(writer.target, []).append(writer)
        if writer.spec.is_wildcard:
            self.wild.append(writer)

    def near(self, writer: Writer) -> list[Writer]:
        """Those that might write where ``writer`` does."""
        if writer.spec.is_wildcard:
            return [one for one in self.all if one.spec.is_wildcard or one.prefix.startswith(writer.prefix)]
        same = self.by_target.get(writer.target, [])
        return [*same, *(one for one in self.wild if writer.target.startswith(one.prefix))]


def clashes(fleet: Fleet, specs: Sequence[MirrorSpec | None]) -> Iterator[Problem]:
    """A problem for each target that a mirror before writes, too."""
    seen = _Writers()
    sound = [(place, spec) for place, spec in enumerate(specs) if spec is not None]
    for place, spec in sound:
        for number, target in enumerate(spec.targets):
            writer = Writer(place, spec, target.repository)
            for other in seen.near(writer):
                if shared := _shared(writer, other):
                    yield _problem(fleet, writer, number, other, shared)
            seen.add(writer)


def _problem(fleet: Fleet, writer: Writer, number: int, other: Writer, shared: str) -> Problem:
    at = fleet.line_of("mirrors", other.place)
    remedy = "use another repository, or list different tags one by one in both"
    return fleet.problem(
        ("mirrors", writer.place, "targets", number, "repository"),
        f"mirror {other.spec.name!r} ({at}) writes {other.target} too, and {shared}; {remedy}",
    )


def _shared(one: Writer, other: Writer) -> str:
    """How two mirrors may meet in a tag of one repository; empty if they cannot."""
    if one.spec is other.spec or not meet(one, other):
        return ""
    mine, theirs = Selection.of(one.spec).literals(), Selection.of(other.spec).literals()
    if mine is None or theirs is None:
        return "their tags may be the same"
    both = [tag for tag in mine if tag in set(theirs)]
    return f"both write the tag {both[0]}" if both else ""


def meet(one: Writer, other: Writer) -> bool:
    """Whether they may write to one repository."""
    mine, theirs = _named(one), _named(other)
    if mine is not None and theirs is not None:
        return bool(mine & theirs)
    if mine is None and theirs is None:
        return one.prefix.startswith(other.prefix) or other.prefix.startswith(one.prefix)
    names, wild = (mine, other) if mine is not None else (theirs, one)
    below = [name.removeprefix(wild.prefix) for name in names or () if name.startswith(wild.prefix)]
    return any(wild.spec.takes(rest) for rest in below)


def _named(writer: Writer) -> set[str] | None:
    """The repositories it writes to, where they are known without a listing."""
    spec = writer.spec
    if not spec.is_wildcard:
        return {writer.target}
    if any(_GLOB.intersection(glob) for glob in spec.repositories):
        return None
    return {f"{writer.prefix}{rest}" for rest in spec.repositories if spec.takes(rest)}
