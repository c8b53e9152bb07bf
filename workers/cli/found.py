"""What a verifying run has found, as a table by target, with what is wrong below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from mirror.report import ExtraReport, FoundReport, RunReport
from workers.cli.text import counted, duration, listed, moment, size

if TYPE_CHECKING:
    from mirror.ledger import Ledger
    from workers.cli.console import Console

MOST_LINES = 40
"""Reasons that are shown, unless all are asked for."""
WRONG = ("missing", "different", "damaged")
APART = ("behind", "held")
"""Nothing is wrong with them, and they are not equal everywhere."""
OTHERS = (*APART, "unchecked", "extra")
"""Columns that are left out where nothing is to be said in them."""


def show_found(
    console: Console, ledger: Ledger, report: RunReport, named: str, *, is_last: bool, everything: bool
) -> None:
    """Print it; what is extra is told, and nothing wrong. ``is_last``: nothing was done about it."""
    total = Counter[str]()
    for one in report.found:
        total.update({name: getattr(one, name) for name in ("verified", *WRONG, *OTHERS)})
    if report.found:
        _show_table(console, report.found, total)
    if sum(total[name] for name in (*WRONG, *APART, "unchecked")):
        _show_reasons(console, ledger, report, everything=everything)
    for line in _extra_lines(report.found, everything=everything):
        console.result(line)
    console.result(f"{named}{_closing_line(report, total)}")
    if line := pass_line(report):
        console.result(f"{named}{line}")
    if is_last and any(total[name] for name in WRONG):
        console.say("With --repair the same command mends it, and names what cannot be mended.")
    if is_last and total["behind"]:
        console.say("What is behind is copied by the mirror's next run; nothing is wrong with it.")
    if total["held"]:
        console.say(
            f"To do: `sealift conflicts {report.mirror}` shows what is left alone, and how to decide."
        )


def _show_table(console: Console, found: tuple[FoundReport, ...], total: Counter[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    names = ["verified", *WRONG, *(name for name in OTHERS if total[name])]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("TARGET", overflow="fold")
    for name in names:
        table.add_column(name.upper(), justify="right", no_wrap=True)
    for one in found:
        counts = {name: getattr(one, name) for name in names}
        cells = [
            Text(f"{count:,}" if count else "-", style="red" if count and name in WRONG else "")
            for name, count in counts.items()
        ]
        table.add_row(Text(one.repository), *cells)
    console.table(table)


def _show_reasons(console: Console, ledger: Ledger, report: RunReport, *, everything: bool) -> None:
    lines = _reasons(ledger, report.run)
    for line in islice(lines, None if everything else MOST_LINES):
        console.result(line)
    if not everything and next(lines, None) is not None:
        console.result(f"There is more: --all shows it, `sealift report {report.run}` prints it.")


def _reasons(ledger: Ledger, run: str) -> Iterator[str]:
    for tag in ledger.tag_reports(run):
        for reason in dict.fromkeys(one.reason for one in tag.targets if one.reason):
            yield reason if f":{tag.tag}: " in reason else f"{tag.label}: {reason}"


def _extra_lines(found: tuple[FoundReport, ...], *, everything: bool) -> Iterator[str]:
    """A line for each repository that is named, and how many there are beside them."""
    for one in found:
        shown = one.extras if everything else one.extras[:MOST_LINES]
        yield from map(_extra_line, shown)
        if left := one.extras_left + len(one.extras) - len(shown):
            more = counted(left, "repository")
            yield f"{one.repository}: {more} more with tags not of the mirror, or unknown"


def _extra_line(extra: ExtraReport) -> str:
    if extra.error:
        return f"{extra.repository}: whether it has tags beyond the mirror's is not known: {extra.error}"
    more = extra.count - len(extra.tags)
    names = listed([*extra.tags, *([f"{more:,} more"] if more else [])])
    return f"{extra.repository}: {counted(extra.count, 'tag')} not of the mirror: {names}"


def pass_line(report: RunReport) -> str:
    """Where the reading of all bytes is; empty of a run that reads none."""
    deep = report.deep
    if deep is None:
        return ""
    read = f"all bytes of {deep.read:,} of {counted(deep.tags, 'tag')} in targets are read"
    end = "; it is over" if deep.is_over else "; the next run goes on with it"
    began = moment(deep.began_s)
    return f"Deep pass since {began}: {read}, {size(deep.bytes)} by this run{end if report.ended else ''}."


def _closing_line(report: RunReport, total: Counter[str]) -> str:
    took = duration((report.finished_s or report.started_s) - report.started_s)
    if report.state == "cancelled":
        return f"Cancelled after {took}."
    if not report.tags:
        return f"Nothing to verify: no tag of {report.source} was selected."
    where = f"{counted(report.tags, 'tag')} in {counted(len(report.found), 'target')}"
    wrong = [f"{total[name]:,} {name}" for name in WRONG if total[name]]
    unchecked = f"{total['unchecked']:,} could not be checked" if total["unchecked"] else ""
    apart = [f"{total[name]:,} {name}" for name in APART if total[name]]
    if wrong or apart:
        word, others = ("Not whole", ".") if wrong else ("Not equal", "; all else is whole.")
        told = listed([*wrong, *apart, *filter(None, [unchecked])])
        return f"{word} ({took}): {told}; {where} were looked at{others}"
    if unchecked:
        word = "Verified" if report.state == "done" else "Not all verified"
        rest = ", the rest is whole" if total["verified"] else ""
        return f"{word} in {took}: {where}; {unchecked}{rest}."
    return f"Verified in {took}: {where}, all whole."
