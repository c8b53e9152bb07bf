"""Where the storm's processes are forked from: one that has imported everything, so that a start is cheap.

A storm starts some hundreds of processes; most of what a start costs is importing Celery. What is forked
here is a process of its own in every other respect: a session, a log, an environment, no connection.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tests.support.process import TAIL_BYTES, surroundings
from tests.support.waiting import until
from tests.support.wanlink import enter

PRELOADED = (
    "apprise",
    "celery.app.amqp", "celery.apps.beat", "celery.apps.worker", "celery.backends.redis", "celery.bin.worker",
    "celery.concurrency.prefork", "celery.worker.consumer", "kombu.transport.redis", "mirror.land",
    "tasks.notify", "tasks.probing", "tasks.pruning", "tasks.steps", "tasks.sweep", "tests.chaos.launch",
    "workers.launch",
)  # fmt: skip
LOOK_S = 0.05
PR_SET_PDEATHSIG = 1


class Nursery:
    """The process that forks others, from the outside."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._log = folder / "nursery.log"
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "tests.chaos.nursery"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**surroundings(), **env},
                cwd=folder,
            )

    def start(self, argv: Sequence[str], log: Path, env: Mapping[str, str], namespace: str = "") -> Forked:
        """Run ``tests.chaos.launch`` with the arguments; in the network namespace at that path."""
        assert self._popen.stdin
        assert self._popen.stdout
        log.touch()  # whoever reads it may be faster than the process that writes it
        order = {
            "argv": list(argv),
            "log": str(log),
            "env": {**surroundings(), **env},
            "namespace": namespace,
        }
        self._popen.stdin.write(json.dumps(order) + "\n")
        self._popen.stdin.flush()
        answer = self._popen.stdout.readline()
        assert answer, self._log.read_text()
        return Forked(int(answer), log)

    def stop(self) -> None:
        """It ends, and with it whatever it forked."""
        with self._popen:
            self._popen.kill()


class Forked:
    """A process of the nursery, as :class:`tests.support.process.Process` is one of ours."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid, self.log = pid, log

    @property
    def running(self) -> bool:
        try:
            # "pid (name) S …": a zombie waits for the nursery to look.
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
        except OSError:
            return False

    def kill(self) -> None:
        """It and its children, at once."""
        if self.running or _is_group(self.pid):
            for end in (os.killpg, os.kill):  # just forked, it may not lead a group yet
                with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                    end(self.pid, signal.SIGKILL)
        until(lambda: not self.running, 10, self.tail, interval_s=0.002)

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        return f"pid {self.pid}, {self.log}:\n{self.text()[-TAIL_BYTES:]}"


def _is_group(pid: int) -> bool:
    """Whether children are left of a process that is gone."""
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    return True


def serve(orders: IO[str]) -> None:
    """Fork what is ordered, line by line; bury what has ended."""
    for name in PRELOADED:
        importlib.import_module(name)
    while True:
        ready, _, _ = select.select([orders], [], [], LOOK_S)
        _bury()
        if not ready:
            continue
        line = orders.readline()
        if not line:
            return
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
        print(pid, flush=True)  # noqa: T201 - the answer to the order


def _bury() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _become(order: dict[str, Any]) -> None:
    """Never returns."""
    from tests.chaos import launch

    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    sink = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    if order["namespace"]:
        enter(order["namespace"])
    os.environ.clear()
    os.environ.update(order["env"])
    sys.argv = ["launch", *order["argv"]]
    sys.exit(launch.main())


if __name__ == "__main__":
    serve(sys.stdin)
