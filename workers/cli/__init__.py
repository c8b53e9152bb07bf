"""The command line. What every command shares is here: its streams, its signals, how it ends."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from types import FrameType

from workers.cli.borrowing import GLOBAL_VALUED, borrow

_FLAGS = ("-v", "--verbose")


def main(arguments: Sequence[str] | None = None) -> int:
    """Have one command run and return its exit code (:class:`workers.cli.exits.Exit`)."""
    words = hoisted(sys.argv[1:] if arguments is None else arguments)
    lent = borrow(words)
    return run(words) if lent is None else lent


def run(words: list[str]) -> int:
    """Run one command in this process."""
    from workers.cli.console import Console
    from workers.cli.session import Session

    session = Session(Console(json="--json" in words))
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        return _run(words, session)
    except BaseException as error:  # noqa: BLE001 -- the border: nothing ends in a trace that is not asked for
        from workers.cli.endings import end

        return end(error, session)


def hoisted(words: Sequence[str]) -> list[str]:
    """Global options to the front: they may be written after the command, too."""
    front: list[str] = []
    rest: list[str] = []
    left = iter(words)
    for word in left:
        if word == "--":
            return [*front, *rest, word, *left]
        if word in GLOBAL_VALUED:
            front += [word, *(value for value in (next(left, None),) if value is not None)]
        elif word in _FLAGS or word.startswith(tuple(f"{name}=" for name in GLOBAL_VALUED)):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]


def _run(words: list[str], session: object) -> int:
    import typer.main

    from workers.cli.app import app
    from workers.cli.exits import Exit

    result = typer.main.get_command(app).main(words, prog_name="sealift", standalone_mode=False, obj=session)
    if result == Exit.INTERRUPTED:  # Typer swallows a Ctrl-C of its own accord
        raise KeyboardInterrupt
    return int(result or 0)


def _interrupt(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
