"""The fleet that a command talks to: one that runs elsewhere, one that ``up`` runs here, or its own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from queue import Empty, SimpleQueue
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Literal

from workers.cli.exits import Exit, Stop
from workers.cli.session import Session
from workers.cli.text import counted, listed

if TYPE_CHECKING:
    from tasks.runtime import Runtime
    from workers.embedded import EmbeddedFleet
    from workers.supervisor import Death

WORKER_PATIENCE_S = 10.0
JOINED_PATIENCE_S = 3.0
"""The fleet of an ``up`` says which regions it serves: only a worker beside it can be on its way."""
SERVER_PATIENCE_S = 10.0
OUTAGE_S = 30.0
"""A command's own fleet waits out a blip; a name that is mistyped must not keep anybody for minutes."""
URL_VARIABLE = "SEALIFT_REDIS_URL"
Kind = Literal["external", "joined", "embedded"]


@dataclass
class Engine:
    """A fleet in reach: its runtime, and what a waiting command has to do for it meanwhile."""

    session: Session
    kind: Kind
    embedded: EmbeddedFleet | None = None
    served: tuple[str, ...] = ()
    """Regions that are known to have a worker, or to get one in a moment."""
    deaths: SimpleQueue[Death] = field(default_factory=SimpleQueue)
    works: bool = False
    """It is a fleet of the command's own that does what there is to do, and not only shows it."""
    needed: list[str] = field(default_factory=list)
    """Regions that this command's runs cannot do without."""
    _swept: float = field(default_factory=monotonic)
    _looked: float = field(default_factory=monotonic)
    _told_missing: list[str] = field(default_factory=list)

    @cached_property
    def rt(self) -> Runtime:
        import_module("workers.app")  # producers send by the app that it sets up
        from tasks.runtime import runtime

        return runtime()

    @property
    def outlives_command(self) -> bool:
        return self.kind != "embedded"

    def tick(self) -> None:
        """What falls due while one waits: the sweep of a fleet without beat, the news of dead workers."""
        self.report_deaths()
        self._miss_workers()
        interval_s = self.rt.settings.sweep_interval_s
        if monotonic() - self._swept >= interval_s:
            self.sweep()

    def sweep(self, older_than_s: float | None = None) -> None:
        from tasks import producer

        self._swept = monotonic()
        producer.sweep(self.rt, older_than_s=older_than_s)

    def report_deaths(self) -> None:
        """Say each once; a worker that cannot live ends the command."""
        while True:
            try:
                death = self.deaths.get_nowait()
            except Empty:
                return
            if death.hopeless:
                raise Stop(f"{death}; it died again and again, giving up", Exit.FAILED)
            self.session.console.say(f"{death}; starting it again")

    def need(self, regions: Iterable[str], *, wait: bool) -> None:
        """See to it that every region has a worker.

        On a fleet of others, a run that is waited for would wait for ever without one: Stop. A run that
        is only enqueued may find its workers later: a warning.
        """
        wanted = list(dict.fromkeys(regions))
        self.needed = list(dict.fromkeys((*self.needed, *wanted)))
        if self.embedded is not None:
            self.embedded.serve(wanted, self.session.settings.worker_processes)
            return
        patience_s = JOINED_PATIENCE_S if self.kind == "joined" else WORKER_PATIENCE_S
        missing = self._missing(wanted, patience_s if wait else 0.0)
        if not missing:
            return
        line = self._unserved(missing)
        if wait:
            raise Stop(line, Exit.CONFIGURATION)
        self.session.console.say(f"warning: {line}")

    def resume(self, watched: str = "") -> None:
        """Let runs go on that an earlier command on this state folder left open; says so of all but one."""
        if self.embedded is None:
            return
        ledger = self.rt.ledger
        left = [report for report in ledger.runs() if not report.ended and not report.rests]
        if not left:
            return
        self.need((region for report in left for region in ledger.spec(report.run).regions), wait=False)
        others = [f"{report.run} ({report.mirror})" for report in left if report.run != watched]
        if others:
            goes = "goes on" if len(others) == 1 else "go on"
            self.session.console.say(
                f"{counted(len(others), 'earlier run')} {goes} beside this: {listed(others)}"
            )
        self.sweep(older_than_s=0)  # no worker of the earlier command is left that could be at it

    def settle(self) -> None:
        """After the command's own work: workers that have nothing left to do need no time to stop."""
        if self.embedded is None or "rt" not in vars(self):
            return
        if self.works:
            self._tell_receivers()
        if all(report.ended or report.rests for report in self.rt.ledger.runs()):
            self.embedded.hurry.set()

    def _tell_receivers(self) -> None:
        """Of what has happened: the fleet ends with the command, and nobody would do it later."""
        if not self.session.fleet.notify:
            return
        from tasks import notify

        for receiver in self.session.fleet.notify:
            told = notify.tell(self.rt, self.session.fleet, receiver, settle_s=0.0)
            if told:
                self.session.console.say(told)

    def _unserved(self, missing: list[str]) -> str:
        served = sorted(self.rt.ledger.live_regions() | set(self.served))
        others = f" (workers serve {listed(served)})" if served else ""
        return (
            f"no worker serves {listed(missing)}{others}: start one with "
            f"`sealift worker --region {missing[0]}`, or check the region's name"
        )

    def _miss_workers(self) -> None:
        """Say once that a region of the runs one waits for has lost its workers: nothing else would."""
        if self.embedded is not None or monotonic() - self._looked < WORKER_PATIENCE_S:
            return
        self._looked = monotonic()
        missing = self._missing(self.needed, 0.0)
        if missing and missing != self._told_missing:
            self.session.console.say(f"warning: {self._unserved(missing)}; waiting for one")
        self._told_missing = missing

    def _missing(self, wanted: list[str], patience_s: float) -> list[str]:
        """Those without a worker; one that is just starting is given a moment to be heard of."""
        deadline = monotonic() + patience_s
        told = False
        while True:
            alive = self.rt.ledger.live_regions() | set(self.served)
            missing = [region for region in wanted if region not in alive]
            if not missing or monotonic() >= deadline:
                return missing
            if not told:
                told = True
                self.session.console.say(f"waiting for a worker of {listed(missing)}")
            threading.Event().wait(0.25)


