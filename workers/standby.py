"""A process of ``up`` from which commands are forked: what is slow to import is imported already.

``python -P -m workers.standby SOCKET``. A command (:mod:`workers.cli.borrowing`) sends its words, its
surroundings and its three streams; the fork runs the same command on them and sends back how it ended.
It is the way of Mercurial's ``chg``: nine tenths of a short command's time are imports.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from workers.server import user_of
from workers.stamp import stamp

MAX_REQUEST = 2 * 2**20
"""Bytes of words and environment; the system's own limit for them (ARG_MAX) is of that size."""
WARM = (
    "celery.app.amqp",
    "celery.backends.redis",
    "celery.canvas",
    "celery.concurrency.solo",
    "celery.loaders.app",
    "config.fleet",
    "config.settings",
    "kombu.transport.redis",
    "mirror.planning",
    "registry.connections",
    "registry.docker_config",
    "rich.live",
    "rich.progress",
    "tasks.configuration",
    "tasks.producer",
    "tasks.steps",
    "tasks.probing",
    "tasks.pruning",
    "tasks.sweep",
    "tasks.terms",
    "workers.cli.app",
    "workers.cli.endings",
    "workers.cli.progress",
    "workers.cli.summary",
    "workers.cli.waiting",
    "workers.embedded",
)
"""None of them may look at the environment when it is imported: each command has its own."""


def main() -> int:
    own, path = stamp(), Path(sys.argv[1])
    path.unlink(missing_ok=True)
    for name in WARM:
        import_module(name)
    gc.freeze()  # what is shared with the forks stays shared
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as listening:
        mask = os.umask(0o177)
        listening.bind(str(path))
        os.umask(mask)
        listening.listen()
        try:
            while True:
                connection, _ = listening.accept()
                with connection, suppress(OSError, ValueError, KeyError, TypeError):
                    _serve(connection, own, listening)
        finally:
            path.unlink(missing_ok=True)


def _serve(connection: socket.socket, own: str, listening: socket.socket) -> None:
    """Fork for one command, unless it is of another program or another user."""
    if user_of(connection) != os.getuid():
        return
    request, streams = _request(connection)
    try:
        if request["stamp"] == own and len(streams) == 3 and os.fork() == 0:
            listening.close()
            _run(connection, request, streams)
    finally:
        for descriptor in streams:
            os.close(descriptor)


def _request(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    connection.settimeout(5.0)
    content, streams, _, _ = socket.recv_fds(connection, 2**16, 3)
    while not content.endswith(b"\n") and len(content) < MAX_REQUEST:
        more = connection.recv(2**16)
        if not more:
            break
        content += more
    connection.settimeout(None)
    return json.loads(content), streams


def _run(connection: socket.socket, request: dict[str, Any], streams: list[int]) -> NoReturn:
    """In the fork: become the command, as if it had been started where it was typed."""
    code = 1
    try:
        os.setsid()  # what ends this fleet's processes must not end the command
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _take_surroundings(request, streams)
        connection.sendall(f"{os.getpid()}\n".encode())
        threading.Thread(target=_end_with, args=(connection,), name="borrower", daemon=True).start()
        from workers.cli import run

        code = run(request["words"])
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(f"{code}\n".encode())
    finally:
        os._exit(code)


def _take_surroundings(request: dict[str, Any], streams: list[int]) -> None:
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    os.umask(request["umask"])
    os.chdir(request["folder"])
    for descriptor, stream in enumerate(streams):
        os.dup2(stream, descriptor)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, errors="backslashreplace")  # noqa: SIM115
    sys.argv[:] = ["sealift", *request["words"]]


def _end_with(connection: socket.socket) -> None:
    """Whoever typed the command is gone: it is interrupted as by a closed terminal."""
    with suppress(OSError):
        connection.recv(1)
    os.kill(os.getpid(), signal.SIGHUP)


if __name__ == "__main__":
    sys.exit(main())
