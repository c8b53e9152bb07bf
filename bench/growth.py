"""``python -m bench.growth``: how the cost of a run grows with what it is about and where it runs.

Curves over tags, layers, targets, worker processes and the distance to Redis; a table and a line of the
chart for each, and two things that are asked of a fleet that is far from its Redis.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench import growthreport
from bench.curves import Measured, Point, medians, points, rounds_of
from bench.rig import Cost, Rig, Shape
from bench.servers import NoRegistry
from tests.support.scratch import scratch_folder

DOCS = Path(__file__).parent.parent / "docs"


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    wanted = [p for p in points(quick=options.quick) if not options.curves or p.curve in options.curves]
    try:
        measured = read(options.read) if options.read else _measured(wanted, options)
    except NoRegistry as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found = medians(measured)
    sys.stdout.write(growthreport.text(found))
    is_whole = not (options.quick or options.curves)
    if options.docs if options.docs is not None else is_whole:
        growthreport.write(DOCS, found, options.rounds)
    return 0


def read(file: Path) -> list[Measured]:
    """What an earlier run wrote with ``--json``."""
    document = json.loads(file.read_text())
    return [Measured(**{**one, "cost": Cost(**one["cost"])}) for one in document["measured"]]


def measure(wanted: Sequence[Point], rounds: int) -> Iterator[Measured]:
    """A fleet for each shape; its points take turns."""
    for shape in dict.fromkeys(point.shape for point in wanted):
        ours = [point for point in wanted if point.shape == shape]
        with ExitStack() as stack:
            rig = Rig(stack.enter_context(scratch_folder("sealift-bench-")), shape, stack)
            for number in range(rounds):
                for point in ours:
                    if number < rounds_of(point, rounds):
                        yield _round(rig, shape, point, number)


def _round(rig: Rig, shape: Shape, point: Point, number: int) -> Measured:
    images = point.images(number)
    rig.fill(images)
    cost = rig.run(list(images.repositories))
    return Measured(point.curve, point.work, point.x, len(images.tagged), shape.processes, cost)


def _measured(wanted: Sequence[Point], options: argparse.Namespace) -> list[Measured]:
    measured: list[Measured] = []
    try:
        for one in measure(wanted, options.rounds):
            measured.append(one)
            sys.stderr.write(f"{growthreport.line(one)}\n")
    finally:
        if options.json:
            document = {"schema": 1, "measured": [asdict(one) for one in measured]}
            options.json.write_text(json.dumps(document, indent=1))
    return measured


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    add = parser.add_argument
    add("--curves", type=_names, metavar="NAME,…", help="only these: tags, layers, targets, …")
    add("--rounds", type=int, default=1)
    add("--quick", action="store_true", help="a tenth of the tags: does it work")
    add("--json", type=Path, metavar="FILE", help="write every single round there")
    add("--read", type=Path, metavar="FILE", help="show such a file, measure nothing")
    add(
        "--docs",
        action=argparse.BooleanOptionalAction,
        help="write docs/performance.md and its chart; unless said, if every curve was measured",
    )
    return parser


def _names(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


if __name__ == "__main__":
    raise SystemExit(main())
