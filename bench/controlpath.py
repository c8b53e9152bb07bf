"""``python -m bench.controlpath``: what a batch costs besides its bytes.

Counts, for one run that copies everything and for the same once more: Celery messages, Redis round trips,
requests to the registries, CPU of the workers. Counts are exact whatever else the machine is doing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path

from bench import machine
from bench.servers import Server
from bench.sets import ImageSet, push_all, small_many
from mirror.spec import MirrorSpec, Target
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.endpoint import Endpoint
from tests.support.fleet import Fleet, made
from tests.support.scratch import scratch_folder

POLL_S = 0.05
UNDISTURBED = {"SEALIFT_SWEEP_INTERVAL_S": "3600", "SEALIFT_STALL_S": "600", "SEALIFT_PRESENT_TTL_S": "300"}
"""No sweeps and no second looks while we count."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Everything since its beginning; ``trips`` are reads that Redis took from its clients' sockets."""

    messages: int
    trips: int
    commands: int
    worker_cpu_s: float
    requests: int = 0
    wall_s: float = 0.0

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(self)))


class Bench:
    """A fleet with one worker in each region, a source, and targets spread over the regions."""

    def __init__(self, folder: Path, options: argparse.Namespace, stack: ExitStack) -> None:
        names = [f"region-{number}" for number in range(options.regions)]
        self.servers = [
            stack.enter_context(Server(folder / f"registry-{number}"))
            for number in range(options.targets + 1)
        ]
        self.source, *targets = (server.host for server in self.servers)
        self.places = [(host, names[number % len(names)]) for number, host in enumerate(targets)]
        self.fleet = stack.enter_context(
            Fleet(made(folder / "fleet"), names, UNDISTURBED, concurrency=options.processes)
        )
        self.redis = stack.enter_context(self.fleet.valkey.client())

    def fill(self, images: ImageSet) -> None:
        connections = Connections(lambda host: Endpoint(host, plain_http=True), ChainedCredentials(()))
        names = images.repositories
        push_all(images.tagged, {name: connections.open(f"{self.source}/{name}") for name in names})
        connections.close()

    def spec(self, repository: str) -> MirrorSpec:
        targets = tuple(Target(f"{host}/{repository}", region) for host, region in self.places)
        return MirrorSpec(repository.replace("/", "-"), f"{self.source}/{repository}", targets)

    def counts(self) -> Counts:
        stats, commands = self.redis.info("stats"), self.redis.info("commandstats")
        return Counts(
            messages=commands.get("cmdstat_lpush", {}).get("calls", 0),
            trips=stats["total_reads_processed"],
            commands=stats["total_commands_processed"],
            worker_cpu_s=sum(machine.tree_cpu_s(worker.pid) for worker in self.fleet.workers.values()),
        )

    def measure(self, repositories: Sequence[str]) -> tuple[Counts, int]:
        """(what a run of every repository cost, batches)."""
        for server in self.servers:
            server.traffic()
        before, began = self.counts(), time.monotonic()
        runs = [self.fleet.start_run(self.spec(name)) for name in repositories]
        polls = sum(self._await(run) for run in runs)
        wall = time.monotonic() - began
        used = self.counts() - before
        for run in runs:
            if (report := self.fleet.ledger.run_report(run)).state != "done":
                raise RuntimeError(f"{report}\n{self.fleet.logs()}")
        batches = sum(int(self.redis.hget(self.fleet.ledger.keys.run(run), "batches") or 0) for run in runs)
        requests = sum(len(server.traffic().requests) for server in self.servers)
        trips = used.trips - polls - 2  # what was asked to find out
        return Counts(used.messages, trips, used.commands - polls, used.worker_cpu_s, requests, wall), batches

    def _await(self, run: str) -> int:
        """Returns how often Redis was asked."""
        for polls in range(1, sys.maxsize):
            if self.redis.hget(self.fleet.ledger.keys.run(run), "state") != b"open":
                return polls
            time.sleep(POLL_S)
        raise AssertionError


def main(words: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(words)
    images = small_many(options.repositories, options.tags)
    with ExitStack() as stack:
        bench = Bench(stack.enter_context(scratch_folder("sealift-bench-")), options, stack)
        bench.fill(small_many(1, 1))
        bench.measure(list(small_many(1, 1).repositories))  # workers that have imported and connected
        bench.fill(images)
        for line in _measured(bench, images, options.again):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    return 0


def _measured(bench: Bench, images: ImageSet, again: int) -> Iterator[str]:
    yield (
        f"{len(images.repositories)} repositories, {len(images.tagged)} tags, {len(bench.places)} targets "
        f"in {len(bench.fleet.regions)} regions, {bench.fleet.concurrency} processes a worker"
    )
    yield "run     messages  /batch  trips  /batch   /tag  commands/tag  requests/tag  CPU ms/tag  wall s"
    for name in ("copy", *["again"] * again):
        cost, batches = bench.measure(list(images.repositories))
        tags = len(images.tagged)
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
