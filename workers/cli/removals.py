"""What becomes of tags that the source has no more: by target and reason, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from mirror.report import Deletion, DeletionState
from workers.cli.text import counted, moment, some

_ORDER: tuple[DeletionState, ...] = ("deleted", "absent", "deleting", "waiting", "kept", "failed")
Group = tuple[str, DeletionState, str, float]


def removal_lines(
    deletions: Sequence[Deletion], *, now_s: float, planned: bool = False, two_way: bool = False
) -> Iterator[str]:
    """``planned``: nothing of it was done, what may go now goes with the next run.

    ``two_way``: there is no source, another side has deleted them.
    """
    found = sorted(deletions, key=lambda one: (_group(one), one.tag))
    for group, members in groupby(found, key=_group):
        yield _line(group, [one.tag for one in members], now_s, planned=planned, two_way=two_way)


def _group(one: Deletion) -> tuple[int, Group]:
    due_s = one.due_s if one.state == "waiting" else 0.0
    return _ORDER.index(one.state), (one.target, one.state, one.reason, due_s)


def _line(placed: tuple[int, Group], tags: list[str], now_s: float, *, planned: bool, two_way: bool) -> str:
    target, state, reason, due_s = placed[1]
    names = f"{counted(len(tags), 'tag')} of {target} ({some(tags)})"
    gone = "Deleted on another side" if two_way else "Gone from the source"
    if state == "deleted":
        who = "another side has deleted it" if two_way else "the source has it no more"
        return f"Deleted, because {who}: {names}"
    if state == "absent":
        return f"{gone}, and there already: {names}"
    if state == "deleting":
        return f"{gone}, {'deleted by the next run' if planned else 'being deleted'}: {names}"
    if state == "waiting":
        when = f"after {moment(due_s)}" if due_s > now_s else "from now on"
        return f"{gone}, deleted by a run {when}: {names}"
    return f"{gone}, and {'kept' if state == 'kept' else 'not deleted'}: {names}: {reason}"
