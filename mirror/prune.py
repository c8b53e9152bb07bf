"""Prune: delete in a region's targets what we put there and the source has no more, if every guard agrees.

The last step of a run. It has one only where the run listed the whole source, the list was not empty, and
no tag failed (:mod:`mirror.ledger.gone`). A tag is then deleted where

- lists have lacked it for long enough, and one of an earlier run did so first,
- no more tags would go from that target than its share: what the other guards keep does not count,
- the last move of the tag there was ours, and it still has that digest,
- the source, asked for that very tag, has none,
- and no run that asked later has claimed it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.ledger.gone import portions
from mirror.ledger.pins import Pin
from mirror.report import Deletion, DeletionState
from mirror.spec import MirrorSpec, Target
from registry.deletion import delete_for_good, is_tombstone
from registry.errors import CannotDelete, NotFound, RegistryError, TagImmutable
from registry.repository import Repository, Source

MOST_LOOKED_AT = 1000
"""Where more than a share is due: of so many at most it is asked whether they would go, the others count."""
THEIRS = "somebody else has moved it"
Judge = Callable[[Deletion], Deletion]


def prune(engine: Engine, run: str, region: str) -> None:
    """Go through what is gone from each source of the run; whoever repeats it finds what was done.

    It returns without having ended where the run is paused or was cancelled meanwhile.
    """
    each_source(engine, run, region, Pruning)


def each_source(engine: Engine, run: str, region: str, pruning: type[Pruning]) -> None:
    """The same, by the guards of ``pruning``."""
    gone, whole = engine.ledger.gone, engine.ledger.spec(run)
    for repository in gone.repositories(run):
        if region not in gone.regions_to_do(run, [region]):
            return
        pruning.of(engine, run, whole.of(repository), region).go()
    if region in gone.regions_to_do(run, [region]):
        gone.end_region(run, region, whole.regions)


def foreseen(engine: Engine, listing: Ledger, run: str) -> Iterator[Deletion]:
    """What a plan's list, kept in the ledger ``listing``, does not show: what would go, and from when on."""
    gone, whole, now = engine.ledger.gone, listing.spec(run), engine.ledger.now()
    for repository in listing.gone.repositories(run):
        spec = whole.of(repository)
        missing, known = listing.gone.missing(run, spec) or set(), gone.first_seen(spec.name)
        first_seen = {tag: known.get(tag, (now, run)) for tag in missing}
        put, pins = gone.put(spec, spec.targets), pins_of(engine, spec, first_seen)
        for target in spec.targets:
            yield from deletions_of(spec, target, put[target.repository], first_seen, pins, run, now)


def deletions_of(
    spec: MirrorSpec,
    target: Target,
    put: Mapping[str, str],
    first_seen: Mapping[str, tuple[float, str]],
    pins: Mapping[str, Pin],
    run: str,
    now: float,
    judge: Judge = lambda one: one,
) -> list[Deletion]:
    """What one target has of the tags in ``first_seen``; ``put``: by tag, the digest that we put there.

    ``deleting`` is what may go now; ``kept`` where that were too much for one run. ``judge`` is asked
    what the registries say of a tag, where it matters for that.
    """
    found = {
        tag: _seen(spec, target, tag, put[tag], *first_seen[tag], run, now)
        for tag in sorted(first_seen)
        if tag in put
    }
    for tag in pins.keys() & found.keys():
        if found[tag].state == "deleting":
            found[tag] = replace(found[tag], state="kept", reason=pins[tag].reason)
    due = [one for one in found.values() if one.state == "deleting"]
    found |= {one.tag: one for one in _within_share(spec, due, len(put), judge)}
    return list(found.values())


