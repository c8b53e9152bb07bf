"""How a run is watched: bars on a terminal, one line per change anywhere else."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic, time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from mirror.report import Moved, RegionReport, RunReport
from workers.cli.console import Console
from workers.cli.outlook import done, left_s, pulls_left, tag_rate
from workers.cli.text import countdown, counted, duration, listed, moment, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID
    from rich.table import Column

    from mirror.ledger.budgets import BudgetReport

RATE_WINDOW_S = 5.0
TAGS_WINDOW_S = 60.0
"""Tags end some dozens at a time."""
LINE_INTERVAL_S = 5.0
"""Lines about a growing count are at least this far apart; the first and the last are never held back."""
_ROOMY = 96
_COLUMNS = {"tags": 50, "bytes": 0, "rate": 78, "left": 0}
"""What stands to the right of a bar, with the columns a terminal needs for it."""
_WIDTHS = {"tags": 12, "bytes": 19, "rate": 9, "left": 9}
_ORDER = ("updated", "current", "failed", "superseded", "held", "pinned", "waiting", "cancelled")


class Display(Protocol):
    """Told about the runs as often as they are looked at."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def update(self, reports: Sequence[RunReport], budgets: Sequence[BudgetReport] = (), /) -> None: ...


class Rate:
    """Bytes, or tags, per second over the last seconds."""

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        now = monotonic()
        self._seen.append((now, count))
        while now - self._seen[0][0] > self._window_s:
            self._seen.popleft()

    @property
    def per_second(self) -> float:
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_at - first_at) if last_at - first_at > 0.5 else 0.0


def display(console: Console) -> Display:
    return Bars(console) if console.is_live else Lines(console)


class Lines:
    """For logs: what changed, one line each, calm in a long run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said: dict[str, tuple[str, float]] = {}
        self._began = monotonic()
        self._rate = Rate()
        self._tags: dict[str, Rate] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, reports: Sequence[RunReport], budgets: Sequence[BudgetReport] = ()) -> None:
        self._rate.add(_copied(reports))
        for report in reports:
            rate = self._tags.setdefault(report.run, Rate(TAGS_WINDOW_S))
            rate.add(done(report))
            if report.listed and report.tags:
                self._say(report, "listed", f"{counted(report.tags, 'tag')} to look at", final=True)
            if not report.listed:
                self._say_listing(report)
                continue
            for region in report.regions:
                self._say_region(report, region)
            if ended := done(report):
                line = f"{ended:,} of {counted(report.tags, 'tag')} done ({states_text(report)})"
                ahead = _ahead(report, rate.per_second, budgets)
                self._say(report, "done", line, final=ended == report.tags, beside=ahead)

    def _say_listing(self, report: RunReport) -> None:
        """Of many repositories: their list is read on as tags are done, to the end of the run almost."""
        if report.repositories:
            done = report.tags - report.states.get("pending", 0)
            listed = f"{counted(report.repositories, 'repository')} with {counted(report.tags, 'tag')} listed"
            self._say(report, "listing", f"{listed} so far, {done} done", final=False)

    def _say_region(self, report: RunReport, region: RegionReport) -> None:
        """Bytes on their way are news too: a large image says nothing else for minutes."""
        landed, copied = region.tags_landed, region.moved.copied_bytes
        if not landed and (not copied or monotonic() - self._began < LINE_INTERVAL_S):
            return
        is_last = landed == report.tags
        line = f"{region.region}: {landed:,} of {counted(report.tags, 'tag')} landed"
        if copied:
            of = "" if is_last else f" of {size(region.planned_bytes)}"
            line += f", {size(copied)}{of} copied"
        rate = f", {size(self._rate.per_second)}/s" if self._rate.per_second else ""
        self._say(report, region.region, line, final=is_last, beside=rate)

    def _say(self, report: RunReport, topic: str, line: str, *, final: bool, beside: str = "") -> None:
        """What stands ``beside`` changes with every look: it belongs to a line, and is no reason for one."""
        key = f"{report.run} {topic}"
        last, at = self._said.get(key, ("", 0.0))
        if line == last or (last and not final and monotonic() - at < LINE_INTERVAL_S):
            return
        self._said[key] = (line, monotonic())
        self._console.say(f"{report.mirror}: {line}{'' if final else beside}")


class Bars:
    """For people: a line of tags for each mirror, and below it one for each region with its bytes."""

    def __init__(self, console: Console) -> None:
        self._progress = _bars(console)
        self._bars: dict[str, TaskID] = {}
        self._rates: dict[str, Rate] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, reports: Sequence[RunReport], budgets: Sequence[BudgetReport] = ()) -> None:
        for report in reports:
            self._update_tags(report)
            for region in report.regions:
                self._update_region(report, region)
        for budget in budgets:
            self._update_budget(budget)

    def _update_tags(self, report: RunReport) -> None:
        ended = done(report)
        rate = self._rates.setdefault(report.run, Rate(TAGS_WINDOW_S))
        rate.add(ended)
        rest = left_s(report, rate.per_second)
        texts = {"tags": _tags_text(report, ended), "left": _running_for(report)}
        if rest is not None and ended < report.tags:
            texts |= {"rate": f"{rate.per_second:.1f}/s", "left": f"{countdown(rest)} left"}
        if report.waits and (report.waits_until_s or 0.0) - time() > RATE_WINDOW_S:
            texts |= {"bytes": f"waits to {moment(report.waits_until_s or 0.0)}"}
        self._draw(report.run, report.mirror, ended, report.tags if report.listed else None, texts)

    def _update_budget(self, one: BudgetReport) -> None:
        """What is left of a registry's pulls as a bar that grows shorter."""
        until, total = one.paused_until_s or one.until_s or 0.0, one.limit or 1
        left = 0 if one.paused_until_s else one.remaining or 0
        words = "left alone" if one.paused_until_s else f"{left} pulls"
        texts = {"tags": words, "bytes": f"to {moment(until)}"}
        self._draw(f"{one.host} {one.source}", f"  {one.host}", left, total, texts)

    def _update_region(self, report: RunReport, region: RegionReport) -> None:
        key = f"{report.run} {region.region}"
        rate = self._rates.setdefault(key, Rate())
        there = _total(region.moved)
        rate.add(region.moved.copied_bytes)
        total = max(region.planned_bytes, there)
        landed = report.listed and region.tags_landed == report.tags > 0
        texts = {"tags": _tags_text(report, region.tags_landed)}
        if landed:
            texts |= {"bytes": size(total) if total else "", "left": "landed"}
        elif total:
            texts |= {"bytes": f"{size(there)} of {size(total)}"}
            if rate.per_second > 1:
                texts |= {
                    "rate": f"{size(rate.per_second)}/s",
                    "left": f"{countdown((total - there) / rate.per_second)} left",
                }
        done, full = (1, 1) if landed else (there, total or None)
        self._draw(key, f"  {region.region}", done, full, texts)

    def _draw(self, key: str, name: str, done: int, total: int | None, texts: dict[str, str]) -> None:
        fields: dict[str, Any] = dict.fromkeys(_COLUMNS, "") | texts
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(name, total=total, **fields)
        self._progress.update(self._bars[key], completed=done, total=total, **fields)


