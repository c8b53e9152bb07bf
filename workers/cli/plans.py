"""How a plan reads: what would move, what would not and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from workers.cli.console import Console
from workers.cli.exits import Exit
from workers.cli.summary import MOST_ROWS, by_number
from workers.cli.text import counted

if TYPE_CHECKING:
    from mirror.preview import Preview

_WORDS = {
    "new": ("new", "green"),
    "move": ("moves", "yellow"),
    "current": ("current", "dim"),
    "missing": ("missing at the source", "red"),
    "error": ("cannot tell", "red"),
}
_TROUBLE = frozenset({"missing", "error"})


def show_previews(console: Console, previews: Sequence[Preview], *, everything: bool) -> Exit:
    """Print them; the exit code is 1 where something could not be looked at or is not there."""
    trouble = any(_TROUBLE.intersection(preview.counts) for preview in previews)
    code = Exit.FAILED if trouble else Exit.DONE
    if console.json:
        mirrors = (preview.document() for preview in previews)
        console.document({"exit_code": int(code)}, mirrors=mirrors)
        return code
    for preview in previews:
        _show(console, preview, everything=everything)
    return code


def _show(console: Console, preview: Preview, *, everything: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("TAG", "TARGET", "WOULD BE", "FROM", "TO"):
        table.add_column(name, overflow="fold")
    tags = sorted(preview.tags, key=lambda tag: by_number(tag.tag))
    rows = [(tag, target) for tag in tags for target in tag.targets]
    changes = [row for row in rows if row[1].state != "current"]
    shown = rows if everything or len(rows) <= MOST_ROWS else changes
    if not everything:
        shown = shown[:MOST_ROWS]
    for tag, target in shown:
        word, colour = _WORDS[target.state]
        detail = Text(target.reason) if target.reason else Text(_short(target.previous))
        table.add_row(
            Text(tag.tag), Text(target.repository), Text(word, style=colour), detail, _short(tag.digest)
        )
    if table.row_count:
        console.table(table)
    if len(rows) > len(shown):
        console.result(f"{counted(len(rows) - len(shown), 'row')} not shown; --all shows them.")
    console.result(_closing(preview))


def _closing(preview: Preview) -> str:
    dropped = _dropped(preview)
    if not preview.tags:
        return f"{preview.mirror}: no tag of {preview.source} is selected{dropped}."
    if preview.is_current:
        return f"{preview.mirror}: nothing to do, {counted(len(preview.tags), 'tag')} current{dropped}."
    order = ("new", "move", "current", "missing", "error")
    counts = ", ".join(f"{preview.counts[s]} {_WORDS[s][0]}" for s in order if s in preview.counts)
    return f"{preview.mirror}: {counts} ({counted(len(preview.tags), 'tag')} selected{dropped})."


def _dropped(preview: Preview) -> str:
    if not preview.dropped:
        return ""
    rules = Counter(rule for _, rule in preview.dropped)
    reasons = ", ".join(f"{count}: {rule}" for rule, count in rules.most_common(4))
    return f"; {len(preview.dropped)} left out ({reasons})"


def _short(digest: str | None) -> str:
    """Enough of a digest to compare by eye."""
    return digest[:19] if digest else "-"
