"""Keeps child processes running: starts them, restarts what dies, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from workers.processes import tethered

LOOK_INTERVAL_S = 0.1
FIRST_DELAY_S = 0.25
LONGEST_DELAY_S = 15.0
STEADY_S = 20.0
"""A process that lived this long starts with a clean slate when it dies."""
HOPELESS = 4
"""Deaths in a row, none after a steady life, that say a process cannot run here."""
DEAF_S = 45.0
"""A heartbeat that stays away for so long: above the longest pause (30 s) between two attempts of a worker
to reach a Redis that was away, and the interval (10 s) in which it excuses itself meanwhile."""
KEPT_LOG_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep running; ``name`` also names its log."""

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """On top of this process's own."""
    orphan_signal: int = signal.SIGKILL
    """What it gets when this process dies without stopping it."""
    pass_fds: tuple[int, ...] = ()
    heartbeat: Path | None = None
    """A file that the child renews for as long as it is well (see :mod:`workers.heartbeat`)."""


@dataclass(frozen=True, slots=True)
class Death:
    """A child that ended on its own, or was ended because it did not react any more.

    It is started again after ``delay_s``.
    """

    child: Child
    status: int
    """As Popen: negative is the signal that ended it."""
    hopeless: bool
    delay_s: float
    deaf: bool = False

    def __str__(self) -> str:
        if self.deaf:
            return f"{self.child.name} does not react (log: {self.child.log})"
        how = f"signal {-self.status}" if self.status < 0 else f"exit {self.status}"
        return f"{self.child.name} stopped unexpectedly ({how}); log: {self.child.log}"


@dataclass(slots=True)
class _Running:
    child: Child
    process: subprocess.Popen[bytes]
    born: float
    deaths: int = 0
    due: float | None = None
    renewed: float | None = None
    """The heartbeat file's own time, as seen last."""
    heard: float = field(default_factory=monotonic)
    """When it was seen to have changed, by the clock that nobody sets."""


class Supervisor:
    """Children by name. Start it from a thread that lives as long as they should.

    The kernel ties an orphan's end to the thread that started it. Children do not belong to the
    terminal's process group: Ctrl-C reaches this process alone, which stops them in order.
    """

    def __init__(self, on_death: Callable[[Death], None] = lambda _: None) -> None:
        self._on_death = on_death
        self._running: dict[str, _Running] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watch = threading.Thread(target=self._look_after_all, name="supervisor", daemon=True)

    def start(self, *children: Child) -> None:
        """Start each, at once; a name that already runs is left alone."""
        with self._lock:
            for child in children:
                if child.name not in self._running:
                    self._running[child.name] = _Running(child, _spawn(child), monotonic())
        if not self._watch.is_alive() and not self._closed.is_set():
            self._watch.start()

    @property
    def names(self) -> list[str]:
        with self._lock:
            return list(self._running)

    def pid(self, name: str) -> int:
        return self._running[name].process.pid

    def stop(self, names: Iterable[str], grace_s: float, hurry: threading.Event | None = None) -> None:
        """End these together: SIGTERM, then SIGKILL for whoever is left after the grace or a hurry."""
        with self._lock:
            leaving = [self._running.pop(name) for name in names if name in self._running]
        for running in leaving:
            with suppress(ProcessLookupError):
                running.process.terminate()
        deadline = monotonic() + grace_s
        for running in leaving:
            _await_end(running.process, deadline, hurry)
            _kill_group(running.process)

    def close(self) -> None:
        """End the watch, and with SIGKILL whatever was not stopped."""
        self._closed.set()
        if self._watch.is_alive():
            self._watch.join()
        self.stop(self.names, grace_s=0.0)

    def _look_after_all(self) -> None:
        while not self._closed.wait(LOOK_INTERVAL_S):
            with self._lock:
                deaths = [death for running in self._running.values() if (death := _look_after(running))]
            for death in deaths:
                self._on_death(death)


def _look_after(running: _Running) -> Death | None:
    """Bury and, when its delay is over, start again; returns a death that was just noticed."""
    if running.due is not None:
        if monotonic() >= running.due:
            running.process, running.due = _spawn(running.child), None
            running.born = running.heard = monotonic()
        return None
    status = running.process.poll()
    deaf = status is None and _is_deaf(running)
    if status is None and not deaf:
        return None
    _kill_group(running.process)
    running.deaths = 1 if monotonic() - running.born > STEADY_S else running.deaths + 1
    delay_s = min(FIRST_DELAY_S * 2 ** (running.deaths - 1), LONGEST_DELAY_S)
    running.due = monotonic() + delay_s
    return Death(running.child, running.process.returncode, running.deaths >= HOPELESS, delay_s, deaf=deaf)


def _is_deaf(running: _Running) -> bool:
    if running.child.heartbeat is None:
        return False
    with suppress(FileNotFoundError):
        renewed = running.child.heartbeat.stat().st_mtime
        if renewed != running.renewed:
            running.renewed, running.heard = renewed, monotonic()
    return monotonic() - running.heard > DEAF_S


def _spawn(child: Child) -> subprocess.Popen[bytes]:
    child.log.parent.mkdir(parents=True, exist_ok=True)
    _keep_log_short(child.log)
    with child.log.open("ab") as log:
        return subprocess.Popen(  # noqa: S603 -- command lines of ours, see workers.processes
            tethered(child.command, child.orphan_signal),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **child.environment},
            start_new_session=True,
            pass_fds=child.pass_fds,
        )


def _keep_log_short(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > KEPT_LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))


def _await_end(process: subprocess.Popen[bytes], deadline: float, hurry: threading.Event | None) -> None:
    hurry = hurry or threading.Event()
    while process.poll() is None and monotonic() < deadline:
        if hurry.wait(0.01):
            return


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it forked: a pool's children may outlive their worker."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
