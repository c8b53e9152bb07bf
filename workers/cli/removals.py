"""What becomes of tags that the source has no more: by target and reason, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from mirror.report import Deletion, DeletionState
from workers.cli.text import counted, moment, some

_ORDER: tuple[DeletionState, ...] = ("deleted", "absent", "deleting", "waiting", "kept", "failed")
Group = tuple[str, DeletionState, str, float]


def removal_lines(deletions: Sequence[Deletion], *, now_s: float, planned: bool = False) -> Iterator[str]:
    """``planned``: nothing of it was done, what may go now goes with the next run."""
    found = sorted(deletions, key=lambda one: (_group(one), one.tag))
    for group, members in groupby(found, key=_group):
        yield _line(group, [one.tag for one in members], now_s, planned=planned)


def _group(one: Deletion) -> tuple[int, Group]:
    due_s = one.due_s if one.state == "waiting" else 0.0
    return _ORDER.index(one.state), (one.target, one.state, one.reason, due_s)


def _line(placed: tuple[int, Group], tags: list[str], now_s: float, *, planned: bool) -> str:
    target, state, reason, due_s = placed[1]
    names = f"{counted(len(tags), 'tag')} of {target} ({some(tags)})"
    if state == "deleted":
        return f"Deleted, because the source has it no more: {names}"
    if state == "absent":
        return f"Gone from the source, and there already: {names}"
    if state == "deleting":
        return f"Gone from the source, {'deleted by the next run' if planned else 'being deleted'}: {names}"
    if state == "waiting":
        when = f"after {moment(due_s)}" if due_s > now_s else "from now on"
        return f"Gone from the source, deleted by a run {when}: {names}"
    why = "Gone from the source, and kept" if state == "kept" else "Gone from the source, and not deleted"
    return f"{why}: {names}: {reason}"
