"""What running processes have used, read from /proc: for fleets that are up before they are measured."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _USED = 1, slice(11, 15)
"""Fields of /proc/PID/stat after the name: the parent; user and system time, own and of reaped children."""


def tree(root: int) -> set[int]:
    """``root`` and everything below it."""
    children: dict[int, list[int]] = {}
    for pid, fields in _all_stats():
        children.setdefault(int(fields[_PARENT]), []).append(pid)
    found, open_ = set(), [root]
    while open_:
        pid = open_.pop()
        found.add(pid)
        open_ += children.get(pid, [])
    return found


def tree_cpu_s(root: int) -> float:
    """CPU seconds of a tree so far, those of its dead included."""
    wanted = tree(root)
    return sum(sum(map(int, fields[_USED])) for pid, fields in _all_stats() if pid in wanted) / _TICKS


def forget_peaks(root: int) -> None:
    """Let the peaks of a tree's processes start from what they use now."""
    for pid in tree(root):
        with suppress(OSError):
            (PROC / str(pid) / "clear_refs").write_text("5")


def tree_peak_bytes(root: int) -> int:
    """Peak memory of the largest process of a tree since :func:`forget_peaks`."""
    return max((_peak_bytes(pid) for pid in tree(root)), default=0)


def busy_s() -> float:
    """CPU seconds that this machine has spent on anything at all since it started."""
    first, *_ = (PROC / "stat").read_text().splitlines()
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, first.split()[1:])
    return (user + nice + system + irq + softirq) / _TICKS


def largest_bytes(root: int) -> int:
    """Memory of the largest process of a tree now."""
    return max((_status_bytes(pid, "VmRSS:") for pid in tree(root)), default=0)


def _all_stats() -> Iterator[tuple[int, list[str]]]:
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()


def _peak_bytes(pid: int) -> int:
    return _status_bytes(pid, "VmHWM:")


def _status_bytes(pid: int, name: str) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    return 0
