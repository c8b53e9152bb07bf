"""Having a command done by a fork of the standby process of an ``up`` (:mod:`workers.standby`).

It costs the interpreter's start and no import of anything slow. Where there is no standby process, or it is
of another installation, the command runs here as ever.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from workers.server import standby_path, user_of
from workers.stamp import stamp

COMMANDS = frozenset({"mirror", "sync", "plan", "runs", "status", "watch", "retry", "cancel"})
"""Those that come and go; a worker or an ``up`` is a process of its own."""
GLOBAL_VALUED = ("--state-dir", "--fleet-file")
"""Global options that take a value; they stand before the command (:func:`workers.cli.hoisted`)."""
_STATE_OPTION = GLOBAL_VALUED[0]
_KILLED = 137


def borrow(words: Sequence[str]) -> int | None:
    """The command's exit code; None where it was not begun and has to run here."""
    if _command(words) not in COMMANDS or sys.platform == "win32":
        return None
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(_socket(words)))
            if user_of(connection) != os.getuid():
                return None
            _send(connection, words)
            return _follow(connection)
        except OSError:
            return None


def _command(words: Sequence[str]) -> str:
    """The first word that is neither an option nor an option's value."""
    left = iter(words)
    for word in left:
        if not word.startswith("-"):
            return word
        if word in GLOBAL_VALUED:
            next(left, None)
    return ""


def _socket(words: Sequence[str]) -> Path:
    named = _state_folder(words)
    if named is None:
        from platformdirs import user_state_path

        return standby_path(user_state_path("sealift"))
    return standby_path(Path(named).expanduser().absolute())


def _state_folder(words: Sequence[str]) -> str | None:
    """As the command will understand it: its option, else the environment."""
    for position, word in enumerate(words):
        if word == _STATE_OPTION and position + 1 < len(words):
            return words[position + 1]
        if word.startswith(f"{_STATE_OPTION}="):
            return word.partition("=")[2]
    return os.environ.get("SEALIFT_STATE_DIR")


def _send(connection: socket.socket, words: Sequence[str]) -> None:
    mask = os.umask(0)
    os.umask(mask)
    request = {
        "stamp": stamp(),
        "words": list(words),
        "environment": dict(os.environ),
        "umask": mask,
        "folder": os.getcwd(),  # noqa: PTH109 - as the shell says it
    }
    content = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(connection, [content], [0, 1, 2])
    connection.sendall(content[sent:])


def _follow(connection: socket.socket) -> int | None:
    """Pass signals on until the fork says how it ended; None where it never began."""
    answers = connection.makefile("r")
    begun = answers.readline()
    if not begun:
        return None
    pid = int(begun)

    def pass_on(number: int, _: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    ended = answers.readline()
    return int(ended) if ended else _KILLED
