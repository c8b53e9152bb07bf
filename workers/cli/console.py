"""The two streams of a command: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.table import Table

SCHEMA = 1
_WIDE = 10_000


@dataclass
class Console:
    """Colours and moving progress on a terminal only; one JSON object instead of tables with ``json``."""

    json: bool = False
    _rich: dict[int, RichConsole] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        """Whether progress may redraw its lines."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    @property
    def err(self) -> RichConsole:
        return self._on(sys.stderr)

    def say(self, line: str, style: str = "") -> None:
        """One line for the person who waits; never part of the result."""
        if self.is_live:
            self.err.print(line, style=style or None, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201 -- a command line prints

    def result(self, line: str = "") -> None:
        print(line, flush=True)  # noqa: T201 -- a command line prints

    def table(self, table: Table) -> None:
        rich = self._on(sys.stdout)
        if sys.stdout.isatty():
            rich.print(table)
            return
        with rich.capture() as captured:
            rich.print(table)
        for line in captured.get().splitlines():
            self.result(line.rstrip())

    def document(self, values: dict[str, Any], **streams: Iterable[Any]) -> None:
        """The result as one JSON object; ``streams`` become arrays, written while they are read."""
        write = sys.stdout.write
        write(json.dumps({"schema": SCHEMA, **values}, ensure_ascii=False)[:-1])
        for name, items in streams.items():
            write(f", {json.dumps(name)}: [")
            for part in _joined(items):
                write(part)
            write("]")
        write("}\n")
        sys.stdout.flush()

    def _on(self, stream: TextIO) -> RichConsole:
        if id(stream) not in self._rich:
            from rich.console import Console as RichConsole

            width = None if stream.isatty() else _WIDE
            self._rich[id(stream)] = RichConsole(file=stream, width=width, highlight=False)
        return self._rich[id(stream)]


def _joined(items: Iterable[Any]) -> Iterator[str]:
    between = ""
    for item in items:
        yield between + json.dumps(item, ensure_ascii=False)
        between = ", "


Say = Callable[[str], None]