@contextmanager
def engine(session: Session, regions: Iterable[str] = (), *, workers: bool = True) -> Iterator[Engine]:
    """The fleet for one command; with ``workers`` an embedded one begins to serve ``regions`` at once."""
    before = os.environ.get(URL_VARIABLE)
    opened = _reach(session) or _embed(session, regions, workers=workers)
    try:
        yield opened
        opened.settle()
    finally:
        _restore(before)
        with _hurrying(opened.embedded):
            if "rt" in vars(opened):
                opened.rt.close()
            if opened.embedded is not None:
                opened.embedded.close()


def _reach(session: Session) -> Engine | None:
    """A fleet that runs already."""
    if session.is_external:
        return Engine(session, "external")
    card = session.state.joinable()
    if card is None:
        return None
    from workers.server import await_server, socket_of

    await_server(socket_of(card.url), SERVER_PATIENCE_S)
    os.environ[URL_VARIABLE] = card.url
    return Engine(session, "joined", served=card.regions)


def _embed(session: Session, regions: Iterable[str], *, workers: bool) -> Engine:
    from workers.embedded import EmbeddedFleet

    deaths: SimpleQueue[Death] = SimpleQueue()
    fleet = EmbeddedFleet(session.state, deaths.put, outage_s=OUTAGE_S)
    opened = Engine(session, "embedded", fleet, deaths=deaths, works=workers)
    try:
        fleet.open()
        if workers:
            fleet.serve(regions, session.settings.worker_processes)
        os.environ[URL_VARIABLE] = fleet.url
        import_module("workers.app")  # the slow imports of a command, while its server starts

        fleet.await_server()
    except BaseException:
        fleet.close()
        raise
    return opened


def _restore(url: str | None) -> None:
    os.environ.pop(URL_VARIABLE, None)
    if url is not None:
        os.environ[URL_VARIABLE] = url


@contextmanager
def _hurrying(fleet: EmbeddedFleet | None) -> Iterator[None]:
    """While a fleet is being stopped, another Ctrl-C makes it quick and never leaves half of it running."""
    if fleet is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def hurry(_signum: int, _frame: FrameType | None) -> None:
        fleet.hurry.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, hurry) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