def _ahead(report: RunReport, per_s: float, budgets: Sequence[BudgetReport]) -> str:
    """``, 3.2 tags/s, about 5 min left, 76 of 100 pulls left at docker.io``."""
    rest = left_s(report, per_s)
    said = [tag_rate(per_s)] if per_s else []
    said += [f"about {duration(rest)} left"] if rest is not None else []
    said += [f"{pulls_left(one)} at {one.host}" for one in budgets if one.limit]
    return "".join(f", {part}" for part in said)


def states_text(report: RunReport) -> str:
    """``3 updated, 1 failed``: the concluded tags by state."""
    return listed_states(report.states)


def listed_states(states: dict[str, int]) -> str:
    return listed([f"{states[state]:,} {state}" for state in _ORDER if states.get(state)])


def _bars(console: Console) -> Progress:
    """Columns keep their width while their texts change; a narrow terminal goes without some."""
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    width = console.err.width
    shown = [name for name, least in _COLUMNS.items() if width >= least]
    return Progress(
        TextColumn(
            "{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
        ),
        BarColumn(bar_width=24 if width >= _ROOMY else 10),
        *(
            TextColumn(f"{{task.fields[{name}]}}", markup=False, justify="right", table_column=_column(name))
            for name in shown
        ),
        console=console.err,
        transient=True,
        refresh_per_second=8,
    )


def _column(name: str) -> Column:
    from rich.table import Column

    return Column(min_width=_WIDTHS[name], no_wrap=True, justify="right")


def _tags_text(report: RunReport, done: int) -> str:
    if report.listed:
        return f"{done:,} of {counted(report.tags, 'tag')}"
    return f"{done:,} of {report.tags:,}… tags" if report.tags else "listing tags"


def _running_for(report: RunReport) -> str:
    """As a clock, which nobody takes for the time that is left."""
    minutes, seconds = divmod(max(0, round((report.finished_s or time()) - report.started_s)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _total(moved: Moved) -> int:
    return moved.copied_bytes + moved.mounted_bytes + moved.present_bytes


def _copied(reports: Sequence[RunReport]) -> int:
    return sum(region.moved.copied_bytes for report in reports for region in report.regions)
