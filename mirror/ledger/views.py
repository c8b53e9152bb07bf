"""A batch as Redis tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mirror.ledger.values import BatchState, View, associates_of, done_of, outcomes_of, resolved_of


def view_of(answers: Sequence[Any]) -> View:
    """From the answers to what a view asks for, in their order."""
    row, tags, outcomes, associates, (run_state, waits), (seconds, micros) = answers
    return View(
        state=state_of(row.get(b"state")),
        repository=row.get(b"repository", b"").decode(),
        done=done_of(row),
        resolved=resolved_of(row.get(b"tags"), tags),
        outcomes=outcomes_of(outcomes),
        associates=associates_of(associates),
        is_cancelled=run_state == b"cancelled",
        has_trouble=waits is not None or b"trouble" in row,
        now=seconds + micros / 1e6,
    )


def state_of(value: bytes | None) -> BatchState:
    """Of a batch that the ledger has no more: it is over."""
    return value.decode() if value else "concluded"  # type: ignore[return-value]  # scripts write only these
