"""Runs a program that ends when its parent does: ``python tether.py PARENT_PID SIGNAL PROGRAM ARGUMENT…``.

A program of its own because what it does must happen between fork and exec, where a process that has
threads must not run Python. On Linux the kernel sends SIGNAL when the thread that started the program
ends; elsewhere the program is started as it is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, signum: int = signal.SIGKILL) -> None:
    """Let the kernel send this process ``signum`` when its parent ends; exits if ``parent`` has ended.

    Survives exec, not fork: every child asks for itself.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        sys.exit(f"the process {parent}, for which this one was started, has ended")


def main() -> None:
    parent, signum, *program = sys.argv[1:]
    end_with_parent(int(parent), int(signum))
    os.execvp(program[0], program)  # noqa: S606 -- the point of this program


if __name__ == "__main__":
    main()
