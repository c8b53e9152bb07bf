"""How workers leave, and what becomes of the work of those that are killed: real processes, no sweep."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import pytest

from mirror.ledger.leases import LEASE_S
from mirror.spec import MirrorSpec, Target
from registry.images import build_image, random_layer
from registry.memory import MemoryRegistry
from tasks.canvas import PRIORITY
from tests.support.fleet import PREFIX, Fleet, made
from tests.support.process import Process
from tests.support.pushing import push
from tests.support.scratch import scratch_folder
from tests.support.waiting import until
from workers import processes

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

SOFT_S = 4
LEEWAY_S = 4
NO_SWEEP = {"SEALIFT_STALL_S": "600", "SEALIFT_SOFT_SHUTDOWN_S": str(SOFT_S)}
PLAIN = [
    *(sys.executable, "-P", "-m", "celery", "-A", "workers.app", "worker"),
    *("-Q", "eu,control", "-c", "1", "-l", "INFO", "--without-gossip", "--without-mingle"),
]
DEADLY = """
import os, signal, sys
from pathlib import Path
from tasks import steps

def kill(*_, **__):
    tally = Path(os.environ["TALLY"])
    if tally.stat().st_size < int(os.environ["TIMES"]):
        with tally.open("a") as file:
            file.write(".")
        os.kill(os.getpid(), signal.SIGKILL)
    return land(*_, **__)

land, steps.land = steps.land, kill
from workers.launch import worker
sys.exit(worker(sys.argv[1:]))
"""


@dataclass
class Port:
    """A source, one target in ``eu``, a fleet whose sweeper finds nothing for ten minutes."""

    fleet: Fleet
    source: MemoryRegistry
    eu: MemoryRegistry
    stalled: ExitStack = field(default_factory=ExitStack)

    def stalled_run(self) -> str:
        """The id of a run that stands still in the middle of a layer until :meth:`go_on`."""
        image = build_image({"app": b"x"}, layers=[random_layer(2**20, seed=1)])
        push(f"{self.source.host}/team/stalled", image, "1.0")
        pause = self.eu.pause(lambda method, path: method == "PUT" and "/blobs/uploads/" in path)
        reached = self.stalled.enter_context(pause).reached
        run = self.run("team/stalled")
        assert reached.wait(60), self.fleet.logs()
        return run

    def run(self, repository: str) -> str:
        target = Target(f"{self.eu.host}/{repository}", "eu")
        return self.fleet.start_run(MirrorSpec("shutdown", f"{self.source.host}/{repository}", (target,)))

    def go_on(self) -> None:
        self.stalled.close()

    def waiting(self, queue: str = "eu") -> int:
        """Messages in the queue's lists."""
        return sum(int(self.fleet._client.llen(name)) for name in _lists(queue))

    def retries(self) -> list[int]:
        """How often the messages that wait in ``eu`` had lost their process."""
        messages = [one for name in _lists("eu") for one in self.fleet._client.lrange(name, 0, -1)]
        return [int(json.loads(message)["headers"]["retries"]) for message in messages]

    def taken(self) -> int:
        """Messages that some worker has taken and not acknowledged."""
        return sum(int(self.fleet._client.hlen(key)) for key in (f"{PREFIX}unacked:eu", f"{PREFIX}unacked"))


def _lists(queue: str) -> list[str]:
    return [f"{PREFIX}{queue}{f':{step}' if step else ''}" for step in PRIORITY.values()]


@pytest.fixture
def port() -> Iterator[Port]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, eu = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        fleet = stack.enter_context(Fleet(made(folder / "fleet"), ["eu"], NO_SWEEP))
        port = Port(fleet, source, eu)
        stack.push(port.stalled)
        yield port


def leave(worker: Process, within_s: float) -> float:
    """SIGTERM; returns the seconds until the worker had ended."""
    asked = monotonic()
    worker.signal(signal.SIGTERM)
    until(lambda: not worker.running, within_s, worker.tail)
    return monotonic() - asked


def replace_worker(port: Port, command: list[str], **env: str) -> Process:
    """Another kind of worker instead of the usual one."""
    leave(port.fleet.workers["eu"], 20)
    port.fleet.workers["eu"] = port.fleet._process("eu", command, env)
    port.fleet.await_ready(["eu"])
    return port.fleet.workers["eu"]


