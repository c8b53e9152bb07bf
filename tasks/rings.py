"""Mirrors that lead in a ring: what one brings to a registry another takes back to where it came from.

Two pushes at once would chase each other round it for ever, and each run would overwrite one of them: there
is no base to tell a push from what was brought (:mod:`mirror.merge`). So a ring is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from config.fleet import Fleet
from config.problems import Problem
from mirror.select import Selection
from mirror.spec import TARGETS, MirrorSpec
from tasks.clashes import Writer, meet

MOST_LOOKED_AT = 10_000
"""Steps from mirror to mirror, for each target: fleet files that need more hide no ring from a person."""
Tags = frozenset[str] | None
"""None: any."""


def rings(fleet: Fleet, specs: Sequence[MirrorSpec | None]) -> Iterator[Problem]:
    """A problem for each target that leads back to its mirror's source, by way of mirrors before it."""
    seen = _Readers()
    for place, spec in enumerate(specs):
        if spec is None or spec.source == TARGETS or spec.is_two_way:
            continue
        reader = Writer(place, spec, spec.source)
        for number, target in enumerate(spec.targets):
            if way := seen.way_back(Writer(place, spec, target.repository), reader):
                yield _problem(fleet, reader, number, way)
        seen.add(reader)


def _problem(fleet: Fleet, reader: Writer, number: int, way: Sequence[Writer]) -> Problem:
    steps = " and ".join(f"{one.spec.name!r} ({fleet.line_of('mirrors', one.place)})" for one in way)
    brings = "brings" if len(way) == 1 else "bring"
    return fleet.problem(
        ("mirrors", reader.place, "targets", number, "repository"),
        f"mirror {steps} {brings} what is written here back to {reader.target}; "
        "a push at one end would undo one at the other: make them one mirror with mode: two_way, "
        "or list different tags one by one in each",
    )


@dataclass(slots=True)
class _Readers:
    """Mirrors by what they read."""

    wild: list[Writer] = field(default_factory=list)
    by_source: dict[str, list[Writer]] = field(default_factory=dict)

    def add(self, reader: Writer) -> None:
        if reader.spec.is_wildcard:
            self.wild.append(reader)
        else:
            self.by_source.setdefault(reader.target, []).append(reader)

    def way_back(self, start: Writer, home: Writer) -> list[Writer]:
        """The readers from one to the next that bring what is written at ``start`` to ``home``; or none.

        Each once at most.
        """
        seen: set[tuple[int, str]] = set()
        left: list[tuple[Writer, Tags, list[Writer]]] = [(start, _tags(start.spec), [])]
        while left:
            at, tags, way = left.pop()
            if len(seen) > MOST_LOOKED_AT:
                return []
            for reader in self._of(at):
                if any(one.place == reader.place for one in way):
                    continue  # names that grow at each turn would have no end
                both = _both(tags, _tags(reader.spec))
                own = reader.spec if at.spec.is_wildcard else reader.spec.of(at.target)
                for target in own.targets if both is None or both else ():
                    following = Writer(reader.place, own, target.repository)
                    if meet(following, home):
                        return [*way, reader]
                    if (reader.place, target.repository) not in seen:
                        seen.add((reader.place, target.repository))
                        left.append((following, both, [*way, reader]))
        return []

    def _of(self, at: Writer) -> Iterator[Writer]:
        """Those that may read what is written there."""
        if at.spec.is_wildcard:
            known = (one for readers in self.by_source.values() for one in readers)
            near = [one for one in known if one.target.startswith(at.prefix)]
        else:
            near = self.by_source.get(at.target, [])
        yield from (one for one in (*near, *self.wild) if meet(at, one))


def _tags(spec: MirrorSpec) -> Tags:
    found = Selection.of(spec).literals()
    return None if found is None else frozenset(found)


def _both(one: Tags, other: Tags) -> Tags:
    if one is None or other is None:
        return other if one is None else one
    return one & other
