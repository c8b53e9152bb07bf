"""Tags that are only behind: what they are to be came after the last copy."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.ledger.batches import Outcome, Outcomes, Resolved
from mirror.ledger.history import Flip
from mirror.ledger.verified import BEHIND, DIFFERENT, MISSING
from mirror.stage import Stage


def behind(stage: Stage, found: Outcomes) -> Outcomes:
    """Those of the tags that are only not copied yet, each as such.

    In a two-way mirror all that its sides do not agree about: one was pushed at, or the tag would be left
    alone. Else what the target still is as the mirror itself has made it: so it was the source that moved.
    """
    apart = {pair: one for pair, one in found.items() if one.kind in {MISSING, DIFFERENT}}
    if not apart:
        return {}
    resolved = {one.tag: one for one in stage.tags}
    if stage.spec.is_two_way:
        late = [pair for pair in apart if not _is_pinned(resolved[pair[0]])]
    else:
        late = _as_we_left_them(stage, apart)
    return {pair: _not_copied(pair, apart[pair], resolved[pair[0]]) for pair in late}


def _not_copied(pair: tuple[str, str], apart: Outcome, one: Resolved) -> Outcome:
    (tag, name), wanted = pair, one.descriptor.digest if one.descriptor else ""
    is_at = f"is still at {apart.previous}" if apart.previous else "has no such tag yet"
    return Outcome("failed", f"{name}:{tag}: {is_at}; {wanted} is not copied yet", BEHIND, apart.previous)


def _as_we_left_them(stage: Stage, apart: Outcomes) -> list[tuple[str, str]]:
    moved = {pair: one for pair, one in apart.items() if one.previous}
    history = stage.engine.ledger.history.of(stage.spec.name, sorted({tag for tag, _ in moved}))
    return [
        (tag, name)
        for (tag, name), one in moved.items()
        if one.previous == _put_last(history.get(tag, ()), name)
    ]


def _is_pinned(one: Resolved) -> bool:
    return one.merged is not None and one.merged.kind == "pinned"


def _put_last(flips: Sequence[Flip], target: str) -> str | None:
    """What the mirror's last move of a tag in the target has made of it."""
    return next((flip.to for flip in flips if target in flip.previous), None)