def test_a_worker_hands_back_what_it_cannot_finish_and_another_takes_it_at_once(port: Port) -> None:
    run = port.stalled_run()
    worker = port.fleet.workers["eu"]

    took_s = leave(worker, SOFT_S + LEEWAY_S)

    assert worker.exit_code == 0, worker.tail()
    assert took_s >= SOFT_S
    assert (port.waiting(), port.taken()) == (1, 0), worker.tail()
    assert port.retries() == [0], "leaving was counted against the task"
    port.go_on()
    again = monotonic()
    port.fleet.start("eu")
    assert port.fleet.wait(run, 30).states == {"updated": 1}
    assert monotonic() - again < LEASE_S - LEEWAY_S, "it waited for the leases of the one that left"
    assert port.eu.tag("team/stalled", "1.0") == port.source.tag("team/stalled", "1.0")


def test_a_worker_finishes_what_is_short_and_leaves_when_it_is_done(port: Port) -> None:
    run = port.stalled_run()
    worker = port.fleet.workers["eu"]

    asked = monotonic()
    worker.signal(signal.SIGTERM)
    until(lambda: "leaving" in worker.text(), SOFT_S, worker.tail)
    port.go_on()
    until(lambda: not worker.running, 2 * SOFT_S, worker.tail)
    took_s = monotonic() - asked

    assert worker.exit_code == 0, worker.tail()
    assert "handing back" not in worker.text()
    assert took_s < SOFT_S + 1, worker.tail()
    assert port.fleet.ledger.batches.regions_done(f"{run}.0", "landed") == {"eu"}
    assert (port.waiting(), port.taken()) == (0, 0)
    port.fleet.start("eu")
    assert port.fleet.wait(run, 30).states == {"updated": 1}


def test_an_idle_worker_does_not_wait_and_a_second_signal_cuts_the_time_of_a_busy_one_short(
    scratch: Path,
) -> None:
    patient = {**NO_SWEEP, "SEALIFT_SOFT_SHUTDOWN_S": "60"}
    with MemoryRegistry() as source, MemoryRegistry() as eu, Fleet(scratch, ["eu"], patient) as fleet:
        leave(fleet.workers["eu"], 20)
        assert fleet.workers["eu"].exit_code == 0
        fleet.start("eu")
        fleet.await_ready(["eu"])

        port = Port(fleet, source, eu)
        port.stalled_run()
        worker = fleet.workers["eu"]
        worker.signal(signal.SIGTERM)
        until(lambda: "leaving" in worker.text(), 10, worker.tail)
        leave(worker, 20)

        assert worker.exit_code == 0, worker.tail()
        assert (port.waiting(), port.taken()) == (1, 0)
        port.go_on()


def test_a_worker_under_celerys_own_command_line_leaves_in_the_same_way(port: Port) -> None:
    worker = replace_worker(port, PLAIN)
    run = port.stalled_run()

    leave(worker, SOFT_S + LEEWAY_S)

    assert worker.exit_code == 0, worker.tail()
    assert (port.waiting(), port.taken()) == (1, 0), worker.tail()
    port.go_on()
    port.fleet.start("eu")
    assert port.fleet.wait(run, 30).states == {"updated": 1}


def deadly_worker(port: Port, folder: Path, times: int) -> Path:
    """A worker whose processes are killed when they land, that often; returns the tally of it."""
    tally = folder / "tally"
    tally.touch()
    command = [sys.executable, "-P", "-c", DEADLY, "--region", "eu", "--concurrency", "1"]
    environment = {**processes.worker_environment("eu"), "TALLY": str(tally), "TIMES": str(times)}
    replace_worker(port, command, **environment)
    return tally


def test_a_task_whose_process_is_killed_is_done_by_another_without_a_sweep(
    port: Port, tmp_path: Path
) -> None:
    tally = deadly_worker(port, tmp_path, times=1)
    push(f"{port.source.host}/team/once", build_image({"app": b"once"}), "1.0")

    report = port.fleet.wait(port.run("team/once"), 30)

    assert report.states == {"updated": 1}
    assert tally.stat().st_size == 1


def test_a_task_that_kills_every_process_it_runs_in_fails_by_name(port: Port, tmp_path: Path) -> None:
    tally = deadly_worker(port, tmp_path, times=10**6)
    push(f"{port.source.host}/team/poison", build_image({"app": b"poison"}), "1.0")

    run = port.run("team/poison")
    report = port.fleet.wait(run, 60)

    assert report.states == {"failed": 1}
    assert "killed 4 times" in str(port.fleet.tags(run)["1.0"])
    assert tally.stat().st_size == 4
    assert port.fleet.workers["eu"].running
