"""Runs that begin by themselves: what the schedules of the fleet file say, as one beat sees them."""

from __future__ import annotations

import logging
import math
from datetime import UTC, datetime
from pathlib import Path

from kombu.exceptions import OperationalError

from config.cron import last_slot, next_slot, slots_between
from config.fleet import Fleet, Mirror
from config.problems import FleetError
from config.settings import Settings
from mirror.ledger.schedules import ScheduleRefused
from tasks import canvas
from tasks.runtime import Runtime, fleet_of
from tasks.terms import check_fleet, spec_of
from tasks.watched import names_of

MOST_COUNTED = 10_000
"""Slots that nobody dealt with are counted up to here: a week of minutes."""

REFUSED_S = 60
"""Until a mirror whose schedule Redis refuses is looked at again."""

logger = logging.getLogger(__name__)


class FleetFile:
    """The fleet file, read again when it has changed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: tuple[int, ...] | None = None
        self._fleet = Fleet()

    def latest(self) -> Fleet:
        """As it is now; where it is wrong, as it was before."""
        seen = _signature(self._settings.fleet_file)
        if seen != self._seen:
            self._seen = seen
            try:
                fleet = fleet_of(self._settings)
                check_fleet(fleet)
            except FleetError as error:
                logger.error("the fleet file is wrong, so what it said before holds: %s", error)  # noqa: TRY400 - whoever wrote it needs no trace
            else:
                self._fleet = fleet
        return self._fleet


class Schedules:
    """Starts what is due. To be asked by the one beat that sends."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._file = FleetFile(rt.settings)
        self._fleet = Fleet()
        self._next: dict[str, int] = {}
        """By mirror: the slot before which there is nothing to do."""

    def forget(self) -> None:
        """Another beat may have sent meanwhile: look at everything again."""
        self._next.clear()

    def run_due(self, now_s: float) -> float:
        """Start each mirror whose slot has come; the seconds until the next one comes.

        ``now_s`` is the server's time. LedgerError where Redis is away: then this may be asked again.
        """
        fleet = self._file.latest()
        if fleet is not self._fleet:
            self._rt.ledger.totals.admit(names_of(fleet))
            self._fleet = fleet
            self.forget()
        for mirror in fleet.mirrors:
            if mirror.schedule and self._next.get(mirror.name, 0) <= now_s:
                try:
                    self._see_to(mirror, mirror.schedule, now_s)
                except ScheduleRefused as error:  # the others, and the sweeper, go on
                    self._next[mirror.name] = int(now_s) + REFUSED_S
                    logger.error("its schedule cannot be seen to: %s", error, extra={"mirror": mirror.name})  # noqa: TRY400 - where it is from says the text
        return max(0.0, min(self._next.values(), default=math.inf) - now_s)

    def _see_to(self, mirror: Mirror, cron: str, now_s: float) -> None:
        slot = last_slot(cron, now_s)
        before = self._rt.ledger.schedules.look(mirror.name, cron, slot)
        if before < slot:
            self._take(mirror, cron, before, slot)
        self._next[mirror.name] = next_slot(cron, now_s)

    def _take(self, mirror: Mirror, cron: str, before: int, slot: int) -> None:
        spec = spec_of(mirror, self._fleet)
        between = slots_between(cron, before, slot, MOST_COUNTED)
        taken = self._rt.ledger.schedules.take(spec, mirror.lane, cron, before, slot, between)
        if taken is None:
            return
        about = {"mirror": mirror.name, "run": taken.run}
        at = f"{datetime.fromtimestamp(slot, UTC):%Y-%m-%d %H:%M} UTC"
        if between:
            logger.warning("slots were missed, as no beat was at work: %d", len(between), extra=about)
        if not taken.is_started:
            logger.warning("the slot of %s is missed: run %s is under way", at, taken.run, extra=about)
            return
        logger.info("run %s of mirror %s begins, by its slot of %s", taken.run, mirror.name, at, extra=about)
        try:
            canvas.send_enumerate(self._rt.ledger, taken.run)
        except OperationalError:
            logger.warning("Redis takes no message now; the sweeper sends it", extra=about)


def _signature(path: Path) -> tuple[int, ...]:
    """Changes with the file; that of what a link leads to, since Kubernetes swaps such links."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return (found.st_mtime_ns, found.st_size, found.st_ino)
