"""Beat's scheduler: Celery's own, for the one of several beats that sends, with the fleet file's schedules.

It needs no file: what a beat must remember is in the ledger. It sends no sweep while nobody is there to take
one: the messages would only pile up in the control queue, and a sweep has nobody to send work to anyway.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cached_property
from typing import Any

from celery.beat import ScheduleEntry
from celery.beat import Scheduler as CeleryScheduler

from config.settings import Settings
from mirror.ledger import LedgerError
from tasks.broker import BrokerUnreachable
from tasks.runtime import runtime
from tasks.schedules import Schedules
from workers.heartbeat import Heartbeat
from workers.herald import Herald

SWEEP = "sealift.sweep"
STANDBY_S = 5.0
"""Until a beat that does not send looks again whether it should."""
RETRY_S = 2.0
"""Until a Redis that does not answer is asked again."""

logger = logging.getLogger(__name__)


class Scheduler(CeleryScheduler):
    """Named by ``beat_scheduler``, so that plain ``celery -A workers.app beat`` uses it too."""

    def __init__(self, *args: Any, **options: Any) -> None:
        """As Celery's."""
        self._heartbeat = Heartbeat(Settings().heartbeat_file)
        self._leads: bool | None = None
        super().__init__(*args, **options)

    def tick(self, *args: Any, **options: Any) -> float:
        """Send what is due, where this beat is the one that sends; the seconds until there may be more."""
        try:
            now_s = self._lead()
            wait_s = 0.0 if now_s is None else self._schedules.run_due(now_s)
        except (LedgerError, BrokerUnreachable) as error:
            logger.warning("Redis does not answer; beat tries again in %s s: %s", RETRY_S, error)
            self._heartbeat.say("waiting")
            return RETRY_S
        self._heartbeat.beat()
        if now_s is None:
            return STANDBY_S
        return min(wait_s, float(super().tick(*args, **options)))

    def apply_async(self, entry: ScheduleEntry, *args: Any, **kwargs: Any) -> Any:
        """Send what is due; None where there is nobody to take it: then beat tells receivers itself."""
        if entry.task == SWEEP and not runtime().ledger.live_regions():
            self._herald.tell(runtime(), self._schedules.fleet)
            return None
        return super().apply_async(entry, *args, **kwargs)

    def close(self) -> None:
        """Let another beat send at once."""
        if self._leads:
            self._leads = False
            with suppress(LedgerError, BrokerUnreachable):
                runtime().ledger.schedules.step_down()
        super().close()

    @cached_property
    def _herald(self) -> Herald:
        return Herald()

    @cached_property
    def _schedules(self) -> Schedules:
        return Schedules(runtime())

    def _lead(self) -> float | None:
        """The server's time where this beat sends."""
        now_s = runtime().ledger.schedules.lead()
        leads = now_s is not None
        if leads != self._leads:
            logger.info("this beat sends" if leads else "another beat sends; this one stands by")
            self._leads = leads
            self._schedules.forget()
        return now_s
