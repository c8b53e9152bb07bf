"""A fleet between registries, and what a run of it costs: counted, whatever else the machine is doing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench import machine
from bench.servers import DELAY, Server
from bench.sets import ImageSet, push_all, small_many
from mirror.spec import MirrorSpec, Target
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.endpoint import Endpoint
from tests.support.fleet import Fleet, made
from tests.support.ports import LOOPBACK, free_port, is_listening
from tests.support.process import Process
from tests.support.waiting import until

POLL_S = 0.02
FORWARDER_TIMEOUT_S = 20.0
UNDISTURBED = {"SEALIFT_SWEEP_INTERVAL_S": "3600", "SEALIFT_STALL_S": "600", "SEALIFT_PRESENT_TTL_S": "300"}
"""No sweeps and no second looks while we count."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of what, and how far Redis is from everybody but ourselves."""

    targets: int = 1
    regions: int = 1
    processes: int = 2
    """Of each region's worker."""
    redis_ms: float = 0.0
    """A round trip."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of runs that were started together, from the first start to the last end."""

    wall_s: float
    worker_cpu_s: float
    worker_peak_bytes: int
    """Of the largest process of a worker."""
    messages: int
    """Of Celery."""
    commands: int
    """Calls of Redis, those of its scripts included."""
    trips: int
    """Reads that Redis took from its clients' sockets."""
    redis_bytes: int
    """What it holds more than before."""
    requests: int
    """To all registries."""
    batches: int
    noise: float = 0.0
    """Cores that others used meanwhile."""


class _Counts(NamedTuple):
    """Everything since its beginning."""

    messages: int
    commands: int
    trips: int
    redis_bytes: int
    worker_cpu_s: float


class Rig:
    """A fleet with one worker in each region, a source, and targets spread over the regions."""

    def __init__(self, folder: Path, shape: Shape, stack: ExitStack) -> None:
        names = [f"region-{number}" for number in range(shape.regions)]
        self.servers = [
            stack.enter_context(Server(folder / f"registry-{number}")) for number in range(shape.targets + 1)
        ]
        self.source, *targets = (server.host for server in self.servers)
        self.places = [(host, names[number % len(names)]) for number, host in enumerate(targets)]
        near = free_port()
        far = {"SEALIFT_REDIS_URL": f"redis://{LOOPBACK}:{near}/0"} if shape.redis_ms else {}
        self.fleet = Fleet(made(folder / "fleet"), names, {**UNDISTURBED, **far}, shape.processes)
        stack.callback(self.fleet.stop)
        if far:
            stack.enter_context(_forwarder(near, self.fleet.valkey.port, shape.redis_ms, folder))
        stack.enter_context(self.fleet)
        self.redis = stack.enter_context(self.fleet.valkey.client())
        self._warm_up()

    def fill(self, images: ImageSet) -> None:
        """Push to the source, and have it at the targets as well if that is how the set is."""
        connections = Connections(lambda host: Endpoint(host, plain_http=True), ChainedCredentials(()))
        names = images.repositories
        push_all(images.tagged, {name: connections.open(f"{self.source}/{name}") for name in names})
        connections.close()
        source, *targets = self.servers
        for target in targets if images.is_mirrored else ():
            target.fill_from(source, tuple(names))

    def run(self, repositories: Sequence[str]) -> Cost:
        """What a run of each repository costs, all at once."""
        for server in self.servers:
            server.traffic()
        workers = [worker.pid for worker in self.fleet.workers.values()]
        for worker in workers:
            machine.forget_peaks(worker)
        others = _others_cpu_s()
        before, began = self._counts(), time.monotonic()
        runs = [self.fleet.start_run(self._spec(name)) for name in repositories]
        polls = sum(self._await(run) for run in runs)
        wall = time.monotonic() - began
        noise = (_others_cpu_s() - others) / wall
        after = self._counts()
        for run in runs:
            if (report := self.fleet.ledger.run_report(run)).state != "done":
                raise RuntimeError(f"{report}\n{self.fleet.logs()}")
        own = polls + 1  # what was asked to find out
        return Cost(
            wall_s=wall,
            worker_cpu_s=after.worker_cpu_s - before.worker_cpu_s,
            worker_peak_bytes=max(map(machine.tree_peak_bytes, workers)),
            messages=after.messages - before.messages,
            commands=after.commands - before.commands - own,
            trips=after.trips - before.trips - own,
            redis_bytes=after.redis_bytes - before.redis_bytes,
            requests=sum(len(server.traffic().requests) for server in self.servers),
            noise=max(0.0, noise),
            batches=sum(
                int(self.redis.hget(self.fleet.ledger.keys.run(run), "batches") or 0) for run in runs
            ),
        )

    def _warm_up(self) -> None:
        """Workers that have imported and connected."""
        some = small_many(2 * self.fleet.concurrency, 1)
        self.fill(some)
        self.run(list(some.repositories))

    def _spec(self, repository: str) -> MirrorSpec:
        targets = tuple(Target(f"{host}/{repository}", region) for host, region in self.places)
        return MirrorSpec(repository.replace("/", "-"), f"{self.source}/{repository}", targets)

    def _counts(self) -> _Counts:
        told = self.redis.info("all")
        calls = {name: stats["calls"] for name, stats in told.items() if name.startswith("cmdstat_")}
        return _Counts(
            messages=calls.get("cmdstat_lpush", 0),
            commands=sum(calls.values()),
            trips=told.get("total_reads_processed", 0),
            redis_bytes=told["used_memory"],
            worker_cpu_s=sum(machine.tree_cpu_s(worker.pid) for worker in self.fleet.workers.values()),
        )

    def _await(self, run: str) -> int:
        """Returns how often Redis was asked."""
        for polls in range(1, sys.maxsize):
            if self.redis.hget(self.fleet.ledger.keys.run(run), "state") != b"open":
                return polls
            time.sleep(POLL_S)
        raise AssertionError


def _others_cpu_s() -> float:
    """CPU seconds of everything that was not started from here; the fleet and its registries were."""
    return machine.busy_s() - machine.tree_cpu_s(os.getpid())


def _forwarder(port: int, to: int, round_trip_ms: float, folder: Path) -> Process:
    words = (str(port), str(to), str(round_trip_ms))
    process = Process([sys.executable, "-I", str(DELAY), *words], folder / "delay.log")
    until(lambda: is_listening(port), FORWARDER_TIMEOUT_S, process.tail)
    return process
