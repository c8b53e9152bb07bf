"""Waiting for runs: look, show, look again; until they end, the time is over or somebody interrupts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING

from mirror.report import RunReport
from workers.cli.exits import Exit, Stop, is_broker_error
from workers.cli.fleets import Engine
from workers.cli.outlook import hosts_of
from workers.cli.progress import display
from workers.cli.summary import until
from workers.cli.text import duration, listed

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from mirror.ledger.budgets import BudgetReport

QUICK_S, QUICK_INTERVAL_S = 3.0, 0.02
INTERVAL_S = 0.25
BUDGETS_INTERVAL_S = 2.0
BROKER_PATIENCE_S = 30.0


def wait_for(engine: Engine, runs: Sequence[str], timeout_s: float | None = None) -> list[RunReport]:
    """Every run as it ended; raises Stop when the time is over or on Ctrl-C, saying how to go on."""
    began = monotonic()
    told: set[str] = set()
    try:
        look = Look(engine.rt.ledger, runs)
        with display(engine.session.console) as shown:
            while True:
                reports, budgets = _outlasting(engine, look)
                shown.update(reports, budgets)
                _tell_waits(engine, reports, told)
                waited = monotonic() - began
                left = [report.run for report in reports if not report.ended]
                if not left:
                    return reports
                if timeout_s is not None and waited >= timeout_s:
                    raise _unfinished(engine, left, timeout_s)
                engine.tick()
                Event().wait(QUICK_INTERVAL_S if waited < QUICK_S else INTERVAL_S)
    except KeyboardInterrupt:
        raise Stop(f"interrupted; {how_to_go_on(engine, runs)}", Exit.INTERRUPTED) from None


@dataclass
class Look:
    """One look at runs: an exchange for each, and now and then two for what their registries allow."""

    ledger: Ledger
    runs: Sequence[str]
    _budgets: list[BudgetReport] = field(default_factory=list)
    _looked: float = -inf

    def __call__(self) -> tuple[list[RunReport], list[BudgetReport]]:
        reports = [self.ledger.run_report(run) for run in self.runs]
        if monotonic() - self._looked >= BUDGETS_INTERVAL_S:
            self._looked = monotonic()
            self._budgets = self.ledger.budgets.report(hosts_of(self.ledger, reports))
        return reports, self._budgets


def _tell_waits(engine: Engine, reports: Sequence[RunReport], told: set[str]) -> None:
    """Say what a run waits out, once: a registry that is away, or a name that is mistyped."""
    for report in reports:
        if report.rests and report.run not in told:
            told.add(report.run)
            resume = f"`sealift resume {report.run}` lets it go on, Ctrl-C leaves"
            word = "paused" if report.is_paused else "only planned"
            engine.session.console.say(f"{report.mirror}: {word}; {resume}")
        if report.waits and report.waits not in told:
            told.add(report.waits)
            waiting = f"{report.mirror}: waiting{until(report)}, because {report.waits}"
            engine.session.console.say(f"{waiting}; it is tried again, Ctrl-C leaves")


def how_to_go_on(engine: Engine, runs: Sequence[str]) -> str:
    """What becomes of runs that this command leaves, and how to see them again."""
    watch = listed([f"`sealift watch {run}`" for run in runs])
    if engine.outlives_command:
        return f"the fleet goes on: {watch} shows it, `sealift cancel {runs[0]}` stops it"
    return f"nothing is lost: {watch} goes on from here"


def _unfinished(engine: Engine, left: list[str], timeout_s: float) -> Stop:
    return Stop(f"not finished after {duration(timeout_s)}; {how_to_go_on(engine, left)}", Exit.UNFINISHED)


def _outlasting(engine: Engine, look: Look) -> tuple[list[RunReport], list[BudgetReport]]:
    """Look, through a short absence of the broker: the fleet gets over it too."""
    deadline = monotonic() + BROKER_PATIENCE_S
    told = False
    while True:
        try:
            return look()
        except (
            Exception
        ) as error:  # a border: which errors mean the broker is for the ledger's library to say
            if not is_broker_error(error) or monotonic() > deadline:
                raise
        engine.report_deaths()
        if not told:
            told = True
            engine.session.console.say("the broker does not answer; waiting for it")
        Event().wait(INTERVAL_S)
