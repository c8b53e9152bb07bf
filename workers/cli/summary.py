"""How a run ended: a table per tag and target, one closing line, or the whole as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from mirror.report import Moved, RunReport, TagReport, TargetReport
from workers.cli.exits import Exit
from workers.cli.progress import listed_states
from workers.cli.text import counted, duration, size

if TYPE_CHECKING:
    from rich.table import Table

    from mirror.ledger import Ledger
    from workers.cli.console import Console

MOST_ROWS = 40
"""Above it a table shows only what went wrong, unless all of it is asked for."""
AUTHENTICATION = frozenset({"Unauthorized", "Denied"})
FINE = frozenset({"current", "updated"})
_COLOURS = {"updated": "green", "current": "dim", "failed": "red", "pending": "cyan"}


def show(console: Console, ledger: Ledger, reports: Sequence[RunReport], *, everything: bool) -> Exit:
    """Print how the runs stand; returns the exit code that says the same."""
    code = exit_code(ledger, reports)
    if console.json:
        document = {"exit_code": int(code)}
        console.document(document, runs=(_run_document(ledger, report) for report in reports))
        return code
    for report in reports:
        _show_run(console, ledger, report, everything=everything)
    return code


def exit_code(ledger: Ledger, reports: Iterable[RunReport]) -> Exit:
    """0 where nothing failed; 4 where all that failed did so for want of a right, else 1."""
    kinds: set[str] = set()
    for report in reports:
        if report.state in {"done", "open"} and not report.states.get("failed"):
            continue
        kinds |= {report.error_kind} if report.error else _kinds(ledger, report)
    if not kinds:
        return Exit.DONE
    return Exit.AUTHENTICATION if kinds <= AUTHENTICATION else Exit.FAILED


def closing_line(report: RunReport) -> str:
    """The run in one sentence."""
    took = duration(report.finished_s - report.started_s) if report.finished_s else ""
    moved = sum((region.moved for region in report.regions), Moved())
    bytes_text = _moved_text(moved)
    states = {state: count for state, count in report.states.items() if state != "pending"}
    if report.state == "cancelled":
        return f"Cancelled after {took}: {listed_states(states) or 'no tag was moved'}."
    if report.error:
        return f"Failed after {took}: {report.error}"
    if not report.ended:
        done = sum(states.values())
        return f"Under way: {done} of {counted(report.tags, 'tag')} done{_bracket(listed_states(states))}."
    if not report.tags:
        return f"Nothing to do: no tag of {report.source} was selected."
    if set(states) == {"current"}:
        return f"Nothing to do: {counted(report.tags, 'tag')} current everywhere ({took})."
    word = "Done" if report.state == "done" else "Failed"
    total = f" of {counted(report.tags, 'tag')}" if len(states) > 1 else " tag" + "s" * (report.tags != 1)
    counts = listed_states(states) + total if len(states) > 1 else _single(states)
    return f"{word} in {took}: {counts}{'; ' + bytes_text if bytes_text else ''}."


def _single(states: dict[str, int]) -> str:
    ((state, count),) = states.items()
    return f"{counted(count, 'tag')} {state}"


def _bracket(text: str) -> str:
    return f" ({text})" if text else ""


def _moved_text(moved: Moved) -> str:
    parts = (
        (moved.copied_bytes, "copied"),
        (moved.mounted_bytes, "mounted"),
        (moved.present_bytes, "already there"),
    )
    return ", ".join(f"{size(count)} {how}" for count, how in parts if count)


def _kinds(ledger: Ledger, report: RunReport) -> set[str]:
    """The errors of a run's failures by class; an unnamed one counts as no matter of rights."""
    failed = (tag for tag in ledger.tag_reports(report.run) if tag.state not in FINE)
    targets = (target for tag in failed for target in tag.targets if target.state not in FINE)
    found = {target.kind or target.state for target in targets}
    # A target is held back where another one failed: only the failure itself says why.
    return (found - {"pending", "held", "waiting", "superseded", "cancelled"}) or {
        report.error_kind or "failed"
    }


def _show_run(console: Console, ledger: Ledger, report: RunReport, *, everything: bool) -> None:
    table, left_out = _table(ledger, report, everything=everything)
    if table.row_count:
        console.table(table)
    if left_out:
        console.result(f"{counted(left_out, 'row')} without trouble not shown; --all shows them.")
    console.result(closing_line(report))


def _table(ledger: Ledger, report: RunReport, *, everything: bool) -> tuple[Table, int]:
    rows = _rows(ledger.tag_reports(report.run))
    head = list(islice(rows, MOST_ROWS + 1))
    is_long = len(head) > MOST_ROWS and not everything
    left_out = 0
    shown: list[tuple[TagReport, TargetReport]] = []
    for tag, target in chain(head, rows):
        if is_long and target.state in FINE | {"pending"}:
            left_out += 1
        else:
            shown.append((tag, target))
    return _drawn(shown, has_regions=len(report.regions) > 1), left_out


def _rows(tags: Iterable[TagReport]) -> Iterator[tuple[TagReport, TargetReport]]:
    return ((tag, target) for tag in tags for target in tag.targets)


def _drawn(rows: list[tuple[TagReport, TargetReport]], *, has_regions: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    reasons = any(target.reason or tag.reason for tag, target in rows)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name, shown in (("TAG", True), ("TARGET", True), ("REGION", has_regions), ("RESULT", True)):
        if shown:
            table.add_column(name, overflow="fold")
    for name in ("COPIED", "MOUNTED", "ALREADY THERE"):
        table.add_column(name, justify="right", no_wrap=True)
    if reasons:
        table.add_column("WHY", overflow="fold")
    for tag, target in rows:
        cells: list[Text | str] = [Text(tag.tag), Text(target.repository)]
        cells += [Text(target.region)] if has_regions else []
        cells.append(Text(target.state, style=_COLOURS.get(target.state, "yellow")))
        moved = target.moved
        cells += [_cell(n) for n in (moved.copied_bytes, moved.mounted_bytes, moved.present_bytes)]
        cells += [Text(target.reason or tag.reason)] if reasons else []
        table.add_row(*cells)
    return table


def _cell(count: int) -> str:
    return size(count) if count else "-"


def _run_document(ledger: Ledger, report: RunReport) -> dict[str, Any]:
    """One run with its tags; tags are read batch by batch but held together, a run at a time."""
    return {**report.document(), "tag_reports": [asdict(tag) for tag in ledger.tag_reports(report.run)]}
