"""The chart: wall time of every contender in every row, as SVG that reads on light and on dark ground."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bench.figures import Figure, Figures, Row, title

WIDTH, NAMES, NUMBERS = 860, 170, 70
LINE, GAP, MARGIN = 18, 34, 16
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.row { font-weight: 600; font-size: 13px }
.ours { fill: #1f6feb } .peer { fill: #9aa4af } .floor { fill: none; stroke: #9aa4af; stroke-dasharray: 3 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .ours { fill: #58a6ff } .peer { fill: #6e7681 } .floor { stroke: #8b949e }
}"""


def chart(figures: Figures) -> str:
    """One group of bars a row, each on a scale of its own: rows differ by a hundred times."""
    parts: list[str] = []
    top = MARGIN
    for row in figures.rows:
        parts += _group(row, list(figures.row(row).values()), top)
        top += GAP + LINE * len(figures.row(row))
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
        'aria-label="Wall time in seconds of each tool, by row; shorter is better">'
    )
    return "\n".join((head, f"<style>{STYLE}</style>", *parts, "</svg>", ""))


def _group(row: Row, shown: list[Figure], top: int) -> Iterator[str]:
    yield f'<text class="row" x="{MARGIN}" y="{top + 12}">{escape(title(row))}</text>'
    longest = max(one.wall_s for one in shown)
    room = WIDTH - NAMES - NUMBERS - 2 * MARGIN
    for index, one in enumerate(shown):
        y = top + 20 + index * LINE
        width = max(1.0, room * one.wall_s / longest)
        yield f'<text x="{NAMES}" y="{y + 11}" text-anchor="end">{escape(one.contender)}</text>'
        shape = f'x="{NAMES + 8}" y="{y + 1}" width="{width:.1f}" height="12" rx="2"'
        yield f'<rect class="{_kind(one)}" {shape}/>'
        yield f'<text x="{NAMES + 14 + width:.1f}" y="{y + 11}">{one.wall_s:.2f} s</text>'


def _kind(one: Figure) -> str:
    if one.is_peer:
        return "peer"
    return "ours" if one.contender.startswith("sealift") else "floor"
