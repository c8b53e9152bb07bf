"""Whether a worker lives, for orchestrators: ``python -I -S …/workers/probe.py live|ready|started``.

Looks at the age of the worker's heartbeat file and at nothing else: no broker (an outage of Redis must not
make every worker be killed) and no import beyond the standard library (a probe runs every few seconds).
"""

from __future__ import annotations

import os
import sys
import time

VARIABLE = "SEALIFT_HEARTBEAT_FILE"
LIVE_S = 600.0
"""A worker renews its file also while it waits for Redis; one that does not for so long hangs."""
READY_S = 30.0
LONGEST_WORD = 16
USAGE = "usage: python -m workers.probe live|ready|started [--file FILE]"


def verdict(question: str, file: str) -> tuple[bool, str]:
    """The answer and its reason."""
    try:
        age_s = time.time() - os.stat(file).st_mtime  # noqa: PTH116 -- pathlib costs half the probe's time
        with open(file) as opened:  # noqa: PTH123 -- as above
            word = opened.read(LONGEST_WORD).strip()
    except OSError as error:
        return False, f"{file}: {error.strerror}"
    said = f"{word}, {age_s:.0f} s ago"
    if question == "live":
        return age_s <= LIVE_S, said
    if question == "ready":
        return word == "ready" and age_s <= READY_S, said
    return True, said


def main(arguments: list[str]) -> int:
    """0 for yes, 1 for no, 2 for a question that cannot be answered."""
    question, *rest = arguments or [""]
    named = rest[1] if len(rest) == 2 and rest[0] == "--file" else None
    if question not in {"live", "ready", "started"} or (rest and named is None):
        print(USAGE, file=sys.stderr)  # noqa: T201 -- what a probe is for
        return 2
    file = named or os.environ.get(VARIABLE)
    if not file:
        print(f"which worker? set {VARIABLE}, or name its file with --file", file=sys.stderr)  # noqa: T201
        return 2
    good, reason = verdict(question, file)
    print(f"{question if good else f'not {question}'}: {reason}")  # noqa: T201
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
