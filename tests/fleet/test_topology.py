"""The fleet of deploy/compose.yaml as processes, two workers a region: drained, killed, cut off (issue 6).

``pytest -rP tests/fleet/test_topology.py`` shows how long it took to take over.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any, TypeVar

import pytest
from redis import Redis

from config.cron import last_slot
from mirror.ledger import Ledger
from mirror.report import RunReport
from registry.images import build_image, random_layer
from registry.memory import MemoryRegistry, Pause
from tasks.canvas import PRIORITY
from tests.support import skopeo
from tests.support.fleet import PREFIX
from tests.support.pushing import push
from tests.support.scraping import Scrapes
from tests.support.scratch import scratch_folder
from tests.support.skopeo import needs_skopeo
from tests.support.topology import Instance, Topology
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(400), needs_skopeo]

T = TypeVar("T")
SOFT_S = 3
HASTE = 12
PATIENCE_S = 90.0
TAKEN_OVER_S = 30.0
REGIONS = ("eu", "us")
SCALE = {"worker-eu": 2, "worker-us": 2}
SETTINGS = {
    "SEALIFT_SOFT_SHUTDOWN_S": str(SOFT_S),
    "SEALIFT_SWEEP_INTERVAL_S": "1",
    "SEALIFT_STALL_S": "8",
}
HURRIED = f"""
import os, sys
from workers import scheduler
from workers.launch import beat

born, lead = float(os.environ["BORN"]), scheduler.Scheduler._lead

def hurried(self):
    now = lead(self)
    return None if now is None else born + {HASTE} * (now - born)

