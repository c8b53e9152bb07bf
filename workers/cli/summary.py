"""How a run ended: a table per tag and target, one closing line, or the whole as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import chain, islice
from time import time
from typing import TYPE_CHECKING, Any

from mirror.report import FOLLOWS, Deletion, Moved, RunReport, TagReport, TargetReport
from workers.cli.exits import Exit
from workers.cli.found import pass_line, show_found
from workers.cli.outlook import absent, absent_line, budget_lines, document, hosts_of, pace_line
from workers.cli.progress import listed_states
from workers.cli.removals import removal_lines
from workers.cli.text import counted, duration, listed, moment, size

if TYPE_CHECKING:
    from rich.table import Table

    from mirror.ledger import Ledger
    from mirror.ledger.budgets import BudgetReport
    from workers.cli.console import Console

MOST_READ = 1000
"""Of a run with more tags none is read, unless all of them are asked for: what is counted says enough."""
MOST_ROWS = 40
"""Above it a table shows only what went wrong, unless all of it is asked for."""
WORTH_SAYING_S = 60.0
MOST_NAMED = 6
"""Tags that share a reason, before the rest is only counted."""
AUTHENTICATION = frozenset({"Unauthorized", "Denied"})
FINE = frozenset({"current", "updated"})
_REMEDIES = {
    "Unauthorized": "log in with `docker login {end}`, or give the registry's account in the fleet file",
    "Denied": "give the account the right at that registry",
    "NotFound": "check the names of source and tag",
    "Unreachable": "check that the registry runs and its name and port are right",
    "Throttled": "wait until the registry allows more",
    "DigestMismatch": "where the source holds damaged bytes, push the image there again",
    "Unsupported": "leave the tag out with --exclude, or push it to the source again in a newer format",
}
"""What helps, by the kind of failure; kinds whose reason says it all are left out."""
_END = re.compile(r"[^\s/]+(?=/)")
"""The host that a registry's error begins with."""
_DIGITS = re.compile(r"(\d+)")
Row = tuple[TagReport, TargetReport]
_COLOURS = {"updated": "green", "current": "dim", "failed": "red", "pending": "cyan"}


def show(
    console: Console,
    ledger: Ledger,
    reports: Sequence[RunReport],
    *,
    everything: bool,
    code: Exit | None = None,
) -> Exit:
    """Print how the runs stand; returns the exit code that says the same, or ``code``."""
    code = exit_code(reports) if code is None else code
    if console.json:
        document = {"exit_code": int(code)}
        runs = (_run_document(ledger, report, everything=everything) for report in reports)
        console.document(document, runs=runs)
        return code
    for number, report in enumerate(reports):
        if number:
            console.result()
        named = f"{report.mirror}: " if len(reports) > 1 else ""
        if report.kind == "verify" and report.ended and not report.error:
            is_last = all(one.kind != "repair" for one in reports)
            show_found(console, ledger, report, named, is_last=is_last, everything=everything)
            continue
        _show_run(console, ledger, report, named, everything=everything)
    return code


def exit_code(reports: Iterable[RunReport]) -> Exit:
    """0 where nothing failed; 4 where all that failed did so for want of a right, else 1.

    A tag that a two-way mirror leaves alone is no success either: somebody has to decide.
    """
    kinds: set[str] = set()
    for report in reports:
        if is_undecided(report):
            kinds.add("held")
        if report.state in {"done", "open", "planned"} and not report.states.get("failed"):
            continue
        if report.deletions.get("failed"):
            kinds.add("failed")
            continue
        kinds |= {report.error_kind} if report.error else _kinds(report)
    if not kinds:
        return Exit.DONE
    return Exit.AUTHENTICATION if kinds <= AUTHENTICATION else Exit.FAILED


def is_undecided(report: RunReport) -> bool:
    """Whether tags of a two-way mirror are left alone until somebody decides."""
    is_held = report.kind == "two_way" and bool(report.states.get("held"))
    return is_held or any(one.held for one in report.found)


