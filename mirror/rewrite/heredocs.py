"""Files within scripts: what stands in a heredoc is read as the file that it is to be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath

from mirror.rewrite.moves import Moves
from mirror.rewrite.spots import Spot
from mirror.rewrite.words import reference_at

_OPENING = re.compile(r"(?<!<)<<[-~]?[ \t]*(?P<quote>[\"']?)(?P<mark>[A-Za-z_]\w*)(?P=quote)")
_WRITTEN = re.compile(r"(?:>|\btee(?:[ \t]+-a)?[ \t])[ \t]*[\"']?(?P<name>[^\s\"'<>|;&()]+)")
"""The file that the line writes."""
_BEGINNINGS = {
    "Dockerfile": re.compile(r"(?:[ \t]*(?:#[^\n]*|ARG[ \t][^\n]*)?\r?\n)*[ \t]*FROM[ \t]"),
    "heredoc.yaml": re.compile(r"(?:[ \t]*(?:#[^\n]*|---[ \t]*)?\r?\n)*[ \t]*(?:apiVersion|kind|services):"),
}
"""What is said by nobody is told by how it begins: builds, Kubernetes and Compose read these from a pipe."""
_LIST = "heredoc.list"
_TABS = re.compile(r"^\t+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Heredoc:
    """Characters from ``start`` to ``end``, and the name of a file of their kind."""

    start: int
    end: int
    name: str

    def spots(self, text: str, moves: Moves) -> list[Spot]:
        """Every reference in it, where it stands in ``text``."""
        from mirror.rewrite.kinds import spots_as  # which reads scripts, too

        before, body = text[: self.start], text[self.start : self.end]
        lines = before.count("\n")
        blank = " " * (len(before) - lines) + "\n" * lines
        # To YAML tabs are no indentation; a shell drops them.
        return spots_as(self.name, blank + _TABS.sub(lambda tabs: " " * len(tabs[0]), body), moves)


def heredocs_in(text: str, start: int, end: int, comment: str) -> Iterator[Heredoc]:
    """Those of known kind that open between ``start`` and ``end``, in no ``comment``; others are script."""
    at, unclosed = start, set[str]()
    while opening := _OPENING.search(text, at, end):
        at, mark = opening.end(), opening["mark"]
        line_end = text.find("\n", at, end) + 1
        if not line_end or mark in unclosed:
            continue
        closing = re.compile(rf"^[ \t]*{mark}[ \t]*\r?$", re.MULTILINE).search(text, line_end, end)
        line_start = max(start, text.rfind("\n", 0, opening.start()) + 1)
        if closing is None:
            unclosed.add(mark)
        elif not (
            comment and re.search(rf"(?:^|\s){re.escape(comment)}", text[line_start : opening.start()])
        ):
            at = closing.end()
            if name := _kind(text[line_start:line_end], text[line_end : closing.start()]):
                yield Heredoc(line_end, closing.start(), name)


def _kind(line: str, body: str) -> str:
    from mirror.rewrite.kinds import is_looked_at

    for written in _WRITTEN.finditer(line):
        name = PurePath(written["name"]).name
        if is_looked_at(PurePath(name)):
            return name
    for name, beginning in _BEGINNINGS.items():
        if beginning.match(body):
            return name
    return _LIST if _is_list(body) else ""


def _is_list(body: str) -> bool:
    """Whether each line is a reference and nothing else, as of ``xargs docker pull``."""
    lines = [line for row in body.splitlines() if (line := row.strip()) and not line.startswith("#")]
    found = [(reference_at(line, 0), len(line)) for line in lines]
    return bool(found) and all(
        one and one.end == length and "/" in one.name.text and (one.tag or one.digest)
        for one, length in found
    )
