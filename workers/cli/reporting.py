"""``report`` and ``budget``: every outcome of a run as it is read, and what registries still allow."""

from __future__ import annotations

import csv
import json as json_format
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import options
from workers.cli.exits import Exit
from workers.cli.fleets import engine
from workers.cli.mirroring import refuse_fresh
from workers.cli.session import Session
from workers.cli.text import duration, moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirror.ledger.budgets import BudgetReport
    from mirror.report import TagReport

COLUMNS: tuple[str, ...] = (
    "repository",
    "tag",
    "digest",
    "target",
    "region",
    "state",
    "previous",
    "copied_bytes",
    "mounted_bytes",
    "kind",
    "reason",
)


def report(
    context: typer.Context,
    *,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, as `sealift runs` lists them.")],
    json: Annotated[bool, typer.Option("--json/--csv", help="JSON lines, or rows with a header.")] = True,
) -> Exit:
    """Print what became of every tag in every target: one JSON object or CSV row each.

    They are printed as they are read, however many there are.

    - `sealift report RUN --csv > run.csv`
    """
    session = Session.of(context)
    refuse_fresh(session, run)
    with engine(session, workers=False) as fleet:
        ledger = fleet.rt.ledger
        ledger.run_report(run)
        try:
            _write(_rows(ledger.tag_reports(run)), json=json)
        except BrokenPipeError:  # as of `| head`: whoever reads has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return Exit.DONE


def budget(context: typer.Context, *, json: options.Json = False) -> Exit:
    """Show what registries said they still allow this fleet, and which are left alone until when."""
    session = Session.of(context)
    session.console.json = json
    found: list[BudgetReport] = []
    if not session.is_fresh:
        with engine(session, workers=False) as fleet:
            found = fleet.rt.ledger.budgets.report()
    if json:
        session.console.document({"budgets": [one.document() for one in found]})
    elif found:
        _show_budgets(session, found)
    else:
        session.console.result("No registry has said that it counts pulls, and none is left alone.")
    return Exit.DONE


def _write(rows: Iterable[dict[str, Any]], *, json: bool) -> None:
    if json:
        sys.stdout.writelines(f"{json_format.dumps(row, ensure_ascii=False)}\n" for row in rows)
    else:
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    sys.stdout.flush()


def _rows(tags: Iterable[TagReport]) -> Iterator[dict[str, Any]]:
    for tag in tags:
        for target in tag.targets:
            yield {
                "repository": tag.repository,
                "tag": tag.tag,
                "digest": tag.digest,
                "target": target.repository,
                "region": target.region,
                "state": target.state,
                "previous": target.previous,
                "copied_bytes": target.moved.copied_bytes,
                "mounted_bytes": target.moved.mounted_bytes,
                "kind": target.kind,
                "reason": target.reason,
            }


def _show_budgets(session: Session, found: list[BudgetReport]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("REGISTRY", "COUNTED BY", "LEFT", "WINDOW", "UNTIL"):
        table.add_column(name, overflow="fold")
    for one in found:
        left = "left alone" if one.paused_until_s else f"{one.remaining} of {one.limit}"
        until = one.paused_until_s or one.until_s
        table.add_row(
            Text(one.host),
            Text(one.source or "-"),
            Text(left, style="yellow" if one.paused_until_s or not one.remaining else ""),
            duration(one.window_s) if one.window_s else "-",
            moment(until) if until else "-",
        )
    session.console.table(table)
