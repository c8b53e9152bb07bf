"""``python -m tests.chaos``: the whole storm, its figures printed and written to docs/guarantees.md."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from tests.chaos.figures import DOCUMENT, write
from tests.chaos.plan import SMALL, WHOLE
from tests.chaos.run import run
from tests.support.scratch import scratch_folder


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--small", action="store_true", help="the size that the tests run")
    parser.add_argument("--seed", type=int, help="another order of faults")
    parser.add_argument("--tags", type=int, help="how many tags there are")
    parser.add_argument("--each", type=int, help="how often each class of faults comes up")
    parser.add_argument("--longest", type=float, help="seconds after which no more faults are begun")
    parser.add_argument("--keep", type=Path, help="leave logs and what was seen in this new folder")
    parser.add_argument("--no-write", action="store_true", help=f"leave {DOCUMENT.name} as it is")
    options = parser.parse_args()
    plan = SMALL if options.small else WHOLE
    asked = {"seed": options.seed, "tags": options.tags, "each": options.each, "longest_s": options.longest}
    plan = replace(plan, **{name: value for name, value in asked.items() if value is not None})
    if options.keep:
        options.keep.mkdir(parents=True)
        result = run(plan, options.keep, say)
    else:
        with scratch_folder() as folder:
            result = run(plan, folder, say)
    say(result.text())
    if not options.no_write and result.is_good and not options.small:
        write(result)
    return 0 if result.is_good else 1


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command line


if __name__ == "__main__":
    sys.exit(main())
