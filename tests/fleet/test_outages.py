"""Redis goes away, workers go deaf: what `sealift up` makes of it. Real processes under the supervisor."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic

import pytest

from mirror.spec import MirrorSpec, Target
from registry.images import build_image, random_layer
from registry.memory import MemoryRegistry
from tests.support.fleet import Fleet, made
from tests.support.pushing import push
from tests.support.scratch import scratch_folder
from tests.support.waiting import eventually, until
from workers import processes
from workers import supervisor as subject
from workers.embedded import worker_child
from workers.supervisor import Child, Death, Supervisor

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

SOON_S = 15.0
"""Long enough for a worker to start on a busy machine."""
DEAF = """
import os, sys, threading
from celery.signals import worker_ready
from kombu.asynchronous import get_event_loop

def grow_deaf(**_):
    if not os.path.exists(os.environ["ONCE"]):
        open(os.environ["ONCE"], "w").close()
        threading.Timer(3, lambda: get_event_loop().on_tick.clear()).start()

worker_ready.connect(grow_deaf)
from workers.launch import worker
sys.exit(worker(sys.argv[1:]))
"""
"""The loop turns and its timers fire, but nothing asks Redis for messages any more."""


@dataclass
class Station:
    """A supervised worker and beat on a Valkey that can go away."""

    fleet: Fleet
    keeper: Supervisor
    deaths: SimpleQueue[Death]
    source: MemoryRegistry
    eu: MemoryRegistry
    seen: list[Death] = field(default_factory=list)

    def child(self) -> Child:
        log = self.fleet.folder / "log" / "worker-eu.log"
        return worker_child("eu", 1, log, {**self.fleet._env, "SEALIFT_STALL_S": "5"})

    def start(self, child: Child) -> None:
        beat = Child("beat", tuple(processes.beat()), child.log.with_name("beat.log"), self.fleet._env)
        self.keeper.start(child, beat)
        until(lambda: self.fleet.ledger.workers.live_regions() == {"eu"}, 60, self.logs)

    def begin(self, tag: str) -> str:
        """A run over a new image; its id."""
        image = build_image({"app": tag.encode()}, layers=[random_layer(2**20, seed=len(tag))])
        push(f"{self.source.host}/team/{tag}", image, "1.0")
        target = Target(f"{self.eu.host}/team/{tag}", "eu")
        return self.fleet.start_run(MirrorSpec(tag, f"{self.source.host}/team/{tag}", (target,)))

    def ends_well(self, run: str, within_s: float = 60) -> bool:
        def ended() -> bool:
            return self.fleet.ledger.run_report(run).ended

        until(ended, within_s, lambda: f"{self.fleet.ledger.run_report(run)}\n{self.logs()}")
        assert self.fleet.ledger.run_report(run).states == {"updated": 1}, str(self.fleet.tags(run))
        return True

    def died(self, name: str) -> list[Death]:
        while True:
            try:
                self.seen.append(self.deaths.get_nowait())
            except Empty:
                return [death for death in self.seen if death.child.name == name]

    def logs(self) -> str:
        logs = (self.fleet.folder / "log").glob("*.log")
        return "\n".join(f"{log}\n{log.read_text()[-3000:]}" for log in logs)


@pytest.fixture
def station() -> Iterator[Station]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, eu = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        fleet = Fleet(made(folder / "fleet"), [])
        stack.callback(fleet.stop)
        deaths: SimpleQueue[Death] = SimpleQueue()
        keeper = Supervisor(deaths.put)
        stack.callback(keeper.close)
        yield Station(fleet, keeper, deaths, source, eu)


def outage(station: Station, seconds: float) -> None:
    """Redis is killed, and comes back with what it had written down."""
    back = monotonic() + seconds
    station.fleet.valkey.kill()
    assert not eventually(lambda: monotonic() >= back and station.fleet.valkey.process.running, seconds)
    station.fleet.valkey.restart()


def test_a_worker_that_stands_still_is_started_again_and_said_so_once(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "DEAF_S", SOON_S)
    station.start(station.child())
    frozen = station.keeper.pid("worker-eu")

    os.killpg(frozen, signal.SIGSTOP)
    run = station.begin("frozen")

    assert station.ends_well(run)
    (death,) = station.died("worker-eu")
    assert str(death).startswith("worker-eu does not react")
    assert station.keeper.pid("worker-eu") != frozen


def test_a_worker_that_hears_nothing_any_more_is_started_again_though_its_loop_turns(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "DEAF_S", SOON_S)
    usual = station.child()
    deaf = (sys.executable, "-P", "-c", DEAF, "--region", "eu", "--concurrency", "1")
    station.start(
        replace(usual, command=deaf, environment={**usual.environment, "ONCE": str(tmp_path / "once")})
    )
    until(lambda: len(station.died("worker-eu")) == 1, 40, station.logs)

    assert station.ends_well(station.begin("deaf"))
    assert [death.deaf for death in station.died("worker-eu")] == [True]


def test_a_worker_that_works_for_long_is_not_deaf(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "DEAF_S", SOON_S)
    station.start(station.child())
    with station.eu.pause(lambda method, path: method == "PUT" and "/blobs/" in path) as stalled:
        run = station.begin("long")
        assert stalled.reached.wait(30)
        assert not eventually(lambda: bool(station.died("worker-eu")), 1.5 * SOON_S)

    assert station.ends_well(run)


@pytest.mark.parametrize("seconds", [4])
def test_runs_end_after_an_outage_of_redis(station: Station, seconds: float) -> None:
    station.start(station.child())
    with station.eu.pause(lambda method, path: method == "PUT" and "/blobs/" in path) as stalled:
        run = station.begin("outage")
        assert stalled.reached.wait(30)
        assert not eventually(lambda: False, 1.5)  # what an append-only file synced every second may lose

        outage(station, seconds)

    assert station.ends_well(run, within_s=120)
    assert station.ends_well(station.begin("afterwards"), within_s=60)
    assert len(station.died("worker-eu")) <= 2, station.seen
    assert len(station.died("beat")) <= 2, station.seen
    assert not any(death.hopeless for death in station.seen)
