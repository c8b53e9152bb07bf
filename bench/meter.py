"""Run one command and write down what it cost, everything below it included.

Started as a script in a bare interpreter (``python -I -S meter.py REPORT COMMAND …``): what it imports
counts as the least memory that can be told apart, about 12 MiB.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36
LEFTOVERS_S = 20
"""Processes that outlive their command are waited for this long; what is left then is not counted."""


def _out_of_patience(_signum: int, _frame: object) -> None:
    raise TimeoutError


def measure(command: list[str]) -> dict[str, float]:
    """Wall time until the command ends, CPU time of all its descendants, peak memory of the largest."""
    # Orphans become this process's children, so that what they cost is collected here too.
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError("this system has no subreapers")
    began = time.monotonic()
    process = os.posix_spawnp(command[0], command, os.environ)
    wall, status = 0.0, 1
    signal.signal(signal.SIGALRM, _out_of_patience)
    try:
        while True:
            ended, raw = os.wait()
            if ended == process:
                wall, status = time.monotonic() - began, os.waitstatus_to_exitcode(raw)
                signal.alarm(LEFTOVERS_S)
    except (ChildProcessError, TimeoutError):
        signal.alarm(0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_s": wall,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
        "status": status,
    }


if __name__ == "__main__":
    report = measure(sys.argv[2:])
    with open(sys.argv[1], "w", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would count as memory
        json.dump(report, file)
