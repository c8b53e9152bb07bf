"""Follow: delete on the other sides of a two-way mirror what one side has deleted, if every guard agrees.

The last step of a run, as :mod:`mirror.prune` is where there is a source. It has one only where the run
listed every side, none of the lists was empty, and no tag failed. A tag is then deleted on a side where

- the run has looked at it on every side, and an earlier run had seen it deleted, long enough ago,
- no more tags would go from that side than its share of all that were agreed on,
- it still has the digest that all had, and nobody has pinned or claimed it,
- every side that was seen without it is still without it, and no other has moved it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Self

from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.ledger.deleted import Missed
from mirror.prune import THEIRS, Pruning, deletions_of, each_source, pins_of
from mirror.report import Deletion
from mirror.spec import MirrorSpec, Target
from registry.deletion import is_tombstone
from registry.errors import RegistryError


def follow(engine: Engine, run: str, region: str) -> None:
    """As :func:`mirror.prune.prune` does."""
    each_source(engine, run, region, _Following)


def to_follow(engine: Engine, listing: Ledger, run: str) -> Iterator[Deletion]:
    """What would go, and from when on, of what runs have seen deleted; ``listing`` has the plan's list."""
    whole, now = listing.spec(run), engine.ledger.now()
    for repository in listing.gone.repositories(run):
        spec = whole.of(repository)
        missed = dict(engine.ledger.conflicts.deleted.of(spec.name))
        seen = {tag: (one.since_s, one.first) for tag, one in missed.items()}
        put, pins = _agreed(engine, spec, spec.targets, missed), pins_of(engine, spec, seen)
        for target in spec.targets:
            for one in deletions_of(spec, target, put[target.repository], seen, pins, run, now):
                if one.target not in missed[one.tag].lacking:
                    yield one


class _Following(Pruning):
    """What sides of a mirror have deleted, in the sides of one region.

    A side that lacks the tag is asked, too: it may still be at its tombstone there.
    """

    missed: Mapping[str, Missed]

    @classmethod
    def of(cls, engine: Engine, run: str, spec: MirrorSpec, region: str) -> Self:
        rows = engine.ledger.conflicts.deleted.of(spec.name)
        missed = {tag: one for tag, one in rows if one.last == run}
        put = _agreed(engine, spec, spec.targets_of(region), missed)
        seen = {tag: (float(one.since_s), one.first) for tag, one in missed.items()}
        source, generation = engine.open_source(run, spec, region), engine.ledger.gone.generation(run)
        own = cls(engine, run, spec, region, source, generation, seen, put)
        own.missed = missed
        return own

    def _guard(self, one: Deletion, held: str) -> str:
        is_lacking = one.target in self.missed[one.tag].lacking
        if is_lacking and not is_tombstone(one.target, one.tag, held):
            return "it is there again"
        return super()._guard(one, held)

    def still_wanted(self, one: Deletion) -> str:
        known = self.engine.ledger.conflicts.known(self.spec, [one.tag])[one.tag]
        if known.missed is None or not one.digest == known.base == known.missed.base:
            return "what all sides agree on has changed"
        for side, held in self._others(one):
            if held is not None and side in known.missed.lacking:
                return f"{side} has it again"
            if held not in {None, one.digest}:
                return f"{THEIRS}, in {side} to {held}"
        return ""

    def record(self, one: Deletion) -> None:
        if one.target in self.missed[one.tag].lacking and one.state in {"waiting", "kept", "absent"}:
            return  # it is what the others are to follow
        super().record(one)
        if one.state not in {"deleted", "absent"}:
            return
        conflicts = self.engine.ledger.conflicts
        if one.state == "deleted":
            conflicts.deleted.lacks(self.spec.name, one.tag, one.target)
        with suppress(RegistryError):  # the next run sees that it is nowhere any more
            if all(held is None for _, held in self._others(one)):
                known = conflicts.known(self.spec, [one.tag])[one.tag]
                if known.missed is not None and known.base == one.digest:
                    conflicts.forget(self.spec, one.tag, known.read)

    def _others(self, one: Deletion) -> Iterator[tuple[str, str | None]]:
        """What each other side has of the tag now."""
        for target in self.spec.targets:
            if target.repository != one.target:
                side = self.engine.open_repository(target.repository)
                held = self.held(side, one.tag)
                is_gone = held is None or is_tombstone(side.name, one.tag, held)
                yield target.repository, None if is_gone else held


def _agreed(
    engine: Engine, spec: MirrorSpec, sides: tuple[Target, ...], missed: Mapping[str, Missed]
) -> dict[str, dict[str, str]]:
    """By side: what all agreed on, by tag; but for what was seen deleted while that was something else."""
    agreed = {
        tag: digest
        for tag, digest in engine.ledger.conflicts.agreed(spec.name)
        if tag not in missed or missed[tag].base == digest
    }
    return {side.repository: agreed for side in sides}
