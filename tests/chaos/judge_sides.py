"""What became of everything that was pushed at sides of two-way mirrors, by wire, registries and ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mirror.ledger import Ledger
from mirror.ledger.conflicts import SETTLED_KEPT, Conflict
from registry.deletion import tombstone
from tests.chaos.proxy import Look, Put
from tests.chaos.reading import Place, Reader
from tests.chaos.sides import SIDES, Sides
from tests.chaos.told import Where

ROUND_TRIP_S = 0.25
"""A push that comes between the last look at a tag and its PUT is overwritten: registries cannot compare and
set. A look that is older than this was not the last thing before the PUT."""
TagOf = tuple[str, str]
"""Repository and tag."""


@dataclass(frozen=True, slots=True)
class Record:
    """What the ledger says of one tag."""

    base: str | None = None
    open: Conflict | None = None
    settled: tuple[Conflict, ...] = ()
    moved_from: frozenset[tuple[str, str]] = frozenset()
    """Registry and digest, by the history."""
    is_left_out: bool = False
    """Whether there were more conflicts than are remembered."""

    def has(self, registry: str, digest: str) -> bool:
        """Whether it is on record that the side had it when that was left alone, or was decided."""
        conflicts = (*((self.open,) if self.open else ()), *self.settled)
        return any(one.sides.get(registry) == digest for one in conflicts) or (
            self.is_left_out and (registry, digest) in self.moved_from
        )


@dataclass(slots=True)
class Verdict:
    """What is wrong, and what cannot be helped."""

    violations: list[str] = field(default_factory=list)
    held: int = 0
    """Tags that are apart at the end, with a conflict on record."""
    settled: int = 0
    """Conflicts that are over, as far as they are remembered."""
    met: int = 0
    """Pushes that were overwritten since they came between the last look and the PUT."""


def judge_sides(sides: Sides, ledger: Ledger, puts: Sequence[Put], looks: Iterable[Look]) -> Verdict:
    """Whether all sides are equal or on record, no push is lost, and the base is what all have."""
    names = {sides.seen_as(name, repository): name for repository, held in SIDES.items() for name in held}
    records, puts = dict(_records(sides, ledger, names)), without_tombstones(sides, puts)
    verdict = lost_pushes(sides.pushes, puts, looks, records)
    had = _had([*sides.pushes, *puts])
    for place, held in _held(sides).items():
        record = records.get(place, Record())
        verdict.violations += apart(place, held, record)
        verdict.violations += inconsistent(place, held, record, had)
        verdict.held += len(set(held.values())) > 1
        verdict.settled += len(record.settled)
    return verdict


def lost_pushes(
    pushes: Sequence[Put], puts: Sequence[Put], looks: Iterable[Look], records: Mapping[TagOf, Record]
) -> Verdict:
    """Pushes that the fleet has overwritten at their side before every side had them, and nobody says so."""
    verdict, had = Verdict(), _had([*pushes, *puts])
    given: dict[Where, list[Put]] = defaultdict(list)
    for put in sorted((*pushes, *puts), key=lambda one: one.done):
        given[_where(put)].append(put)
    looked: dict[Where, list[Look]] = defaultdict(list)
    for look in looks:
        looked[Where(look.registry, look.repository, look.tag)].append(look)
    own, by_people = {one.digest for one in pushes}, set(pushes)
    for push in pushes:
        where, tag = _where(push), (push.repository, push.reference)
        after = [one for one in given[where] if one.done > push.begun and one is not push]
        own_next = next((one.begun for one in after if one in by_people), float("inf"))
        by_fleet = [one for one in after if one not in by_people and one.begun < own_next and _is_taken(one)]
        if not by_fleet or by_fleet[-1].digest == push.digest:
            continue
        if had[tag][push.digest] >= set(SIDES[push.repository]):
            continue
        if records.get(tag, Record()).has(push.registry, push.digest):
            continue
        first = next(one for one in by_fleet if one.digest != push.digest)
        if is_within_round_trip(push, first, looked[where]):
            verdict.met += 1
            continue
        verdict.violations.append(
            f"lost: {where} was pushed to {push.digest} at {push.done:.3f} and put to {first.digest} at "
            f"{first.begun:.3f}, {_ago(first, looked[where])}; not every side has had it, and nothing says so"
        )
    verdict.violations += [
        f"G3: {_where(one)} was put to {one.digest}, which nobody pushed"
        for one in puts
        if one.repository in SIDES and one.digest and ":" not in one.reference and one.digest not in own
    ]
    return verdict


def without_tombstones(sides: Sides, puts: Sequence[Put]) -> list[Put]:
    """A tag that is moved to be deleted is as good as gone."""
    markers = {
        Where(name, repository, tag): tombstone(sides.seen_as(name, repository), tag).digest
        for repository, names in SIDES.items()
        for name in names
        for tag in sides.tags
    }
    return [one._replace(digest="") if one.digest == markers.get(_where(one)) else one for one in puts]


def is_within_round_trip(push: Put, put: Put, looks: Sequence[Look]) -> bool:
    """Whether nothing but the push came between the last look at the tag and the PUT."""
    last = max((one.done for one in looks if one.done <= put.begun), default=0.0)
    return put.begun - last <= ROUND_TRIP_S and push.done > last - ROUND_TRIP_S


def apart(place: TagOf, held: Mapping[str, str | None], record: Record) -> list[str]:
    """A tag that differs between sides, and is not on record as what it is."""
    if len(set(held.values())) == 1:
        return [f"two-way: {_named(place)} is equal, and a conflict is open"] if record.open else []
    if record.open is None:
        return [f"two-way: {_named(place)} differs, {dict(held)}, and no conflict is open"]
    if dict(record.open.sides) != dict(held):
        return [f"two-way: {_named(place)} is {dict(held)}, and on record as {dict(record.open.sides)}"]
    return []


def inconsistent(
    place: TagOf, held: Mapping[str, str | None], record: Record, had: Mapping[TagOf, Mapping[str, set[str]]]
) -> list[str]:
    """A base that is not what all sides have, or of a tag that is apart, never was."""
    if len(set(held.values())) == 1:
        digest = next(iter(held.values()))
        return [] if record.base == digest else [f"base: {_named(place)} is {digest}, not {record.base}"]
    if record.base is None or had[place][record.base] >= set(SIDES[place[0]]):
        return []
    return [f"base: {_named(place)} has the base {record.base}, which not every side ever had"]


def _records(sides: Sides, ledger: Ledger, names: Mapping[str, str]) -> Iterator[tuple[TagOf, Record]]:
    for spec, repository in zip(sides.specs(), SIDES, strict=True):
        bases = dict(ledger.conflicts.agreed(spec.name))
        open_now = {one.tag: one for one in ledger.conflicts.open(spec.name)}
        settled: dict[str, list[Conflict]] = defaultdict(list)
        for one in ledger.conflicts.settled(spec.name):
            settled[one.tag].append(one)
        flips = ledger.history.of(spec.name, sides.tags)
        for tag in sides.tags:
            found = open_now.get(tag)
            yield (
                (repository, tag),
                Record(
                    bases.get(tag),
                    _by_registry(found, names) if found else None,
                    tuple(_by_registry(one, names) for one in settled[tag]),
                    frozenset(
                        (names[target], was)
                        for flip in flips.get(tag, ())
                        for target, was in flip.previous.items()
                        if was
                    ),
                    is_left_out=len(settled[tag]) >= SETTLED_KEPT,
                ),
            )


def _by_registry(one: Conflict, names: Mapping[str, str]) -> Conflict:
    return replace(one, sides={names[place]: digest for place, digest in one.sides.items()})


def _held(sides: Sides) -> dict[TagOf, dict[str, str | None]]:
    """By tag: what each side has, as the registries themselves say."""
    reader = Reader()
    pushed = {(one.repository, one.reference) for one in sides.pushes}
    held = {
        (repository, tag): {
            name: reader.tag(Place.parse(place), tag) for name, place in sides.places(repository).items()
        }
        for repository, tag in sorted(pushed)
    }
    reader.close()
    return held


def _had(given: Iterable[Put]) -> Mapping[TagOf, Mapping[str, set[str]]]:
    """By tag and digest: the sides that were ever given the tag so."""
    had: dict[TagOf, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for one in given:
        if one.status in {0, 201}:
            had[one.repository, one.reference][one.digest].add(one.registry)
    return had


def _is_taken(put: Put) -> bool:
    return put.status in {0, 201, 202}


def _where(put: Put) -> Where:
    return Where(put.registry, put.repository, put.reference)


def _ago(put: Put, looks: Sequence[Look]) -> str:
    last = max((one.done for one in looks if one.done <= put.begun), default=None)
    return "never looked at" if last is None else f"{put.begun - last:.3f} s after the last look"


def _named(place: TagOf) -> str:
    return ":".join(place)
