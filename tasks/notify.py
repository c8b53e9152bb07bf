"""Telling receivers what has happened: at least once, gathered into few messages, from one place at a time.

What is to be told is in the ledger (:mod:`mirror.ledger.events`), and how far each receiver is. Whoever has
the receiver's lease tells it all that it has not been told, in one message, and moves it on. A kill in
between has the same events told once more, and the message says so.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from celery import shared_task

from config.fleet import Fleet
from config.notification import Receiver
from config.problems import FleetError
from mirror.ledger.events import Event
from mirror.ledger.receivers import Standing
from mirror.ledger.totals import series
from mirror.notices import message
from tasks import canvas
from tasks.receivers import NotReached, send
from tasks.runtime import Runtime, runtime

AT_WORK = "notify"
"""The place of the lease of whoever tells a receiver."""
MOST = 500
"""Events that one message is made of; the next one has the rest."""
OLDEST_S = 86400.0
"""An event that could not be told for so long is told no more."""
HOUR_S = 3600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 15.0, 900.0
"""After an attempt that failed: the pause doubles."""
LOST = "lost"
"""As what events are counted that were gone before they could be read."""

logger = logging.getLogger(__name__)
logger.addHandler(logging.NullHandler())  # a command says itself what came of it


@shared_task(name="sealift.notify", send_events=False)
def notify_task(receiver: str) -> str:
    """Tell a receiver what it has not been told; a copy of the message does nothing."""
    rt = runtime()
    return next((tell(rt, rt.fleet, one) for one in rt.fleet.notify if one.name == receiver), "")


def send_due(rt: Runtime) -> None:
    """Have each receiver told for which there is something, by a task of its own: none waits for another."""
    for receiver in due(rt, rt.fleet):
        canvas.send_notify(receiver.name)


def due(rt: Runtime, fleet: Fleet) -> list[Receiver]:
    """Receivers that may be told something now; who is new is met, and told what comes from now on."""
    if not fleet.notify:
        return []
    standings, last, now = rt.ledger.receivers.standings(), rt.ledger.receivers.last_event(), rt.ledger.now()
    rt.ledger.receivers.meet(one.name for one in fleet.notify if one.name not in standings)
    known = [(one, standings[one.name]) for one in fleet.notify if one.name in standings]
    return [one for one, standing in known if standing.cursor != last and standing.next_s <= now]


def tell(rt: Runtime, fleet: Fleet, receiver: Receiver, settle_s: float | None = None) -> str:
    """Tell the receiver what it is to be told, once that is old enough; what came of it, for people.

    ``settle_s``: for how long events are gathered first; None: as the settings say.
    """
    lease = rt.ledger.content.leases.take(AT_WORK, receiver.name)
    if lease is None:
        return ""
    try:
        rt.ledger.receivers.meet([receiver.name])
        standing = rt.ledger.receivers.standing(receiver.name)
        patience_s = rt.settings.notify_settle_s if settle_s is None else settle_s
        return _Turn(rt, fleet, receiver, standing or Standing(), patience_s).take()
    finally:
        rt.ledger.content.leases.release(lease)


def takes(receiver: Receiver, event: Event) -> bool:
    """Whether a receiver is to be told of it."""
    if receiver.on and event.name not in receiver.on:
        return False
    about = event.mirrors
    return not about or any(fnmatchcase(mirror, glob) for mirror in about for glob in receiver.mirrors)


@dataclass(slots=True)
class _Turn:
    """One receiver's, by whoever has its lease."""

    rt: Runtime
    fleet: Fleet
    receiver: Receiver
    standing: Standing
    settle_s: float

    def take(self) -> str:
        now = self.rt.ledger.now()
        events = self._pending()
        if not events or self.standing.next_s > now:
            return ""
        wanted = [e for e in events if e.at_s > now - OLDEST_S and takes(self.receiver, e)]
        dropped = self._dropped(events, now)
        if not wanted:
            self._put(self._past(events[-1]), dropped)
            return ""
        if not self.standing.until and now - wanted[0].at_s < self.settle_s:
            return ""
        told = [at for at in self.standing.sent if at > now - HOUR_S]
        if len(told) >= self.receiver.per_hour:
            self._put(replace(self.standing, next_s=told[0] + HOUR_S, is_held=True), Counter())
            return ""
        return self._send(wanted, events[-1], told, dropped)

    def _pending(self) -> list[Event]:
        """What it has not been told; after an interruption, what was being told it then and no more."""
        events = self.rt.ledger.events.after(self.standing.cursor, MOST)
        if self.standing.until:
            before = [e for e in events if _order(e.id) <= _order(self.standing.until)]
            return before or events
        return events

    def _send(
        self, wanted: Sequence[Event], last: Event, told: Sequence[float], dropped: Counter[str]
    ) -> str:
        is_repeated, held = bool(self.standing.until), len(wanted) if self.standing.is_held else 0
        if not is_repeated and not self._put(replace(self.standing, until=last.id), Counter()):
            return ""
        now = self.rt.ledger.now()
        is_last = len(told) + 1 >= self.receiver.per_hour
        quiet_until = (told[0] if told else now) + HOUR_S if is_last else None
        text = message(wanted, held, quiet_until, is_repeated=is_repeated)
        try:
            send(self.fleet, self.receiver, text)
        except (NotReached, FleetError) as error:
            return self._failed(wanted, str(error))
        done = replace(self._past(last), sent=(*told, now))
        self._put(done, dropped + self._counts(wanted, "sent"))
        events_are = "1 event" if len(wanted) == 1 else f"{len(wanted)} events"
        return f"receiver {self.receiver.name} was told of {events_are}"

    def _failed(self, wanted: Sequence[Event], error: str) -> str:
        now, tries = self.rt.ledger.now(), self.standing.tries
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 10))
        failed = replace(
            self.standing,
            until="",
            tries=tries + 1,
            next_s=now + pause_s,
            failing_s=self.standing.failing_s or now,
            error=error,
        )
        self._put(failed, self._counts(wanted, "failed"))
        at = f"{datetime.fromtimestamp(failed.next_s, UTC):%H:%M:%S} UTC"
        text = "receiver %s is not reached: %s; it is tried again at %s"
        logger.warning(text, self.receiver.name, error, at)
        return f"receiver {self.receiver.name} is not reached: {error}"

    def _past(self, last: Event) -> Standing:
        """It needs to be told nothing up to this one any more, and is well as far as is known."""
        return Standing(cursor=last.id, number=last.number, sent=self.standing.sent)

    def _dropped(self, events: Sequence[Event], now: float) -> Counter[str]:
        old = [e for e in events if e.at_s <= now - OLDEST_S and takes(self.receiver, e)]
        counted = self._counts(old, "dropped")
        if lost := events[0].number - self.standing.number - 1:
            counted[series("notifications", receiver=self.receiver.name, event=LOST, outcome="dropped")] = (
                lost
            )
        return counted

    def _counts(self, events: Sequence[Event], outcome: str) -> Counter[str]:
        name = self.receiver.name
        return Counter(series("notifications", receiver=name, event=e.name, outcome=outcome) for e in events)

    def _put(self, standing: Standing, counted: Counter[str]) -> bool:
        moved = self.rt.ledger.receivers.put(self.receiver.name, self.standing, standing, counted)
        if moved is None:
            return False  # somebody else has had the lease meanwhile
        self.standing = moved
        return True


def _order(identity: str) -> tuple[int, int]:
    milliseconds, _, place = identity.partition("-")
    return int(milliseconds), int(place)
