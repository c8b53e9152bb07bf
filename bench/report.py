"""Figures as text: lines while it runs, a table, and the part of docs/performance.md that is measured."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.bars import Bar
from bench.chart import chart
from bench.figures import NOISY, Figure, Figures, Row, title
from bench.servers import NoRegistry
from bench.trials import Sample

PAGE, CHART = "performance.md", "performance.svg"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HEADINGS = (
    "wall s",
    "x best peer",
    "CPU s",
    "peak MiB",
    "read: requests",
    "MB",
    "written: requests",
    "MB",
    "registries' CPU s",
)
VERSION_WORDS = {
    "skopeo": ("--version",),
    "crane": ("version",),
    "regsync": ("version",),
    "oras": ("version",),
    "docker-registry": ("--version",),
    "curl": ("--version",),
}


def line(sample: Sample) -> str:
    """One run, as it ends."""
    row = title(Row.of(sample))
    cost = f"{sample.wall_s:7.2f} s  {sample.cpu_s:6.2f} s CPU  {sample.peak_bytes / 2**20:4.0f} MiB"
    asked = f"{sample.source_requests:5} + {sample.target_requests:5} requests"
    noise = f"  noise {sample.noise:.1f}" if sample.noise > NOISY else ""
    problem = f"  DOES NOT COUNT: {sample.problem}" if sample.problem else ""
    return f"{row:<12} {sample.contender:<20} {cost}  {asked}{noise}{problem}"


def table(figures: Figures) -> str:
    """Every row, for a terminal."""
    return "\n\n".join(_table_of(figures, row) for row in figures.rows)


def _table_of(figures: Figures, row: Row) -> str:
    lines = [("", *HEADINGS), *((name, *cells) for name, cells in _cells(figures, row))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shown = (
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join((title(row), *shown))


def _cells(figures: Figures, row: Row) -> Iterable[tuple[str, tuple[str, ...]]]:
    best = figures.best_peer(row)
    for name, one in figures.row(row).items():
        yield name, _columns(one, best)


def _columns(one: Figure, best: Figure | None) -> tuple[str, ...]:
    noisy = "~" if one.noise > NOISY else ""
    return (
        f"{noisy}{one.wall_s:.2f}",
        f"{one.wall_s / best.wall_s:.2f}" if best else "",
        f"{one.cpu_s:.2f}",
        f"{one.peak_bytes / 2**20:.0f}",
        f"{one.source_requests:.0f}",
        f"{one.source_bytes / 1e6:.1f}",
        f"{one.target_requests:.0f}",
        f"{one.target_bytes / 1e6:.1f}",
        f"{one.servers_cpu_s:.2f}",
    )


def write(folder: Path, figures: Figures, judged: Sequence[Bar], terms: str) -> None:
    """Replace what stands between the marks of the page, and its chart; ``terms`` are the registries'."""
    replace_between(folder / PAGE, BEGIN, END, markdown(figures, judged, terms))
    (folder / CHART).write_text(chart(figures))


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Only what stands between the two marks."""
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def markdown(figures: Figures, judged: Sequence[Bar], terms: str) -> str:
    rounds = max((sample.round for sample in figures.samples), default=0) + 1
    head = (
        f"Medians of {rounds} rounds, {terms}, {machine_terms()}.",
        f"{_versions()}.",
        "",
        f"![wall time of each tool in each row]({CHART})",
    )
    tables = (
        part for row in figures.rows for part in ("", f"### {title(row)}", "", _markdown_table(figures, row))
    )
    bar_lines = (f"| {bar.verdict} | {title(bar.row)} | {bar.text} | {bar.detail} |" for bar in judged)
    bars = ("", "### Bars", "", "| | row | what is asked | measured |", "|---|---|---|---|", *bar_lines)
    return "\n".join((*head, *tables, *bars))


def _markdown_table(figures: Figures, row: Row) -> str:
    lines = (f"| {name} | {' | '.join(cells)} |" for name, cells in _cells(figures, row))
    head = f"| | {' | '.join(HEADINGS)} |"
    return "\n".join((head, "|---|" + "---:|" * len(HEADINGS), *lines))


def machine_terms() -> str:
    system = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{os.cpu_count()} cores, {system}, Python {platform.python_version()}"


def _versions() -> str:
    found = [f"sealift {version('sealift')}"]
    for tool, words in VERSION_WORDS.items():
        if shutil.which(tool):
            found.append(f"{tool} {_version_of([tool, *words])}")
    return ", ".join(found)


def _version_of(command: list[str]) -> str:
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError as error:
        raise NoRegistry(str(error)) from error
    words = told.replace(",", " ").split()
    return next((word for word in words if re.match(r"v?\d", word)), "(no version)")
