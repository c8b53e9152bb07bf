"""How a run is watched: bars on a terminal, one line per change anywhere else."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from mirror.report import Moved, RegionReport, RunReport
from workers.cli.console import Console
from workers.cli.text import counted, duration, listed, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

RATE_WINDOW_S = 5.0
LINE_INTERVAL_S = 5.0
"""Lines about a growing count are at least this far apart; the first and the last are never held back."""
_ORDER = ("updated", "current", "failed", "superseded", "held", "waiting", "cancelled")


class Display(Protocol):
    """Told about the runs as often as they are looked at."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def update(self, reports: Sequence[RunReport]) -> None: ...


class Rate:
    """Bytes per second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, count: int) -> None:
        now = monotonic()
        self._seen.append((now, count))
        while now - self._seen[0][0] > RATE_WINDOW_S:
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
        self._rate = Rate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, reports: Sequence[RunReport]) -> None:
        self._rate.add(_copied(reports))
        for report in reports:
            if report.listed and report.tags:
                self._say(report, "listed", f"{counted(report.tags, 'tag')} to look at", final=True)
            if not report.listed:
                continue
            for region in report.regions:
                self._say_region(report, region)
            done = report.tags - report.states.get("pending", 0)
            if done:
                self._say(report, "done", self._progress(report, done), final=done == report.tags)

    def _say_region(self, report: RunReport, region: RegionReport) -> None:
        if not region.tags_landed:
            return
        landed = f"{region.region}: {region.tags_landed} of {counted(report.tags, 'tag')} landed"
        bytes_there = f", {size(region.moved.copied_bytes)} copied" if region.moved.copied_bytes else ""
        self._say(report, region.region, landed + bytes_there, final=region.tags_landed == report.tags)

    def _progress(self, report: RunReport, done: int) -> str:
        rate = f", {size(self._rate.per_second)}/s" if self._rate.per_second > 1 else ""
        return f"{done} of {counted(report.tags, 'tag')} done ({states_text(report)}){rate}"

    def _say(self, report: RunReport, topic: str, line: str, *, final: bool) -> None:
        key = f"{report.run} {topic}"
        last, at = self._said.get(key, ("", 0.0))
        if line == last or (last and not final and monotonic() - at < LINE_INTERVAL_S):
            return
        self._said[key] = (line, monotonic())
        self._console.say(f"{report.mirror}: {line}")


class Bars:
    """For people: a bar of tags for each mirror, and below it one of bytes for each region."""

    def __init__(self, console: Console) -> None:
        self._progress = _bars(console)
        self._bars: dict[str, TaskID] = {}
        self._rates: dict[str, Rate] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def update(self, reports: Sequence[RunReport]) -> None:
        for report in reports:
            done = report.tags - report.states.get("pending", 0)
            total = report.tags if report.listed else None
            of = f" of {report.tags}" if report.tags else ""
            more = "" if report.listed else ", still listing"
            self._draw(report.run, report.mirror, done, total, f"{done}{of} tags{more}")
            for region in report.regions:
                self._update_region(report, region)

    def _update_region(self, report: RunReport, region: RegionReport) -> None:
        key = f"{report.run} {region.region}"
        rate = self._rates.setdefault(key, Rate())
        there = _total(region.moved)
        rate.add(region.moved.copied_bytes)
        total = max(region.planned_bytes, there)
        detail = [f"{size(there)} of {size(total)}" if total else "looking"]
        if report.tags and region.tags_landed == report.tags:
            detail = [f"{size(total)}, all landed"] if total else ["all landed"]
        elif rate.per_second > 1:
            detail += [f"{size(rate.per_second)}/s", f"{duration((total - there) / rate.per_second)} left"]
        landed = bool(report.tags) and region.tags_landed == report.tags
        done, full = (1, 1) if landed else (there, total or None)
        self._draw(key, f"  {region.region}", done, full, "  ".join(detail))

    def _draw(self, key: str, name: str, done: int, total: int | None, detail: str) -> None:
        if key not in self._bars:
            self._bars[key] = self._progress.add_task(name, total=total, detail=detail)
        self._progress.update(self._bars[key], completed=done, total=total, detail=detail)


def states_text(report: RunReport) -> str:
    """``3 updated, 1 failed``: the concluded tags by state."""
    return listed_states(report.states)


def listed_states(states: dict[str, int]) -> str:
    return listed([f"{states[state]} {state}" for state in _ORDER if states.get(state)])


def _bars(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[detail]}", markup=False),
        TimeElapsedColumn(),
        console=console.err,
        transient=True,
        refresh_per_second=8,
    )


def _total(moved: Moved) -> int:
    return moved.copied_bytes + moved.mounted_bytes + moved.present_bytes


def _copied(reports: Sequence[RunReport]) -> int:
    return sum(region.moved.copied_bytes for report in reports for region in report.regions)
