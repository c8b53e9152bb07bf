"""How a plan reads: what would move, what would not and why, what that costs and what makes it wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import time
from typing import TYPE_CHECKING

from registry.descriptor import abridged
from workers.cli.console import Console
from workers.cli.exits import Exit
from workers.cli.removals import removal_lines
from workers.cli.summary import AUTHENTICATION, MOST_ROWS, by_number
from workers.cli.text import counted, duration, listed, moment, size

if TYPE_CHECKING:
    from mirror.forecast import Forecast, PlannedTag, PlannedTarget, Pulls, State

_WORDS: dict[State, tuple[str, str]] = {
    "new": ("new", "green"),
    "move": ("moves", "yellow"),
    "current": ("current", "dim"),
    "held": ("held", "yellow"),
    "conflict": ("in conflict", "yellow"),
    "missing": ("missing", "red"),
    "error": ("cannot tell", "red"),
}
_TROUBLE = frozenset({"missing", "error"})
_MOST_RULES = 4
_LEAST = "at least "


def show_plans(console: Console, forecasts: Sequence[Forecast], *, everything: bool) -> Exit:
    """Print them; the exit code is 1 where something could not be looked at or is not there."""
    code = _exit_code(forecasts)
    if console.json:
        mirrors = (forecast.document() for forecast in forecasts)
        console.document({"exit_code": int(code)}, mirrors=mirrors)
        return code
    for number, forecast in enumerate(forecasts):
        if number:
            console.result()
        _show(console, forecast, everything=everything)
    return code


def _exit_code(forecasts: Sequence[Forecast]) -> Exit:
    kinds = {forecast.error_kind for forecast in forecasts if forecast.error}
    if kinds and kinds <= AUTHENTICATION:
        return Exit.AUTHENTICATION
    has_trouble = any(_TROUBLE.intersection(forecast.counts) for forecast in forecasts)
    return Exit.FAILED if kinds or has_trouble else Exit.DONE


def _show(console: Console, forecast: Forecast, *, everything: bool) -> None:
    if forecast.error:
        console.result(f"{forecast.mirror}: no plan, because {forecast.error}")
        return
    _show_tags(console, forecast, everything=everything)
    _show_conflicts(console, forecast, everything=everything)
    gone = removal_lines(forecast.deletions, now_s=time(), planned=True, two_way=forecast.two_way)
    for line in gone:
        console.result(line)
    console.result(_closing(forecast))
    rows = list(_costs(forecast))
    width = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        console.result(f"  {name:{width}}  {text}")
    if forecast.run:
        console.say(f"kept for 7 days: `sealift backfill --resume {forecast.run}` begins it")


def _show_tags(console: Console, forecast: Forecast, *, everything: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    has_sides = any(tag.taken_from for tag in forecast.tags)
    for name in ("TAG", "TARGET", "WOULD BE", "FROM", "TO", *(["TAKEN FROM"] if has_sides else [])):
        table.add_column(name, overflow="fold")
    tags = sorted(forecast.tags, key=lambda tag: by_number(tag.label))
    rows = [(tag, target) for tag in tags for target in tag.targets]
    total = sum(forecast.counts.values())
    is_long = total > MOST_ROWS and not everything
    shown = [row for row in rows if not is_long or row[1].state != "current"]
    shown = shown[:MOST_ROWS] if is_long else shown
    for tag, target in shown:
        table.add_row(*(Text(*cell) for cell in _cells(tag, target, has_sides=has_sides)))
    if table.row_count:
        console.table(table)
    if total > len(shown):
        hint = "" if everything else "; --all shows them"
        console.result(f"{counted(total - len(shown), 'row')} not shown{hint}.")


def _cells(tag: PlannedTag, target: PlannedTarget, *, has_sides: bool) -> Iterator[tuple[str, str]]:
    """(text, style) of each."""
    word, colour = _WORDS[target.state]
    is_decided = tag.rule and target.state in {"new", "move"}
    has_reason = target.reason and target.state != "conflict"  # which is long, and the same for all sides
    yield tag.label, ""
    yield target.repository, ""
    yield (f"{word} ({tag.rule})" if is_decided else word), colour
    yield (target.reason if has_reason else _abridged(target.previous)), ""
    yield _abridged(tag.digest), ""
    if has_sides:
        yield (listed(list(tag.taken_from)) if target.state in {"new", "move"} else ""), ""


def _show_conflicts(console: Console, forecast: Forecast, *, everything: bool) -> None:
    reasons = [
        f"{tag.label}: {target.reason}"
        for tag in sorted(forecast.tags, key=lambda tag: by_number(tag.label))
        for target in tag.targets[:1]
        if target.state == "conflict"
    ]
    for line in reasons if everything else reasons[:MOST_ROWS]:
        console.result(line)
    if len(reasons) > MOST_ROWS and not everything:
        console.result(f"{counted(len(reasons) - MOST_ROWS, 'conflict')} more; --all shows them.")


def _closing(forecast: Forecast) -> str:
    dropped = _dropped(forecast)
    if not forecast.selected:
        return f"{forecast.mirror}: no tag of {forecast.source} is selected{dropped}."
    if forecast.is_current:
        return f"{forecast.mirror}: nothing to do, {counted(forecast.selected, 'tag')} current{dropped}."
    counts = ", ".join(
        f"{forecast.counts[state]} {word}" for state, (word, _) in _WORDS.items() if state in forecast.counts
    )
    return f"{forecast.mirror}: {counts} ({counted(forecast.selected, 'tag')} selected{dropped})."


def _dropped(forecast: Forecast) -> str:
    if not forecast.dropped:
        return ""
    reasons = ", ".join(f"{count}: {rule}" for rule, count in forecast.dropped.most_common(_MOST_RULES))
    return f"; {forecast.dropped.total()} left out ({reasons})"


def _costs(forecast: Forecast) -> Iterator[tuple[str, str]]:
    """(what, how much), where there is any of it."""
    least = _LEAST if forecast.unread else ""
    tally = forecast.tally
    if forecast.unread:
        yield "unread", f"{counted(forecast.unread, 'manifest')} or more: what they hold is in no number here"
    if read := [f"{size(count)} from {host}" for host, count in sorted(tally.read.items()) if count]:
        yield "read", least + listed(read)
    if written := [f"{size(count)} to {name}" for name, count in sorted(tally.written.items()) if count]:
        yield "write", least + listed(written)
    if mounted := [f"{size(count)} in {name}" for name, count in sorted(tally.mounted.items()) if count]:
        yield "mount", least + listed(mounted)
    if asked := [f"{total:,} to {host}" for host in sorted(tally.requests) if (total := tally.total(host))]:
        yield "ask", f"{least}{listed(asked)} (requests)"
    for pulls in forecast.pulls:
        yield "pulls", f"{pulls.host}: {_pulls(pulls, least)}"
    if forecast.moving or forecast.unread:
        yield "time", _time(forecast)


def _pulls(pulls: Pulls, least: str) -> str:
    spent = f"; {pulls.spent:,} made by this plan, whose manifests are kept for 6 h" if pulls.spent else ""
    if pulls.left is None:
        return f"{least}{pulls.needed:,}, of how many it does not say{spent}"
    text = f"{least}{pulls.needed:,}, {pulls.left:,} left{spent}"
    if pulls.ready_s is not None:
        windows = counted(pulls.windows or 0, "window")
        text += f"; waits for {windows} to end, the last by {moment(pulls.ready_s)}"
    return text


def _time(forecast: Forecast) -> str:
    seconds, rate = forecast.seconds, forecast.rate
    if seconds is None:
        why = "manifests were not read" if forecast.unread else "no run of this mirror was measured yet"
        return f"unknown: {why}"
    of = f"the last {rate.runs} runs" if rate and rate.runs > 1 else "the last run"
    waits = ", waits not counted" if any(pulls.ready_s for pulls in forecast.pulls) else ""
    return f"about {duration(seconds)} at the rate of {of}{waits}"


def _abridged(digest: str | None) -> str:
    return abridged(digest, end="") if digest else "-"
