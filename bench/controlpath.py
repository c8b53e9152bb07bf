"""``python -m bench.controlpath``: what a batch costs besides its bytes.

Counts, for one run that copies everything and for the same once more: Celery messages, Redis round trips,
requests to the registries, CPU of the workers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from bench.rig import Rig, Shape
from bench.sets import ImageSet, small_many
from tests.support.scratch import scratch_folder


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    images = small_many(options.repositories, options.tags)
    with ExitStack() as stack:
        shape = Shape(options.targets, options.regions, options.processes)
        rig = Rig(stack.enter_context(scratch_folder("sealift-bench-")), shape, stack)
        rig.fill(images)
        for line in _measured(rig, images, options.again):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


def _measured(rig: Rig, images: ImageSet, again: int) -> Iterator[str]:
    yield (
        f"{len(images.repositories)} repositories, {len(images.tagged)} tags, {len(rig.places)} targets "
        f"in {len(rig.fleet.regions)} regions, {rig.fleet.concurrency} processes a worker"
    )
    yield "run     messages  /batch  trips  /batch   /tag  commands/tag  requests/tag  CPU ms/tag  wall s"
    for name in ("copy", *["again"] * again):
        cost = rig.run(list(images.repositories))
        tags, batches = len(images.tagged), cost.batches
        yield (
            f"{name:6} {cost.messages:9} {cost.messages / batches:7.1f} {cost.trips:6} "
            f"{cost.trips / batches:7.1f} {cost.trips / tags:6.1f} {cost.commands / tags:13.1f} "
            f"{cost.requests / tags:13.1f} {1000 * cost.worker_cpu_s / tags:11.1f} {cost.wall_s:7.2f}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.controlpath", description=__doc__)
    parser.add_argument("--repositories", type=int, default=12, help="each is a run of its own (default: 12)")
    parser.add_argument("--tags", type=int, default=5, help="tags of each (default: 5)")
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--regions", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2, help="of each region's worker (default: 2)")
    parser.add_argument("--again", type=int, default=2, help="runs with nothing to do (default: 2)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