def until(report: RunReport) -> str:
    """`` until 14:05 UTC``; nothing where that is only moments away."""
    at_s = report.waits_until_s or 0.0
    return f" until {moment(at_s)}" if at_s - time() > WORTH_SAYING_S else ""


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
        return _not_ended(report, states)
    if not report.tags:
        return f"Nothing to do: no tag of {report.source} was selected."
    removed = _removed(report)
    if set(states) == {"current"} and not removed:
        return f"Nothing to do: {_tags(report)} current everywhere ({took})."
    word = "Done" if report.state == "done" else "Failed"
    several = f"{listed_states(states)} of {_tags(report)}"
    counts = several if len(states) > 1 else f"{_single(states)}{_in_repositories(report)}"
    return f"{word} in {took}: {counts}{'; ' + bytes_text if bytes_text else ''}{removed}."


def _removed(report: RunReport) -> str:
    """What was deleted, or could not be."""
    words = {"deleted": "deleted", "failed": "could not be deleted"}
    counts = [(report.deletions.get(state, 0), word) for state, word in words.items()]
    return "".join(f"; {counted(count, 'tag')} {word}" for count, word in counts if count)


def _not_ended(report: RunReport, states: dict[str, int]) -> str:
    if report.state == "planned":
        begins = f"`sealift backfill --resume {report.run}` begins it"
        return f"Planned: {_tags(report)}, nothing of it is begun; {begins}."
    done = sum(states.values())
    waits = f" Waiting{until(report)}, because {report.waits}." if report.waits else ""
    if report.is_paused:
        waits = f" Paused; `sealift resume {report.run}` lets it go on."
    listing = "" if report.listed else ", the listing goes on"
    tags = f"{done:,} of {_tags(report)} done{_bracket(listed_states(states))}"
    return f"Under way: {tags}{listing}.{waits}"


def _remedy(report: RunReport, rows: list[Row]) -> str:
    """What to do about a failed run, by the kinds of its failures."""
    faults = [(report.error_kind, report.error), *((target.kind, target.reason) for _, target in rows)]
    faults += [(kind, one.reason) for one in report.failures for kind in one.kinds]
    ends = {kind: found[0] for kind, reason in faults if (found := _END.match(reason))}
    kinds = {kind for kind, _ in faults}
    helps = [text.format(end=ends.get(kind, "HOST")) for kind, text in _REMEDIES.items() if kind in kinds]
    if report.deletions.get("failed"):
        return "The mirror's next run tries again what could not be deleted."
    again = f"`sealift retry {report.run}` tries again what failed"
    return f"To do: {'; '.join(helps)}. Then {again}." if helps else f"{again}."


def _tags(report: RunReport) -> str:
    """``12 tags``, ``12 tags in 3 repositories``."""
    return f"{counted(report.tags, 'tag')}{_in_repositories(report)}"


def _in_repositories(report: RunReport) -> str:
    if report.repositories is None:
        return ""
    return f" in {counted(report.repositories, 'repository')}"


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


def _kinds(report: RunReport) -> set[str]:
    """The errors of a run's failures by class; an unnamed one counts as no matter of rights."""
    return {kind for one in report.failures for kind in one.kinds or ("failed",)} or {"failed"}


def _show_run(console: Console, ledger: Ledger, report: RunReport, named: str, *, everything: bool) -> None:
    is_read = everything or report.tags <= MOST_READ
    rows, left_out = _chosen(ledger, report, everything=everything) if is_read else ([], 0)
    if not is_read:
        _show_counts(console, report)
    if rows:
        console.table(_table(rows, has_regions=len(report.regions) > 1))
    if left_out:
        console.result(f"{counted(left_out, 'row')} without trouble not shown; --all shows them.")
    for line in _reasons(rows):
        console.result(line)
    if not report.ended:
        ahead = (*budget_lines(budgets_of(ledger, report)), pace_line(report), pass_line(report))
        for line in filter(None, (*ahead, absent_line(absent(ledger, report)))):
            console.result(line)
    is_two_way = report.kind == "two_way"
    for line in removal_lines(_deletions(ledger, report), now_s=time(), two_way=is_two_way):
        console.result(line)
    console.result(f"{named}{closing_line(report)}")
    if report.state == "failed":
        console.say(_remedy(report, rows))
    if is_undecided(report):
        console.say(
            f"To do: `sealift conflicts {report.mirror}` shows what is left alone, and how to decide."
        )


def _deletions(ledger: Ledger, report: RunReport) -> list[Deletion]:
    return ledger.gone.deletions(report.run) if report.deletions else []


