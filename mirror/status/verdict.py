"""In one word how a mirror stands, and why."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.ledger.standing import Standing
from mirror.status.tags import Said
from mirror.status.values import State, TagStatus

_WRONG = frozenset({"unsigned", "different", "missing", "damaged"})


def verdict(
    standing: Standing,
    tags: Sequence[TagStatus],
    targets: Sequence[str],
    said: Said,
    *,
    down: Sequence[str],
    conflicts: int,
) -> tuple[State, str]:
    """The worst that is known: down before differs before behind.

    ``targets``: those that are shown, as the mirror has them; ``down``: hosts.
    """
    if down:
        return "down", f"{', '.join(down)} cannot be reached"
    if wrong := _differs(standing, tags, targets, conflicts):
        return "differs", wrong
    behind = sum(one.behind_since is not None for one in tags)
    behind += max((standing.behind.more.get(name, 0) for name in targets), default=0)
    if behind:
        return "behind", f"{_tags(behind)} moved at the source and not everywhere yet"
    if not standing.runs or not tags:
        error = next((said(run.error) for run in reversed(standing.runs) if run.error), "")
        return "unknown", f"the last run failed: {error}" if error else "no run of the last 7 days is known"
    if unknown := [one for one in tags if any(held.state == "unknown" for held in one.held)]:
        return "unknown", f"of {_tags(len(unknown))} it is not known what every registry holds"
    return "in step", "every registry holds the same"


def _differs(standing: Standing, tags: Sequence[TagStatus], targets: Sequence[str], conflicts: int) -> str:
    if conflicts:
        return f"{_tags(conflicts)} moved on several sides: somebody has to decide"
    apart = [
        one for one in tags if one.behind_since is None and any(held.state in _WRONG for held in one.held)
    ]
    if apart:
        return f"{_tags(len(apart))} not the same everywhere"
    found = [standing.wrong.get(name, {}) for name in targets]
    if wrong := sum(count for one in found for word, count in one.items() if word != "behind"):
        return f"verifying found {_tags(wrong)} missing, different or damaged"
    return ""


def _tags(count: int) -> str:
    return f"{count:,} tag{'' if count == 1 else 's'}"
