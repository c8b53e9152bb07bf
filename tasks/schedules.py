"""Runs that begin by themselves: what the schedules of the fleet file say, as one beat sees them."""

from __future__ import annotations

import logging
import math
import time
from datetime import UTC, datetime
from pathlib import Path

from kombu.exceptions import OperationalError

from config.cron import last_slot, next_slot, slots_between
from config.fleet import Fleet, load_fleet
from config.problems import FleetError
from config.settings import Settings
from mirror.ledger.schedules import ScheduleRefused
from tasks import canvas
from tasks.passes import Probing
from tasks.runtime import Runtime, fleet_of
from tasks.scheduled import Scheduled, scheduled
from tasks.terms import check_fleet
from tasks.unserved import Unserved
from tasks.watched import names_of

MOST_COUNTED = 10_000
"""Slots that nobody dealt with are counted up to here: a week of minutes."""

REFUSED_S = 60
"""Until a mirror whose schedule Redis refuses is looked at again."""

LONGEST_S = 5.0
"""How long mirrors are seen to at a time: meanwhile this beat neither says that it lives nor sends sweeps."""

logger = logging.getLogger(__name__)


class FleetFile:
    """The fleet file, read again when it has changed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: tuple[int, ...] | None = None
        self._fleet = Fleet()
        self.was_right = False
        """Whether it ever was: before, nobody knows what the fleet has, and nothing may be forgotten."""

    def latest(self) -> Fleet:
        """As it is now; where it is wrong or gone, as it was before, or an empty one."""
        seen = _signature(self._settings.fleet_file)
        if seen != self._seen:
            was_there, self._seen = bool(seen or self._seen), seen
            try:
                fleet = load_fleet(self._settings.fleet_file) if was_there else fleet_of(self._settings)
                check_fleet(fleet)
            except FleetError as error:
                logger.error("the fleet file is wrong, so what it said before holds: %s", error)  # noqa: TRY400 - whoever wrote it needs no trace
            else:
                self._fleet, self.was_right = fleet, True
        return self._fleet


class Schedules:
    """Starts what is due. To be asked by the one beat that sends."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._file = FleetFile(rt.settings)
        self._probing = Probing(rt)
        self._fleet: Fleet | None = None
        """What was seen to last; None: nothing."""
        self._unserved = Unserved()
        self._next: dict[str, int] = {}
        """By mirror: the slot before which there is nothing to do."""

    def forget(self) -> None:
        """Another beat may have sent meanwhile, by another file even: look at everything again."""
        self._fleet = None
        self._next.clear()

    def run_due(self, now_s: float) -> float:
        """Start mirrors whose slot has come; the seconds until there is more to do, 0 where there is already.

        ``now_s`` is the server's time. LedgerError where Redis is away: then this may be asked again.
        """
        fleet, began = self._file.latest(), time.monotonic()
        if not self._file.was_right:
            return LONGEST_S
        if fleet is not self._fleet:
            self._know(fleet)
        for one in scheduled(fleet):
            if self._next.get(one.name, 0) <= now_s:
                try:
                    self._see_to(fleet, one, now_s)
                except ScheduleRefused as error:  # the others, and the sweeper, go on
                    self._next[one.name] = int(now_s) + REFUSED_S
                    logger.error("its schedule cannot be seen to: %s", error, extra={"mirror": one.name})  # noqa: TRY400 - where it is from says the text
                if time.monotonic() - began > LONGEST_S:
                    return 0.0
        self._unserved.look(self._rt.ledger, fleet, now_s)
        slots_s = min(self._next.values(), default=math.inf) - now_s
        return max(0.0, min(slots_s, self._probing.run_due(fleet, now_s)))

    @property
    def fleet(self) -> Fleet:
        """The fleet file as it was read last."""
        return self._file.latest()

    def _know(self, fleet: Fleet) -> None:
        self.forget()
        self._rt.ledger.totals.admit(names_of(fleet))
        self._rt.ledger.schedules.keep_only(one.name for one in scheduled(fleet))
        receivers = [one.name for one in fleet.notify]
        self._rt.ledger.receivers.keep_only(receivers)
        self._rt.ledger.receivers.meet(receivers)
        self._fleet = fleet

    def _see_to(self, fleet: Fleet, one: Scheduled, now_s: float) -> None:
        slot = last_slot(one.cron, now_s)
        before = self._rt.ledger.schedules.look(one.name, one.cron, slot, now_s)
        if before < slot:
            self._take(fleet, one, before, slot)
            self._unserved.slot(one.mirror.name, [target.region for target in one.mirror.targets], now_s)
        self._next[one.name] = next_slot(one.cron, now_s)

    def _take(self, fleet: Fleet, one: Scheduled, before: int, slot: int) -> None:
        between = slots_between(one.cron, before, slot, MOST_COUNTED)
        spec, ledger = one.spec(fleet), self._rt.ledger
        taken = ledger.schedules.take(spec, one.lane, one.cron, before, slot, between, one.name)
        if taken is None:
            return
        about = {"mirror": one.name, "run": taken.run}
        at = f"{datetime.fromtimestamp(slot, UTC):%Y-%m-%d %H:%M} UTC"
        if missed := between[2]:
            logger.warning("slots were missed, as no beat was at work: %d", missed, extra=about)
        if not taken.is_started:
            logger.warning("the slot of %s is missed: run %s is under way", at, taken.run, extra=about)
            return
        logger.info("run %s of mirror %s begins, by its slot of %s", taken.run, one.name, at, extra=about)
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