def _show_counts(console: Console, report: RunReport) -> None:
    """By region and by reason, instead of by tag."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("REGION", no_wrap=True)
    for name in ("LANDED", "MOVED", "COPIED", "MOUNTED", "ALREADY THERE"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in report.regions:
        counts = (one.moved.copied_bytes, one.moved.mounted_bytes, one.moved.present_bytes)
        table.add_row(
            one.region, f"{one.tags_landed:,}", f"{one.tags_flipped:,}", *(_cell(count) for count in counts)
        )
    console.table(table)
    for failure in report.failures:
        example = f", such as {listed(list(failure.examples))}" if failure.examples else ""
        console.result(f"{counted(failure.count, 'tag')} failed{example}: {failure.reason}")
    console.result(f"Tags are not shown one by one; `sealift report {report.run}` prints each, --all all.")


def budgets_of(ledger: Ledger, report: RunReport) -> list[BudgetReport]:
    """What the registries of the run still allow."""
    return ledger.budgets.report(hosts_of(ledger, [report]))


def _chosen(ledger: Ledger, report: RunReport, *, everything: bool) -> tuple[list[Row], int]:
    """The rows to show, versions in their order, and how many are left out because nothing is wrong."""
    rows = ((tag, target) for tag in ledger.tag_reports(report.run) for target in tag.targets)
    head = list(islice(rows, MOST_ROWS + 1))
    is_long = len(head) > MOST_ROWS and not everything
    left_out = 0
    shown: list[Row] = []
    for tag, target in chain(head, rows):
        if is_long and target.state in FINE | {"pending"}:
            left_out += 1
        else:
            shown.append((tag, target))
    return sorted(shown, key=lambda row: by_number(row[0].label)), left_out


def by_number(tag: str) -> list[tuple[int, str]]:
    """``v0.9`` before ``v0.10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(tag)]


def _reasons(rows: list[Row]) -> list[str]:
    """Why tags failed, each reason once: below the table, where a long one does not squeeze columns."""
    tags: dict[str, list[str]] = {}
    for tag, target in rows:
        reason = target.reason or tag.reason
        if reason and tag.label not in tags.setdefault(reason, []):
            tags[reason].append(tag.label)
    return [
        f"{_some(names)}: {reason}"
        for reason, names in tags.items()
        if reason.removeprefix(FOLLOWS) == reason or reason.removeprefix(FOLLOWS) not in tags
    ]


def _some(names: list[str]) -> str:
    if len(names) <= MOST_NAMED:
        return listed(names)
    return f"{', '.join(names[: MOST_NAMED - 1])} and {len(names) - MOST_NAMED + 1} more"


def _table(rows: list[Row], *, has_regions: bool) -> Table:
    """Columns of bytes only where there are some: most runs need one of the three."""
    from rich.table import Table
    from rich.text import Text

    counts = {"COPIED": "copied_bytes", "MOUNTED": "mounted_bytes", "ALREADY THERE": "present_bytes"}
    counts = {
        name: key for name, key in counts.items() if any(getattr(target.moved, key) for _, target in rows)
    }
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("TAG", "TARGET"):
        table.add_column(name, overflow="fold")
    for name in ("REGION", "RESULT") if has_regions else ("RESULT",):
        table.add_column(name, no_wrap=True)
    for name in counts:
        table.add_column(name, justify="right", no_wrap=True)
    for tag, target in rows:
        cells = [Text(tag.label), Text(target.repository), *([Text(target.region)] if has_regions else [])]
        cells.append(Text(target.state, style=_COLOURS.get(target.state, "yellow")))
        table.add_row(*cells, *(_cell(getattr(target.moved, key)) for key in counts.values()))
    return table


def _cell(count: int) -> str:
    return size(count) if count else "-"


def _run_document(ledger: Ledger, report: RunReport, *, everything: bool) -> dict[str, Any]:
    """One run with its tags, or null for those of a large one; they are held together, a run at a time."""
    is_read = everything or report.tags <= MOST_READ
    budgets = [] if report.ended else budgets_of(ledger, report)
    return {
        **report.document(),
        **document(report, budgets, absent(ledger, report)),
        "deletion_reports": [asdict(one) for one in _deletions(ledger, report)],
        "tag_reports": [asdict(tag) for tag in ledger.tag_reports(report.run)] if is_read else None,
    }
