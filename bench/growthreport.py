"""Curves as text: lines while it runs, tables, bars, and the part of docs/performance.md that is theirs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.bars import Verdict
from bench.chart import Panel, lines_chart
from bench.curves import CURVES, FAR_MS, WORKS, Measured
from bench.figures import NOISY
from bench.report import PAGE, machine_terms, replace_between

CHART = "growth.svg"
BEGIN, END = "<!-- growth: begin -->", "<!-- growth: end -->"
LEAST_RATE, MOST_TIMES = 30.0, 2.0
"""With Redis FAR_MS away: tags/s of one process with nothing to do; set A's wall, in that next to Redis."""
HEADINGS = (
    "tags",
    "wall s",
    "tags/s",
    "CPU s",
    "Redis calls",
    "round trips",
    "messages",
    "Redis KiB",
    "peak MiB",
    "requests",
)


def line(one: Measured) -> str:
    """One round, as it ends."""
    cost = one.cost
    return (
        f"{one.curve:<10} {one.work:<14} {one.x:7g}  {one.tags:6} tags  {cost.wall_s:7.2f} s  "
        f"{one.rate:6.1f}/s  {cost.worker_cpu_s:6.2f} s CPU  {cost.trips:7} trips"
    )


def text(found: Sequence[Measured]) -> str:
    """Everything, for a terminal."""
    return "\n".join((*_tables(found), "", *(_bar_line(bar) for bar in bars(found)), ""))


def bars(found: Sequence[Measured]) -> list[tuple[Verdict, str, str]]:
    """(verdict, what is asked, what was measured), of those that were measured."""
    far = {(one.work, one.x): one for one in found if one.curve == "far"}
    judged: list[tuple[Verdict, str, str]] = []
    if one := far.get(("nothing to do", FAR_MS)):
        rate = one.rate / one.processes
        asked = f"nothing to do, Redis {FAR_MS:g} ms away: ≥ {LEAST_RATE:g} tags/s a process"
        judged.append(("pass" if rate >= LEAST_RATE else "short", asked, f"{rate:.0f} tags/s"))
    near, away = far.get(("copy", 0)), far.get(("copy", FAR_MS))
    if near and away:
        times = away.cost.wall_s / near.cost.wall_s
        asked = f"set A, Redis {FAR_MS:g} ms away: wall ≤ {MOST_TIMES:g} x that next to Redis"
        detail = f"{times:.2f} ({away.cost.wall_s:.2f} s; {near.cost.wall_s:.2f} s)"
        judged.append(("pass" if times <= MOST_TIMES else "short", asked, detail))
    return judged


def write(folder: Path, found: Sequence[Measured], rounds: int) -> None:
    """Replace what stands between the marks of the page, and the chart."""
    head = (
        f"{'One round' if rounds == 1 else f'Medians of {rounds} rounds'}, {machine_terms()}.",
        "",
        f"![wall time along each curve]({CHART})",
    )
    asked = ("", "| | what is asked | measured |", "|---|---|---|", *map(_bar_row, bars(found)))
    replace_between(folder / PAGE, BEGIN, END, "\n".join((*head, *_tables(found), *asked)))
    (folder / CHART).write_text(lines_chart(_panels(found)))


def _tables(found: Sequence[Measured]) -> Iterator[str]:
    for curve, title in CURVES.items():
        for work in WORKS:
            shown = [one for one in found if (one.curve, one.work) == (curve, work)]
            if shown:
                yield from ("", f"### {title}: {work}", "")
                yield f"| {title.lower()} | {' | '.join(HEADINGS)} |"
                yield "|---:|" + "---:|" * len(HEADINGS)
                yield from (f"| {one.x:g} | {' | '.join(_cells(one))} |" for one in shown)


def _cells(one: Measured) -> tuple[str, ...]:
    cost = one.cost
    return (
        f"{one.tags}",
        f"{'~' if cost.noise > NOISY else ''}{cost.wall_s:.2f}",
        f"{one.rate:.0f}",
        f"{cost.worker_cpu_s:.2f}",
        f"{cost.commands:.0f}",
        f"{cost.trips:.0f}",
        f"{cost.messages:.0f}",
        f"{cost.redis_bytes / 2**10:.0f}",
        f"{cost.worker_peak_bytes / 2**20:.0f}",
        f"{cost.requests:.0f}",
    )


def _panels(found: Sequence[Measured]) -> list[Panel]:
    return [
        Panel(
            title,
            {
                work: [(one.x, one.cost.wall_s) for one in found if (one.curve, one.work) == (curve, work)]
                for work in WORKS
            },
        )
        for curve, title in CURVES.items()
        if curve != "far" and any(one.curve == curve for one in found)
    ]


def _bar_line(bar: tuple[Verdict, str, str]) -> str:
    verdict, asked, detail = bar
    return f"{verdict:<12}  {asked:<64}  {detail}"


def _bar_row(bar: tuple[Verdict, str, str]) -> str:
    return f"| {' | '.join(bar)} |"
