"""The one place where anything is tried again: transient faults, with growing waits, inside a budget."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from mirror.telling import tell_attempt
from registry.errors import Throttled, Transient

T = TypeVar("T")
LONGEST_HELD_S = 10.0
"""How long a registry that says how long is waited for in a worker's slot."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long one exchange is tried; waits double from ``first_wait_s``, with jitter."""

    attempts: int = 5
    budget_s: float = 60.0
    first_wait_s: float = 0.25
    wait: Callable[[float], None] = time.sleep

    def attempt(self, action: Callable[[], T]) -> T:
        """Return what ``action`` returns; its last Transient once attempts or budget are used up.

        Anything but Transient rises at once. The budget counts from the first fault: what went well for long
        before it, as a large blob may, has used up none of it. A registry that asks for more patience than
        the budget has, or than a worker's slot may be held for, is not asked again.
        """
        deadline: float | None = None
        for attempt in range(self.attempts):
            try:
                return action()
            except Transient as error:
                pause = self.pause(attempt, error)
                deadline = deadline or time.monotonic() + self.budget_s
                spent = attempt + 1 == self.attempts or time.monotonic() + pause > deadline
                if spent or self.is_too_long(error):
                    raise
                tell_attempt(error, attempt + 1, pause)
                self.wait(pause)
        raise ValueError("attempts must be positive")

    def is_too_long(self, error: Transient) -> bool:
        """Whether it has to be waited for in the ledger: work pauses, not worker slots (G7)."""
        asked = error.retry_after_s if isinstance(error, Throttled) else None
        return (asked or 0.0) > min(LONGEST_HELD_S, self.budget_s)

    def pause(self, attempt: int, error: Transient) -> float:
        """Seconds to wait after the failed attempt of that number, counted from 0."""
        backoff: float = self.first_wait_s * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
        asked = error.retry_after_s if isinstance(error, Throttled) else None
        return max(backoff, asked or 0.0)
