"""``python -m bench.scale``: a backfill of very many tags, and what it costs."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench.scale import report
from bench.scale.rig import Shape
from bench.scale.server import NEVER_EMPTY
from bench.scale.trial import Outcome, Plan, measure
from bench.scale.world import Size
from tests.support.scratch import scratch_folder

DOCS = Path(__file__).parent.parent.parent / "docs"


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends what it started
    outcome = _read(options.read) if options.read else _measured(options)
    sys.stdout.write(report.markdown(outcome) + "\n")
    if options.docs:
        report.write(DOCS, outcome)
    for problem in outcome.problems:
        _say(problem)
    return 1 if outcome.problems else 0


def _measured(options: argparse.Namespace) -> Outcome:
    size = Size(options.tags, options.repositories, options.tags_per_image)
    shape = Shape(
        size, options.targets, options.regions, options.processes, settings=dict(options.settings or ())
    )
    plan = Plan(shape, options.crash, options.again, moved=options.moved, moved_pulls=options.moved_pulls)
    with scratch_folder("sealift-scale-") as folder:
        outcome = measure(folder, plan, _say)
    if options.json:
        options.json.write_text(json.dumps({"schema": 1, **asdict(outcome)}))
    return outcome


def _read(file: Path) -> Outcome:
    """What an earlier run wrote with ``--json``."""
    document = json.loads(file.read_text())
    del document["schema"]
    return Outcome.parse(document)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    add = parser.add_argument
    add("--tags", type=int, default=10_000)
    add("--repositories", type=int, default=20)
    add("--tags-per-image", type=int, default=2)
    add("--targets", type=int, default=3)
    add("--regions", type=int, default=1)
    add("--processes", type=int, default=4, help="of each region's worker")
    add("--set", dest="settings", action="append", type=_setting, metavar="VARIABLE=VALUE")
    add("--no-crash", dest="crash", action="store_false", help="let the fleet work to the end")
    add("--no-again", dest="again", action="store_false", help="do not run it again")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    add(
        "--pulls",
        type=int,
        default=NEVER_EMPTY,
        help="that the source allows in a window; unless said, plenty",
    )
    add("--moved", type=int, default=0, metavar="N", help="then move all tags of so many repositories,")
    add("--moved-pulls", type=int, default=NEVER_EMPTY, help="and copy them with so many pulls in a window")
    add("--read", type=Path, metavar="FILE", help="show such a file, measure nothing")
    add("--docs", action="store_true", help="write docs/scale.md")
    return parser


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
