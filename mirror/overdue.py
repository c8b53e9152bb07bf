"""What a list of all tags of a two-way mirror's sides settles beside what it is about."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mirror.engine import Engine
from mirror.spec import MirrorSpec


def follow_up(
    engine: Engine, run: str, spec: MirrorSpec, sides: Sequence[Collection[str]], chosen: Collection[str]
) -> list[str]:
    """Tags to be looked at although no side has them: once agreed on, or left alone. Sorted.

    ``sides``: what each lists; ``chosen``: of that what the mirror is about. What is open about other tags
    is closed, and deletions become the last step of the run: where each side has shown a list, since one
    without any tag has lost its repository rather than deleted everything. Else they are conflicts.
    """
    listed = set[str]().union(*sides)
    agreed = set(engine.ledger.conflicts.agreed_tags(spec.name))
    is_open = {one.tag for one in engine.ledger.conflicts.open(spec.name)}
    if spec.kind == "two_way":
        close_unselected(engine, run, spec, {*chosen, *((agreed | is_open) - listed)})
        if spec.carries_deletions and all(sides):
            engine.ledger.gone.want(run, spec)
    return sorted((agreed | is_open) - listed)


def close_unselected(engine: Engine, run: str, spec: MirrorSpec, chosen: Collection[str]) -> None:
    """Take off the list what is open about tags that the mirror is not about any more."""
    conflicts = engine.ledger.conflicts
    if not engine.ledger.gone.is_at_work(run):
        return  # a plan changes nothing
    left = {one.tag for one in conflicts.open(spec.name)}.difference(chosen)
    if left:
        conflicts.close(spec.name, left, run, "unselected")
    if spec.carries_deletions:
        conflicts.deleted.forget(
            spec.name, [tag for tag, _ in conflicts.deleted.of(spec.name) if tag not in chosen]
        )
    else:
        conflicts.deleted.forget_all(spec.name)
