"""Programs that tests start: each ends with its test, and leaves a log to read when it did not work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

TAIL_BYTES = 4000


class Process:
    """One started program, in a process group of its own; stdout and stderr go to the file ``log``."""

    def __init__(
        self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start ``argv``; ``env`` is added to :func:`surroundings`."""
        self.log = log
        self.name = Path(argv[0]).name
        with log.open("ab") as sink:
            self._popen = subprocess.Popen(
                [*_dying_with_parent(), *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**surroundings(), **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._popen.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program alone, not to its children."""
        if self.running:
            self._popen.send_signal(number)

    def freeze(self) -> None:
        """Suspend the program and its children, as a machine that stopped answering would be."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the program and its children at once: they get no chance to tidy up."""
        if self.running:
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait(timeout=10)

    def stop(self, grace_s: float = 10.0) -> int:
        """Ask the program to end, kill it after ``grace_s`` seconds; returns its exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self._popen.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            self.kill()
            return self._popen.wait()

    def text(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text(errors="replace")

    def tail(self) -> str:
        """Its name, log file and last lines, for a failure's message."""
        state = "running" if self.running else f"ended with {self.exit_code}"
        return f"{self.name} (pid {self.pid}, {state}), {self.log}:\n{self.text()[-TAIL_BYTES:]}"


def surroundings() -> dict[str, str]:
    """This process's environment without anybody's own fleet in it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SEALIFT_")}


def _dying_with_parent() -> list[str]:
    """Words before a command that end it when a test run is killed; empty where the system has none."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
