"""``schedules``: what ran when by itself, what did not and why, what comes next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from workers.cli import options
from workers.cli.exits import Exit
from workers.cli.fleets import engine
from workers.cli.session import Session
from workers.cli.text import counted, duration, moment

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from mirror.ledger.schedules import ScheduleReport
    from tasks.scheduled import Scheduled

BEAT_PATIENCE_S = 30.0
"""A beat that was not seen for so long does not run: another would have taken its place."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One mirror's schedule: by the fleet file, and by the ledger."""

    one: Scheduled
    report: ScheduleReport
    run_state: str
    """Of the run that was started last; empty where there is none, or none is remembered."""
    next_s: int

    def document(self) -> dict[str, Any]:
        own = {"cron": self.one.cron, "lane": self.one.lane, "run_state": self.run_state or None}
        return {**self.report.document(), **own, "next_s": self.next_s}


def schedules(context: typer.Context, *, json: options.Json = False) -> Exit:
    """Show the fleet file's schedules: the last slot and run, the next slot, what was missed and why."""
    session = Session.of(context)
    session.console.json = json
    session.check_fleet()
    from mirror.ledger.schedules import ScheduleReport

    rows: list[_Row] = []
    seen_ago_s: float | None = None
    if session.is_fresh:
        rows = [_row(one, ScheduleReport(one.name), "") for one in _scheduled(session)]
    elif any(_scheduled(session)):
        with engine(session, workers=False) as fleet:
            rows, seen_ago_s = _look(session, fleet.rt.ledger)
    if json:
        documents = [row.document() for row in rows]
        session.console.document({"schedules": documents, "beat_seen_ago_s": seen_ago_s})
    elif not rows:
        session.console.result("No mirror of the fleet file has a schedule.")
    else:
        _show(session, rows)
        _say_beat(session, seen_ago_s)
    return Exit.DONE


def _scheduled(session: Session) -> Iterator[Scheduled]:
    from tasks.scheduled import scheduled

    return scheduled(session.fleet)


def _look(session: Session, ledger: Ledger) -> tuple[list[_Row], float | None]:
    now_s, seen_s = ledger.now(), ledger.schedules.beat_seen_s()
    rows = []
    for one in _scheduled(session):
        report = ledger.schedules.report(one.name)
        rows.append(_row(one, report, _state_of(ledger, report.run), now_s))
    return rows, None if seen_s is None else max(0.0, now_s - seen_s)


def _row(one: Scheduled, report: ScheduleReport, run_state: str, now_s: float | None = None) -> _Row:
    from config.cron import next_slot

    return _Row(one, report, run_state, next_slot(one.cron, time.time() if now_s is None else now_s))


def _state_of(ledger: Ledger, run: str) -> str:
    from mirror.ledger import UnknownRun

    try:
        report = ledger.run_report(run)
    except UnknownRun:  # none was started, or it is forgotten: runs are kept for 30 days
        return ""
    return "paused" if report.is_paused else report.state


def _show(session: Session, rows: list[_Row]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("MIRROR", "CRON", "LAST SLOT", "LAST RUN", "NEXT SLOT", "MISSED"):
        table.add_column(name, overflow="fold")
    for row in rows:
        report = row.report
        table.add_row(
            Text(report.mirror),
            Text(row.one.cron),
            "-" if report.slot_s is None else moment(report.slot_s),
            Text(_last_run(row)),
            moment(row.next_s),
            Text(_missed(report), style="yellow" if report.missed else ""),
        )
    session.console.table(table)


def _last_run(row: _Row) -> str:
    report = row.report
    if report.run_slot_s is None or report.started_s is None:
        return "-"
    late_s = report.started_s - report.run_slot_s
    late = f", {duration(late_s)} late" if late_s >= 60 else ""
    return f"{report.run} {row.run_state or 'forgotten'} ({moment(report.run_slot_s)}{late})"


def _missed(report: ScheduleReport) -> str:
    if not report.misses:
        return "-"
    last = report.misses[0]
    return f"{counted(report.missed, 'slot')}, last {moment(last.last_s)}: {last.reason}"


def _say_beat(session: Session, seen_ago_s: float | None) -> None:
    if seen_ago_s is None:
        session.console.say("No beat was ever at work: start `sealift beat`, or `sealift up`.")
    elif seen_ago_s > BEAT_PATIENCE_S:
        ago = duration(seen_ago_s)
        session.console.say(f"No beat is at work, the last one was {ago} ago: start `sealift beat`.")
