"""What a task is about, read off its message: the fields that each line of its log carries."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.ledger.batches import Batches

_ABOUT_RUNS = frozenset({"sealift.enumerate", "sealift.prune"})
_ABOUT_NONE = frozenset({"sealift.sweep", "sealift.notify"})
_OF_A_RUN = ("run", "region")
_OF_A_BATCH = ("batch", "region", "blob")


def fields_of(task: str, args: Sequence[object]) -> dict[str, str]:
    """``run``, ``batch``, ``region`` and ``blob``, as far as the task's ids say; of other tasks nothing."""
    ids = [str(arg) for arg in args]
    if not task.startswith("sealift.") or task in _ABOUT_NONE or not ids:
        return {}
    if task in _ABOUT_RUNS:
        return dict(zip(_OF_A_RUN, ids, strict=False))
    return {"run": Batches.run_of(ids[0]), **dict(zip(_OF_A_BATCH, ids, strict=False))}


def fields_of_member(member: str) -> dict[str, str]:
    """The same of a run's or a batch's id."""
    return {"run": Batches.run_of(member), "batch": member} if "." in member else {"run": member}
