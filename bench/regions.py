"""``python -m bench.regions``: what a region far from Redis and the source costs, and how it comes back.

``us`` is in a network namespace at the other end of a slow link, its registry beside it. Needs root.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count

from bench import machine
from bench.figures import NOISY
from mirror.report import RunReport
from mirror.spec import Finalize, MirrorSpec, Target
from registry.images import Image, build_image, random_layer
from tests.support.regions import FAR, NEAR, ROUND_TRIP_MS, Regions
from tests.support.scratch import scratch_folder
from tests.support.waiting import until
from tests.support.wanlink import Unavailable, enter

KIB, MIB = 2**10, 2**20
PINGS = 20
IDLE_S = 5.0
TIMEOUT_S = 300.0
POLL_S = 0.05
USUAL = {
    "SEALIFT_SWEEP_INTERVAL_S": "5",
    "SEALIFT_STALL_S": "45",
    "SEALIFT_PRESENT_TTL_S": "300",
}
"""The waits of a fleet that nobody has set up otherwise; tests have shorter ones."""
WAYS = {"near only": (NEAR,), "far only": (FAR,), "both": (NEAR, FAR)}
SHAPES = ((1, 6), (1, 16), (2, 6), (4, 6))
"""Processes of a worker and SEALIFT_COPY_THREADS; the first is what the rest is compared with."""
_numbers = count()


@dataclass(frozen=True, slots=True)
class Figure:
    """One run."""

    wall_s: float
    batches: int
    trips: float
    """Reads that Redis took from its clients, without those of workers that have nothing to do."""
    noise: float
    """Cores that others used meanwhile."""


class Trial:
    """A fleet over two regions, and runs on it that have nothing in common."""

    def __init__(self, regions: Regions) -> None:
        self.regions = regions
        self.redis = regions.fleet.valkey.client()
        self._idle_per_s = 0.0
        self.run((NEAR, FAR), small(4))  # workers that have imported and connected
        before = self._reads()
        time.sleep(IDLE_S)
        self._idle_per_s = (self._reads() - before) / IDLE_S

    def ping_ms(self) -> float:
        """A round trip between ``us`` and Redis: the median of some."""
        with ThreadPoolExecutor(1) as apart:
            return apart.submit(self._ping_from_there).result()

    def run(self, where: Sequence[str], images: Mapping[str, Image]) -> Figure:
        """Mirror images to these regions."""
        spec = self.spec(where, images)
        begun, reads, others = time.monotonic(), self._reads(), _others_cpu_s()
        run = self.regions.fleet.start_run(spec)
        report = self.ended(run)
        noise = (_others_cpu_s() - others) / (time.monotonic() - begun)
        wall = (report.finished_s or 0.0) - report.started_s
        trips = self._reads() - reads - self._idle_per_s * wall
        batches = int(self.redis.hget(self.regions.fleet.ledger.keys.run(run), "batches") or 0)
        return Figure(wall, batches, trips, max(0.0, noise))

    def spec(
        self, where: Sequence[str], images: Mapping[str, Image], finalize: Finalize = "all"
    ) -> MirrorSpec:
        """A mirror of images that were never seen before, to be had at the source."""
        name = f"app-{next(_numbers)}"
        self.regions.fill(name, images)
        targets = tuple(Target(f"{self.regions.hosts[region]}/{name}", region) for region in where)
        return MirrorSpec(
            name, f"{self.regions.source.host}/{name}", targets, referrers=False, finalize=finalize
        )

    def ended(self, run: str) -> RunReport:
        """The report of a run that has gone well."""
        ledger, logs = self.regions.fleet.ledger, self.regions.fleet.logs
        state = partial(self.redis.hget, ledger.keys.run(run), "state")
        until(lambda: state() != b"open", TIMEOUT_S, logs, POLL_S)
        report = ledger.run_report(run)
        if report.state != "done":
            raise RuntimeError(f"{report}\n{logs()}")
        return report

    def _ping_from_there(self) -> float:
        enter(self.regions.link.namespace)
        with self.regions.fleet.valkey.client() as client:
            client.ping()
            return 1000 * statistics.median(_seconds(client.ping) for _ in range(PINGS))

    def _reads(self) -> int:
        return int(self.redis.info("stats")["total_reads_processed"])


def small(images: int) -> dict[str, Image]:
    """Tags of a few bytes and two layers of 64 KiB each, all of them new."""
    return {
        f"1.{number}": build_image(
            {"app": f"{next(_numbers)}".encode()},
            layers=[random_layer(64 * KIB, next(_numbers)) for _ in "12"],
        )
        for number in range(images)
    }


def large(mib: int) -> dict[str, Image]:
    """One tag of one layer."""
    return {"1.0": build_image({"app": b"large"}, layers=[random_layer(mib * MIB, next(_numbers))])}


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    try:
        for number, (processes, threads) in enumerate(SHAPES):
            with ExitStack() as stack:
                trial = _trial(stack, options, processes, threads)
                _say(f"{processes} processes a worker, SEALIFT_COPY_THREADS={threads}")
                if not number:
                    _say(f"a round trip between Redis and {FAR}: {trial.ping_ms():.1f} ms")
                for line in _measured(trial, options):
                    _say(line)
                if not number:
                    for line in _cut(trial, options):
                        _say(line)
    except Unavailable as reason:
        _say(f"needs root, and a kernel with network namespaces and TUN: {reason}")
        return 1
    return 0


def _trial(stack: ExitStack, options: argparse.Namespace, processes: int, threads: int) -> Trial:
    folder = stack.enter_context(scratch_folder("sealift-bench-"))
    settings = {**USUAL, "SEALIFT_COPY_THREADS": str(threads)}
    workers, ms = options.far_workers, options.round_trip_ms
    return Trial(Regions(folder, stack, settings, processes, workers, round_trip_ms=ms))


def _measured(trial: Trial, options: argparse.Namespace) -> Iterator[str]:
    kinds: dict[str, Callable[[], dict[str, Image]]] = {
        f"{options.images} small": lambda: small(options.images),
        f"one of {options.mib} MiB": lambda: large(options.mib),
    }
    yield "images          regions      wall s  tags/s  batches  Redis round trips/batch"
    for title, images in kinds.items():
        for way, where in WAYS.items():
            found = sorted(
                (trial.run(where, images()) for _ in range(options.rounds)), key=lambda one: one.wall_s
            )
            one = found[len(found) // 2]
            tags = options.images if "small" in title else 1
            noise = f"   others used {one.noise:.1f} cores" if one.noise > NOISY else ""
            yield (
                f"{title:15} {way:11} {one.wall_s:7.2f} {tags / one.wall_s:7.1f} {one.batches:8} "
                f"{one.trips / one.batches:10.0f}{noise}"
            )


def _cut(trial: Trial, options: argparse.Namespace) -> Iterator[str]:
    """The link is cut while ``us`` is at work, for some time."""
    regions, fleet = trial.regions, trial.regions.fleet
    kinds: tuple[Finalize, ...] = ("all", "each")
    specs = {kind: trial.spec((NEAR, FAR), small(options.images), kind) for kind in kinds}
    regions.us.process.freeze()
    runs = {kind: fleet.start_run(spec) for kind, spec in specs.items()}
    began = time.monotonic()
    until(lambda: regions.in_hand(FAR), TIMEOUT_S, fleet.logs)
    regions.link.switch("cut")
    cut = time.monotonic()
    regions.us.process.thaw()
    near = {kind: partial(_near_tags, trial, run) for kind, run in runs.items()}
    until(lambda: near["each"]()[1] == options.images, TIMEOUT_S, fleet.logs, POLL_S)
    yield f"cut: with finalize: each {NEAR} had moved all its tags {time.monotonic() - cut:.1f} s later"
    until(lambda: near["all"]()[0] == options.images, TIMEOUT_S, fleet.logs, POLL_S)
    took, moved = time.monotonic() - cut, near["all"]()[1]
    yield f"     with finalize: all {NEAR} had landed all of them {took:.1f} s later, and moved {moved}"
    time.sleep(max(0.0, cut + options.cut_s - time.monotonic()))
    for kind, run in runs.items():
        yield f"     status of {kind}: {fleet.sealift('status', run).stdout.strip().splitlines()[-2:]}"
    regions.link.switch("through")
    healed = time.monotonic()
    yield f"healed after {healed - cut:.0f} s, {healed - began:.0f} s after the start"
    for kind, run in runs.items():
        trial.ended(run)
        yield f"     with finalize: {kind} done {time.monotonic() - healed:.1f} s after the heal"


def _near_tags(trial: Trial, run: str) -> tuple[int, int]:
    """Of the near region: tags landed, tags moved."""
    report = trial.regions.fleet.ledger.run_report(run)
    near = next(one for one in report.regions if one.region == NEAR)
    return near.tags_landed, near.tags_flipped


def _seconds(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _others_cpu_s() -> float:
    """CPU seconds of everything that was not started from here."""
    return machine.busy_s() - machine.tree_cpu_s(os.getpid())


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.regions", description=__doc__)
    parser.add_argument("--round-trip-ms", type=float, default=ROUND_TRIP_MS, help="default: %(default)s")
    parser.add_argument("--images", type=int, default=20, help="small ones (default: %(default)s)")
    parser.add_argument("--mib", type=int, default=50, help="of the large one (default: %(default)s)")
    parser.add_argument("--far-workers", type=int, default=2, help=f"of {FAR} (default: %(default)s)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of which the median is shown (default: %(default)s)"
    )
    parser.add_argument(
        "--cut-s", type=float, default=90.0, help=f"how long {FAR} is cut off (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
