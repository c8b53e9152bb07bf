"""The job's summary: Markdown with a table, in which no name or reason is anything but text."""

from __future__ import annotations

from workers.action.results import FINE, Result, Row
from workers.cli.text import counted

MOST_ROWS = 100
"""Above it what went wrong comes first and the rest is counted: GitHub drops a summary of over 1 MiB."""
MOST_LETTERS = 500
_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ,")
_UNREADABLE = "\N{REPLACEMENT CHARACTER}"


def page(result: Result, what: str) -> str:
    """What was mirrored, how it ended, and a row for each tag in each target."""
    counts = ", ".join(f"{count} {state}" for state, count in result.counts.items() if count)
    head = f"### Sealift: {plain(what)}\n\n**{plain(result.state)}**{f': {plain(counts)}' if counts else ''}"
    runs = f" (run {plain(', '.join(result.runs))})" if result.runs else ""
    parts = [
        f"{head}{runs}",
        _table(result.rows),
        *(_told(fault.reason, fault.hint) for fault in result.faults[:10]),
    ]
    return "\n\n".join(part for part in parts if part) + "\n\n"


def plain(text: str) -> str:
    """As Markdown and HTML that mean nothing but this text, in one line."""
    short = text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}…"
    return "".join(_letter(letter) for letter in " ".join(short.split()))


def _letter(letter: str) -> str:
    """All that is neither a letter nor a digit may be a sign of Markdown; an entity never is one."""
    if letter in _PLAIN:
        return letter
    return f"&#{ord(letter)};" if letter.isprintable() else _UNREADABLE


def _table(rows: tuple[Row, ...]) -> str:
    if not rows:
        return ""
    ordered = sorted(rows, key=lambda row: row.state in FINE)
    lines = ["| Tag | Target | Result | Digest |", "|---|---|---|---|"]
    lines += [
        f"| {plain(row.tag)} | {plain(row.target)} | {plain(row.state)} | {plain(row.digest)} |"
        for row in ordered[:MOST_ROWS]
    ]
    left = len(ordered) - MOST_ROWS
    more = [f"\n{counted(left, 'row')} more in the report."] if left > 0 else []
    return "\n".join((*lines, *more))


def _told(reason: str, hint: str) -> str:
    return f"- {plain(reason)}{f'<br>To do: {plain(hint)}' if hint else ''}"
