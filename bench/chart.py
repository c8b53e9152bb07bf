"""Charts of wall time, as SVG that reads on light and on dark ground."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bench.figures import Figure, Figures, Row, title

WIDTH, NAMES, NUMBERS = 860, 170, 70
LINE, GAP, MARGIN = 18, 34, 16
ACROSS, PANEL_WIDTH, PANEL_HEIGHT = 3, 286, 210
INSET, HEAD, FOOT = 40, 44, 40
"""Of a panel: left and right of its lines, above and below them."""
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f }
.row { font-weight: 600; font-size: 13px }
.ours { fill: #1f6feb }
.line { fill: none; stroke-width: 2 } .first { stroke: #1f6feb } .second { stroke: #d4780a }
.axis { stroke: #9aa4af } .named-first { fill: #1f6feb } .named-second { fill: #d4780a }
.peer { fill: #9aa4af } .floor { fill: none; stroke: #9aa4af; stroke-dasharray: 3 2 }
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


@dataclass(frozen=True, slots=True)
class Panel:
    """Up to two lines over the same places, which stand at equal distances whatever their values."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]


def lines_chart(panels: Sequence[Panel]) -> str:
    """Panels in rows, each on a scale of its own that begins at nothing."""
    height = PANEL_HEIGHT * -(-len(panels) // ACROSS)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="Wall time in seconds along each curve; lower is better">'
    )
    parts: list[str] = []
    for number, panel in enumerate(panels):
        left, top = PANEL_WIDTH * (number % ACROSS), PANEL_HEIGHT * (number // ACROSS)
        parts += [f'<g transform="translate({left} {top})">', *_panel(panel), "</g>"]
    return "\n".join((head, f"<style>{STYLE}</style>", *parts, "</svg>", ""))


def _panel(panel: Panel) -> Iterator[str]:
    places = sorted({x for line in panel.lines.values() for x, _ in line})
    highest = max(y for line in panel.lines.values() for _, y in line)
    bottom, room = PANEL_HEIGHT - FOOT, PANEL_HEIGHT - FOOT - HEAD
    step = (PANEL_WIDTH - 2 * INSET) / max(len(places) - 1, 1)
    at = {x: INSET + step * number for number, x in enumerate(places)}
    yield f'<text class="row" x="{INSET / 2}" y="16">{escape(panel.title)}</text>'
    yield f'<path class="axis" d="M{INSET / 2} {bottom}H{PANEL_WIDTH - INSET / 2}"/>'
    for x in places:
        yield f'<text x="{at[x]:.0f}" y="{bottom + 18}" text-anchor="middle">{x:,g}</text>'
    for (name, line), kind in zip(panel.lines.items(), ("first", "second"), strict=False):
        if line:
            dots = [(at[x], bottom - room * y / highest, y) for x, y in line]
            yield from _line(dots, name, kind)


def _line(dots: Sequence[tuple[float, float, float]], name: str, kind: str) -> Iterator[str]:
    """Values above the first line and below the second."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in dots)
    yield f'<polyline class="line {kind}" points="{path}"/>'
    is_first = kind == "first"
    for x, y, seconds in dots:
        yield f'<circle class="named-{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>'
        place = f'x="{x:.1f}" y="{y - 7 if is_first else y + 15:.1f}"'
        yield f'<text class="named-{kind}" {place} text-anchor="middle">{seconds:.1f}</text>'
    legend = 0 if is_first else PANEL_WIDTH / 2
    yield f'<text class="named-{kind}" x="{INSET / 2 + legend / 2}" y="32">{escape(name)}, s</text>'