scheduler.Scheduler._lead = hurried
sys.exit(beat([]))
"""
"""A beat by whose clock a minute lasts five seconds; how it takes over is as ever."""


@dataclass
class Harbour:
    topology: Topology
    redis: Any
    ledger: Ledger
    scrapes: Scrapes
    held: MemoryRegistry
    """A target of ``eu`` whose wire can be held."""
    started_again: list[str] = field(default_factory=list)

    def await_(self, condition: Callable[[], T]) -> T:
        """As :func:`until`, while whoever ends is started again, as a container engine does it."""

        def tended() -> T:
            self.started_again += self.topology.tend()
            return condition()

        return until(tended, PATIENCE_S, self.topology.logs)

    # -- runs --------------------------------------------------------------------------------------

    def begin_held(self, repository: str, pause: Pause) -> str:
        """A run that is in the middle of a layer, and stays there until the pause is over."""
        source = f"registry-source:5000/{repository}"
        image = build_image({"app": b"held"}, layers=[random_layer(2**21, seed=sum(repository.encode()))])
        push(self.topology.here(source), image, "1.0")
        words = (
            "mirror",
            f"{source}:1.0",
            "--to",
            f"eu={self.held.host}/{repository}",
            "--no-wait",
            "--json",
        )
        typed = self.topology.run("sealift", *words)
        assert typed.returncode == 0, typed.stderr
        assert pause.reached.wait(PATIENCE_S), self.topology.logs()
        return str(json.loads(typed.stdout)["runs"][0]["run"])

    def end(self, run: str) -> RunReport:
        self.await_(lambda: self.ledger.run_report(run).ended)
        return self.ledger.run_report(run)

    def await_scheduled_run(self) -> RunReport:
        """One that begins from now on, by itself, and has ended."""
        before = self.ledger.schedules.report("hello").run
        self.await_(lambda: self.ledger.schedules.report("hello").run != before)
        return self.end(self.ledger.schedules.report("hello").run)

    def redelivered(self) -> int:
        """Messages of ``eu`` that were handed back, in their queue or with whoever took them from there."""
        lists = [f"{PREFIX}eu{f':{step}' if step else ''}" for step in PRIORITY.values()]
        waiting = [json.loads(text) for name in lists for text in self.redis.lrange(name, 0, -1)]
        taken = [json.loads(text)[0] for text in self.redis.hvals(f"{PREFIX}unacked:eu")]
        return sum(bool(message["headers"].get("redelivered")) for message in (*waiting, *taken))

    # -- processes ---------------------------------------------------------------------------------

    def holder(self) -> Instance:
        """The worker one of whose processes brings a blob to the registry that is held."""
        leases = list(self.redis.scan_iter(self.ledger.keys.lease(f"{self.held.host}*", "*"), count=1000))
        assert leases, "nobody says that it is at work"
        pid = (self.redis.get(leases[0]) or b"").split()[1].decode()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])
        return next(one for one in self.topology.of("worker-eu") if one.process.pid == parent)

    def sender(self) -> str:
        """The beat that sends; empty while none does."""
        holder = (self.redis.get(self.ledger.keys.beat) or b"").decode()
        beats = self.topology.of("beat")
        return next((one.name for one in beats if f" {one.process.pid} " in holder), "")

    def heard_of(self, since_s: float = 0.0) -> list[str]:
        """The regions of workers that said since then that they live."""
        members = self.redis.zrangebyscore(self.ledger.keys.workers, since_s, "+inf")
        return sorted(member.decode().partition("\n")[0] for member in members)

    def flower(self, path: str) -> Any:
        request = urllib.request.Request(f"http://{self.topology.address('flower')}{path}")
        account = self.topology.of("flower")[0].environment["FLOWER_BASIC_AUTH"]
        request.add_header("Authorization", f"Basic {base64.b64encode(account.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=15) as answer:
                return json.loads(answer.read())
        except OSError:  # it may be too busy, or have no Redis just now
            return {}


@pytest.fixture(scope="module")
def harbour() -> Iterator[Harbour]:
    settings = {**SETTINGS, "BORN": str(last_slot("* * * * *", time()))}
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        held = stack.enter_context(MemoryRegistry())
        beat = [sys.executable, "-P", "-c", HURRIED]
        topology = Topology(folder, scale=SCALE, settings=settings, instead={"beat": beat})
        if topology.missing:
            pytest.skip(topology.missing)
        stack.enter_context(topology)
        seeded = topology.run("seed")
        assert seeded.returncode == 0, seeded.stderr
        redis = stack.enter_context(Redis.from_url(f"redis://{topology.address('valkey')}/0"))
        scrapes = Scrapes(f"http://{topology.address('exporter')}/metrics")
        yield Harbour(topology, redis, Ledger(redis, PREFIX), scrapes, held)


def test_a_mirror_runs_by_its_schedule_and_metrics_agree_with_skopeo_and_the_ledger(harbour: Harbour) -> None:
    here, scrapes = harbour.topology.here, harbour.scrapes
    source = here("registry-source:5000/demo/hello")
    assert harbour.await_scheduled_run().state == "done"
    harbour.await_(lambda: harbour.heard_of() == ["eu", "eu", "us", "us"])

    for region in REGIONS:
        target = here(f"registry-{region}:5000/demo/hello")
        listed = skopeo.tags(target)
        assert set(listed) == {"1.0", "1.1", "latest"}
        for tag in listed:
            assert skopeo.digest(f"{target}:{tag}") == skopeo.digest(f"{source}:{tag}")
        own = {"mirror": "hello", "region": region}
        assert scrapes.sum("sealift_tags_total", **own, state="updated") == len(listed)
        sent = scrapes.sum("sealift_copied_bytes_total", region=region, registry=target.partition("/")[0])
        assert sent == skopeo.stored_bytes(target)
        assert scrapes.sum("sealift_workers", region=region) == 2
    harbour.await_(lambda: scrapes.sum("sealift_queue_messages") == 0)
    runs = [run for run in harbour.ledger.runs(1000) if run.mirror == "hello"]
    assert scrapes.sum("sealift_runs_started_total", mirror="hello") >= len(runs) >= 1


def test_flower_lists_the_workers_of_both_regions(harbour: Harbour) -> None:
    def listed() -> list[str]:
        return sorted(name.partition("@")[0] for name in harbour.flower("/api/workers?refresh=1"))

    harbour.await_(lambda: listed() == ["eu", "eu", "us", "us"])


def test_a_worker_that_leaves_in_mid_blob_hands_it_back_and_another_finishes_it(harbour: Harbour) -> None:
    with harbour.held.pause(is_upload) as pause:
        run = harbour.begin_held("team/drained", pause)
        leaving = harbour.holder()
        process = harbour.topology.let_go(leaving.name)
        asked = monotonic()
        process.signal(signal.SIGTERM)
        until(harbour.redelivered, PATIENCE_S, process.tail, interval_s=0.01)
        back_s = monotonic() - asked - SOFT_S
        until(lambda: not process.running, PATIENCE_S, process.tail)

    assert process.exit_code == 0, process.tail()
    report = harbour.end(run)
    assert (report.state, report.states) == ("done", {"updated": 1}), harbour.topology.logs()
    source = harbour.topology.here("registry-source:5000/team/drained:1.0")
    assert skopeo.digest(f"{harbour.held.host}/team/drained:1.0") == skopeo.digest(source)
    harbour.topology.start(leaving.name)
    tell(f"its message was back {back_s:.2f} s after the soft shutdown of {SOFT_S} s")


def test_when_the_beat_that_sends_is_killed_the_other_sends_within_30_s(harbour: Harbour) -> None:
    killed = until(harbour.sender, PATIENCE_S, harbour.topology.logs)
    (other,) = {one.name for one in harbour.topology.of("beat")} - {killed}

    harbour.topology.let_go(killed).kill()
    began = monotonic()
    until(lambda: harbour.sender() == other, TAKEN_OVER_S, harbour.topology.logs)
    took_s = monotonic() - began

    assert harbour.await_scheduled_run().state == "done"
    harbour.topology.start(killed)
    tell(f"the other beat sent {took_s:.1f} s after the kill")


def test_everything_carries_on_without_a_person_after_a_redis_that_was_killed(harbour: Harbour) -> None:
    topology, scrapes = harbour.topology, harbour.scrapes
    with harbour.held.pause(is_upload) as pause:
        run = harbour.begin_held("team/cut-off", pause)
        harbour.redis.execute_command("WAITAOF", 1, 0, 10_000)
        topology.instances["valkey-1"].process.kill()
        until(lambda: scrapes.sum("sealift_redis_up") == 0, PATIENCE_S, topology.logs)
        killed_s, began = time(), monotonic()
        harbour.started_again = topology.tend()
        topology.await_well("valkey-1")

    harbour.await_(lambda: scrapes.sum("sealift_redis_up") == 1)
    harbour.await_(lambda: harbour.heard_of(killed_s) == ["eu", "eu", "us", "us"])
    assert harbour.end(run).states == {"updated": 1}
    assert harbour.await_scheduled_run().state == "done"
    took_s = monotonic() - began
    synced = topology.run("sealift", "sync", "--json")
    assert synced.returncode == 0, synced.stderr
    after = json.loads(synced.stdout)["runs"][0]["run"]
    harbour.await_(lambda: any(after in task for task in harbour.flower("/api/tasks")))
    assert all(one.process.running for one in topology.instances.values()), topology.logs()
    assert harbour.started_again[0].startswith("valkey-1 ended with -9")
    tell(f"all was as before {took_s:.1f} s after Redis was back; started again: {harbour.started_again}")


def is_upload(method: str, path: str) -> bool:
    return method == "PUT" and "/blobs/uploads/" in path


def tell(text: str) -> None:
    print(text)  # noqa: T201 - what -rP shows
