"""Beat's scheduler: Celery's own, but it sends no sweep while nobody is there to take one.

Without a living worker the messages would only pile up in the control queue, one an interval, and a sweep
has nobody to send work to anyway.
"""

from __future__ import annotations

from typing import Any

from celery.beat import PersistentScheduler, ScheduleEntry

from tasks.runtime import runtime

SWEEP = "sealift.sweep"


class Scheduler(PersistentScheduler):
    """Named by ``beat_scheduler``, so that plain ``celery -A workers.app beat`` uses it too."""

    def apply_async(self, entry: ScheduleEntry, *args: Any, **kwargs: Any) -> Any:
        """Send what is due; None where there is nobody to take it."""
        if entry.task == SWEEP and not runtime().ledger.live_regions():
            return None
        return super().apply_async(entry, *args, **kwargs)
