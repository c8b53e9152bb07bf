"""What the runner reads: workflow commands on stdout, and files that it names in the environment.

GitHub's rules: https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Level = Literal["error", "warning", "notice"]
MOST_ANNOTATIONS = 10
"""GitHub shows so many of each level from one step."""
_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def annotate(level: Level, title: str, message: str) -> None:
    """One annotation of the run; neither text can end the command or begin another."""
    _print(f"::{level} title={_escaped(title, _PROPERTY)}::{_escaped(message, _DATA)}")


@contextmanager
def commands_stopped() -> Iterator[None]:
    """While it lasts the runner obeys no line on stdout: what a command prints holds foreign names.

    Stderr is a pipe of its own, which the runner may read after the end of this: nothing is written there.
    """
    token = secrets.token_hex(32)
    _print(f"::stop-commands::{token}")
    try:
        yield
    finally:
        _print(f"::{token}::")


def set_outputs(values: Mapping[str, str]) -> None:
    """The step's outputs; a value may hold line breaks. Without a runner they go nowhere."""
    lines = []
    for name, value in values.items():
        end = f"end-{secrets.token_hex(16)}"
        lines.append(f"{name}<<{end}\n{value}\n{end}\n")
    _append("GITHUB_OUTPUT", "".join(lines))


def summarise(page: str) -> None:
    """Add to the job's summary."""
    _append("GITHUB_STEP_SUMMARY", page)


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8", errors="replace", newline="\n") as file:
            file.write(text)


def _escaped(text: str, table: Mapping[str, str]) -> str:
    return "".join(table.get(letter, letter) for letter in text)


def _print(line: str) -> None:
    """At the start of a line, also where what was printed last had no end; whatever the locale can say."""
    sys.stdout.flush()
    sys.stdout.buffer.write(f"\n{line}\n".encode(errors="replace"))
    sys.stdout.buffer.flush()
