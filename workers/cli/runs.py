"""``runs``, ``status``, ``watch``, ``retry`` and ``cancel``: what became of runs, and another try."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import options
from workers.cli.exits import Exit, Stop
from workers.cli.fleets import Engine, engine
from workers.cli.mirroring import refuse_ended, refuse_fresh, see_through
from workers.cli.progress import listed_states
from workers.cli.session import Session
from workers.cli.text import duration

if TYPE_CHECKING:
    from mirror.report import RunReport

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, as `sealift runs` lists them.")]


def runs(
    context: typer.Context,
    *,
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help="So many, the newest first.")
    ] = 20,
    json: options.Json = False,
) -> Exit:
    """List the last runs."""
    session = _session(context, json=json)
    found: list[RunReport] = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            found = fleet.rt.ledger.runs(limit)
    if json:
        session.console.document({"runs": [report.document() for report in found]})
    elif found:
        _show_runs(session, found)
    else:
        session.console.result("No runs yet.")
    return Exit.DONE


def status(
    context: typer.Context, *, run: Run, all_rows: options.All = False, json: options.Json = False
) -> Exit:
    """Show one run as it stands now."""
    from workers.cli.summary import show

    session = _session(context, json=json)
    refuse_fresh(session, run)
    with engine(session, workers=False) as fleet:
        report = fleet.rt.ledger.run_report(run)
        code = show(session.console, fleet.rt.ledger, [report], everything=all_rows)
        if not report.ended and not fleet.outlives_command:
            session.console.say(f"No fleet is working on it: `sealift watch {run}` goes on with it.")
        return code


def watch(
    context: typer.Context,
    *,
    run: Run,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Wait for a run; one that was interrupted on this machine goes on."""
    session = _session(context, json=json)
    refuse_fresh(session, run)

    def take_up(fleet: Engine) -> list[str]:
        if not fleet.rt.ledger.run_report(run).ended:
            fleet.need(fleet.rt.ledger.spec(run).regions, wait=True)
        return [run]

    return see_through(session, (), take_up, wait=True, timeout_s=timeout, everything=all_rows, watched=run)


def retry(
    context: typer.Context,
    *,
    run: Run,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only tags that failed: none that were cancelled, no new list.")
    ] = False,
    no_wait: options.NoWait = False,
    timeout: options.Timeout = None,
    all_rows: options.All = False,
    json: options.Json = False,
) -> Exit:
    """Try again what failed in a run or was cancelled, as a new run; where nothing did it is done."""
    session = _session(context, json=json)
    refuse_fresh(session, run)

    def again(fleet: Engine) -> list[str]:
        from tasks import producer

        _find_failed(fleet.rt.ledger.run_report(run), failed_only=failed)
        fleet.need(fleet.rt.ledger.spec(run).regions, wait=not no_wait)
        return [producer.retry(fleet.rt, run, failed_only=failed)]

    return see_through(session, (), again, wait=not no_wait, timeout_s=timeout, everything=all_rows)


def pause(context: typer.Context, *, run: Run, json: options.Json = False) -> Exit:
    """Begin nothing further of a run until it is resumed; what is under way is finished."""
    from tasks import producer

    return _steer(
        context,
        run,
        json=json,
        action=lambda fleet: producer.pause(fleet.rt, run),
        done=f"{run} is paused; `sealift resume {run}` lets it go on.",
        not_done=f"{run} was paused already.",
    )


def resume(context: typer.Context, *, run: Run, json: options.Json = False) -> Exit:
    """Let a paused run go on from where it is; nothing of it is listed or looked at again."""
    from tasks import producer

    return _steer(
        context,
        run,
        json=json,
        action=lambda fleet: producer.resume(fleet.rt, run),
        done=f"{run} goes on; `sealift watch {run}` shows how.",
        not_done=f"{run} was not paused; `sealift watch {run}` shows how it goes.",
    )


def _steer(
    context: typer.Context,
    run: str,
    *,
    json: bool,
    action: Callable[[Engine], bool],
    done: str,
    not_done: str,
) -> Exit:
    session = _session(context, json=json)
    refuse_fresh(session, run)
    with engine(session, workers=False) as fleet:
        refuse_ended(fleet.rt.ledger.run_report(run))
        line = done if action(fleet) else not_done
        after = fleet.rt.ledger.run_report(run)
    if json:
        session.console.document({"exit_code": 0, "run": after.document()})
    else:
        session.console.result(line)
    return Exit.DONE


def cancel(context: typer.Context, *, run: Run, json: options.Json = False) -> Exit:
    """End a run: nothing more is copied, no more tags are moved; those that were moved stay."""
    from tasks import producer

    session = _session(context, json=json)
    refuse_fresh(session, run)
    with engine(session, workers=False) as fleet:
        before = fleet.rt.ledger.run_report(run)
        if not before.ended:
            producer.cancel(fleet.rt, run)
        after = fleet.rt.ledger.run_report(run)
    if json:
        session.console.document({"exit_code": 0, "run": after.document()})
    elif before.ended:
        session.console.result(f"{run} had ended already ({before.state}).")
    else:
        session.console.result(f"{run} is cancelled.")
    return Exit.DONE


def _find_failed(report: RunReport, *, failed_only: bool) -> None:
    """Stop where there is nothing to try again, before anything is started for it."""
    is_wanted = report.states.get("failed")
    if is_wanted or (not failed_only and (report.error or report.states.get("cancelled"))):
        return
    if not report.ended:
        raise Stop(
            f"run {report.run} is still under way, and nothing has failed: `sealift watch {report.run}`",
            Exit.USAGE,
        )
    raise Stop(f"Nothing to do: no tag of run {report.run} failed.", Exit.DONE)


def _session(context: typer.Context, *, json: bool) -> Session:
    session = Session.of(context)
    session.console.json = json
    return session


def _show_runs(session: Session, found: list[RunReport]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("RUN", "MIRROR", "STATE", "TAGS", "STARTED", "TOOK"):
        table.add_column(name, overflow="fold")
    colours = {"done": "green", "failed": "red", "open": "cyan", "paused": "yellow"}
    for report in found:
        took = duration(report.finished_s - report.started_s) if report.finished_s else "-"
        state = "paused" if report.is_paused else report.state
        table.add_row(
            report.run,
            Text(report.mirror if report.kind == "mirror" else f"{report.mirror} ({report.kind})"),
            Text(state, style=colours.get(state, "yellow")),
            _tags(report),
            f"{duration(time.time() - report.started_s)} ago",
            took,
        )
    session.console.table(table)


def _tags(report: RunReport) -> str:
    if not report.tags:
        return "-"
    pending = report.states.get("pending", 0)
    states = listed_states(report.states)
    return f"{states}, {pending} pending" if pending and states else states or f"{pending} pending"