def _within_share(spec: MirrorSpec, due: Sequence[Deletion], held: int, judge: Judge) -> list[Deletion]:
    """``due`` as it is if that is no more than a share of ``held``, or once it is without what stays anyway.

    It is looked at no further than it takes to know that it is too much.
    """

    def is_too_much(count: int) -> bool:
        return count > max(1, held * spec.delete_share // 100)

    if not is_too_much(len(due)):
        return list(due)
    looked_at: list[Deletion] = []
    going = max(0, len(due) - MOST_LOOKED_AT)
    for one in due[:MOST_LOOKED_AT]:
        if is_too_much(going):
            break
        looked_at.append(judge(one))
        going += looked_at[-1].state == "deleting"
        held -= looked_at[-1].state in {"absent", "deleted"} or looked_at[-1].reason.startswith(THEIRS)
    every = [*looked_at, *due[len(looked_at) :]]
    if not is_too_much(going):
        return every
    left = sum(one.state == "deleting" for one in every)
    are = "all sides had are deleted on one" if spec.two_way else "we put there are gone from the source"
    reason = (
        f"{left} of {held} tags that {are}, and delete_share is {spec.delete_share} %; raise it if they are "
        "to be deleted"
    )
    return [replace(one, state="kept", reason=reason) if one.state == "deleting" else one for one in every]


def _seen(
    spec: MirrorSpec, target: Target, tag: str, digest: str, since: float, by: str, run: str, now: float
) -> Deletion:
    due = since + spec.delete_after_s
    one = Deletion(tag, target.repository, target.region, digest, "deleting", since_s=since, due_s=due)
    return one if due <= now and by != run else replace(one, state="waiting")


def pins_of(engine: Engine, spec: MirrorSpec, tags: Iterable[str]) -> dict[str, Pin]:
    found: dict[str, Pin] = {}
    for portion in portions(tags):
        found |= engine.ledger.pins.of(spec.name, portion)
    return found


@dataclass(slots=True)
class Pruning:
    """What is gone from one source, in the targets of one region."""

    engine: Engine
    run: str
    spec: MirrorSpec
    region: str
    source: Source
    generation: int
    first_seen: dict[str, tuple[float, str]]
    put: dict[str, dict[str, str]]
    """By target: the digests that we put there, by tag."""

    @classmethod
    def of(cls, engine: Engine, run: str, spec: MirrorSpec, region: str) -> Self:
        gone = engine.ledger.gone
        put = gone.put(spec, spec.targets_of(region))
        source = engine.open_source(run, spec, region)
        return cls(engine, run, spec, region, source, gone.generation(run), gone.first_seen(spec.name), put)

    def go(self) -> None:
        now, pins = self.engine.ledger.now(), pins_of(self.engine, self.spec, self.first_seen)
        for target in self.spec.targets_of(self.region):
            put, judge = self.put[target.repository], self._judge_of(target)
            found = deletions_of(self.spec, target, put, self.first_seen, pins, self.run, now, judge)
            for one in found:
                if one.state != "deleting":
                    self.record(one)
            self._delete_all(target, [one for one in found if one.state == "deleting"])

    def _judge_of(self, target: Target) -> Judge:
        repository = self.engine.open_repository(target.repository)

        def judge(one: Deletion) -> Deletion:
            try:
                return self._looked_at(repository, one)
            except RegistryError:
                return one  # what cannot be asked counts; its deletion will tell why

        return judge

    def _delete_all(self, target: Target, due: list[Deletion]) -> None:
        repository = self.engine.open_repository(target.repository)
        refusal: Deletion | None = None
        for one in due:
            if refusal is None and not self._may_go_on():
                return
            ended = self._delete(repository, one) if refusal is None else _as(one, refusal)
            if ended.kind == CannotDelete.__name__:
                refusal = ended  # the registry says so of all: it is not asked again
            self.record(ended)

    def _may_go_on(self) -> bool:
        return self.region in self.engine.ledger.gone.regions_to_do(self.run, [self.region])

    def record(self, one: Deletion) -> None:
        self.engine.ledger.gone.record(self.run, one, self.spec)

    def _delete(self, target: Repository, one: Deletion) -> Deletion:
        """In the turn of whoever moves the tag: a move comes before or after it, never in between."""
        with self.engine.ledger.turns.take_back(one.target, one.tag):
            try:
                return self._unless_guarded(target, one)
            except TagImmutable as error:
                return _ended(one, "kept", error)
            except RegistryError as error:
                return _ended(one, "failed", error)

    def _unless_guarded(self, target: Repository, one: Deletion) -> Deletion:
        if (looked_at := self._looked_at(target, one)).state != "deleting":
            return looked_at
        self.record(one)
        delete_for_good(target, one.tag, self.engine.patience.attempt)
        return replace(one, state="deleted")

    def _looked_at(self, target: Repository, one: Deletion) -> Deletion:
        """Whether it would go, by what the registries and the ledger say now."""
        held = self.held(target, one.tag)
        if held is None:
            known = self.engine.ledger.gone.deletion(self.run, one.tag, one.target)
            was_begun = known is not None and known.state == "deleting"
            return replace(one, state="deleted" if was_begun else "absent")
        guard = self._guard(one, held)
        return replace(one, state="kept", reason=guard) if guard else one

    def _guard(self, one: Deletion, held: str) -> str:
        """What speaks against it; empty where nothing does."""
        if held != one.digest and not is_tombstone(one.target, one.tag, held):
            return f"{THEIRS}, to {held}"
        if pin := self.engine.ledger.pins.of(self.spec.name, [one.tag]).get(one.tag):
            return pin.reason
        if self.engine.ledger.turns.claimed(one.target, one.tag)[0] > self.generation:
            return "a newer run has claimed it"
        return self.still_wanted(one)

    def still_wanted(self, one: Deletion) -> str:
        """Why the tag is not gone after all; empty where it is."""
        if self.held(self.source, one.tag) is not None:
            return "the source has it, although it does not list it"
        return ""

    def held(self, place: Source, tag: str) -> str | None:
        try:
            return self.engine.patience.attempt(lambda: place.resolve(tag)).digest
        except NotFound:
            return None


def _as(one: Deletion, refusal: Deletion) -> Deletion:
    return replace(one, state="failed", reason=refusal.reason, kind=refusal.kind)


def _ended(one: Deletion, state: DeletionState, error: RegistryError) -> Deletion:
    return replace(one, state=state, reason=str(error), kind=type(error).__name__)
