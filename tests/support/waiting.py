"""Waiting for what is about to be true, with a deadline, instead of for some time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class StillWaiting(AssertionError):
    """The condition did not come true in time."""


def until(
    condition: Callable[[], T],
    timeout_s: float,
    what: str | Callable[[], str],
    interval_s: float = 0.02,
) -> T:
    """The first true value of ``condition``, which is asked every ``interval_s`` seconds.

    Raises StillWaiting after ``timeout_s`` seconds with ``what``, a text or a function that is called only
    then and can therefore tell how far things got.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        if value := condition():
            return value
        if time.monotonic() >= deadline:
            detail = what if isinstance(what, str) else what()
            raise StillWaiting(f"after {timeout_s:g} s still waiting for {detail}")
        pause.wait(interval_s)


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> bool:
    """Whether ``condition`` comes true in time, for an ``assert`` of its own."""
    try:
        return until(condition, within_s, "the condition", interval_s=0.01)
    except StillWaiting:
        return False
