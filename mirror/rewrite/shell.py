"""Words of a command, as a shell would read them, with where in the text they stand."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mirror.rewrite.spots import Span

_STRING = r""""(?:[^"\\\n]|\\.)*"|'[^'\n]*'"""
_SUBSTITUTED = r"\$\((?:[^()\n]|\([^()\n]*\))*\)|`[^`\n]+`|\$?\{\{[^}\n]*\}\}|\$\{[^}\n]*\}"
_UNQUOTED = r"\\[^\r\n]|[^\s\"'`\\()<>;|&]"
_WORD = re.compile(rf"(?:{_STRING}|{_SUBSTITUTED}|{_UNQUOTED})+")
_INNER = {
    "'": re.compile(rf"""(?:"(?:[^"\\\n]|\\.)*"|{_SUBSTITUTED}|{_UNQUOTED})+"""),
    '"': re.compile(rf"""(?:'[^'\n]*'|{_SUBSTITUTED}|(?!\\n)(?:{_UNQUOTED}))+"""),
}
"""A word within a string of the other language, as in ``sh 'docker run …'``: its quote ends the command,
and so does a line's end that is written ``\\n``."""
_GAP = re.compile(r"(?:[ \t]|[\\`^][ \t]*\r?\n)*")
_FOLD = re.compile(r"[ \t]*\r?\n[ \t]*(?=[^\s#])")
"""A line's end that YAML makes a space."""
_REDIRECTION = re.compile(r"[0-9]*[<>]+&?[ \t]*")
_ITEM = re.compile(r"""["']?\s*,\s*(["'])((?:(?!\1)[^\\\n]|\\.)*)\1""")
"""A command's next word where each is a string of its own, as in ``["docker", "run"]``."""
_QUOTES = re.compile(r"""\\.|["']""")


def words_of(text: str, start: int, at: int, end: int, *, is_folded: bool = False) -> Iterator[Span]:
    """Those behind ``at`` up to what ends the command; the text that matters begins at ``start``.

    ``is_folded``: a line's end is none of the command's.

    Of a word in quotes, what is in them. What is put in by the shell is part of its word.
    """
    if item := _ITEM.match(text, at, end):
        yield from _items(text, item, end)
        return
    quote = _enclosing(text, max(start, text.rfind("\n", 0, at) + 1), at)
    pattern = _INNER[quote] if quote else _WORD
    while at < end:
        at = _GAP.match(text, at, end).end()  # type: ignore[union-attr] # it matches nothing, too
        if is_folded and (fold := _FOLD.match(text, at, end)):
            at = fold.end()
        redirection = _REDIRECTION.match(text, at, end)
        word = pattern.match(text, redirection.end() if redirection else at, end)
        if word is None:
            return
        at = word.end()
        if not redirection:
            yield _bare(word)


def _items(text: str, item: re.Match[str] | None, end: int) -> Iterator[Span]:
    while item:
        yield Span(item.start(2), item.end(2), item[2])
        item = _ITEM.match(text, item.end(), end)


def _bare(word: re.Match[str]) -> Span:
    text = word[0]
    if len(text) > 1 and text[0] in "\"'" and text.find(text[0], 1) == len(text) - 1:
        return Span(word.start() + 1, word.end() - 1, text[1:-1])
    return Span(word.start(), word.end(), text)


def _enclosing(text: str, start: int, at: int) -> str:
    """The quote that is open at ``at``; empty where none is."""
    is_open = ""
    for mark in _QUOTES.finditer(text, start, at):
        if not is_open and mark[0] in "\"'":
            is_open = mark[0]
        elif mark[0] == is_open:
            is_open = ""
    return is_open
