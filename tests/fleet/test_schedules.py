"""Two beats, a worker and a mirror with a schedule: real processes on a real Valkey, with hours that fly."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import pytest

from config.cron import last_slot
from mirror.ledger.schedules import ScheduleReport
from registry.images import build_image, random_layer
from registry.memory import MemoryRegistry
from tests.support.beats import CRON, HASTE, fast_beat
from tests.support.fleet import Fleet, made
from tests.support.process import Process
from tests.support.pushing import push
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

PATIENCE_S = 60.0


@dataclass
class Station:
    fleet: Fleet
    born: int
    """When the schedule was first seen: a slot, and the moment from which hours fly."""

    def beat(self) -> Process:
        return fast_beat(self.fleet, self.born)

    @property
    def report(self) -> ScheduleReport:
        return self.fleet.ledger.schedules.report("app")

    def await_slots(self, count: int) -> None:
        """Return once so many further slots have come, whether anybody deals with them or not."""
        last = self.report.slot_s or 0
        until(lambda: self.born + HASTE * (time.time() - self.born) >= last + 60 * count, 60, "slots to pass")

    def await_runs(self, further: int) -> None:
        """Return once so many further runs have begun by their slots."""
        wanted = self.runs() + further
        until(lambda: self.runs() >= wanted, PATIENCE_S, lambda: f"run {wanted}: {self.fleet.logs()}")

    def runs(self) -> int:
        return len(self.fleet.ledger.runs(1000))

    def await_sender(self, beat: Process) -> None:
        until(partial(self._holds_place, beat), PATIENCE_S, lambda: f"it to send: {self.fleet.logs()}")

    def _holds_place(self, beat: Process) -> bool:
        holder = self.fleet.ledger._redis.get(self.fleet.ledger.keys.beat) or b""
        return f" {beat.pid} " in holder.decode()

    def check_slots(self, *beats: Process) -> None:
        """Once all have ended: each slot was run once or is recorded as missed, and every run went well."""
        for beat in beats:
            beat.stop()
        for run in self.fleet.ledger.runs(1000):
            if not run.ended:  # its beat may have been stopped before it sent the message: a watch sweeps
                self.fleet.sealift("watch", run.run)
            assert self.fleet.wait(run.run).state == "done"
        report = self.report
        assert report.slot_s
        assert report.missed + self.runs() == (report.slot_s - self.born) // 60, f"{report}"


@pytest.fixture(scope="module")
def station() -> Iterator[Station]:
    with ExitStack() as stack:
        source = stack.enter_context(MemoryRegistry())
        push(f"{source.host}/app", build_image({"app": b"1"}, layers=[random_layer(2**16)]), "1.0")
        folder = stack.enter_context(scratch_folder())
        file = folder / "sealift.yaml"
        file.write_text(
            f"mirrors: [{{name: app, source: {source.host}/app, tags: ['1.0'], schedule: '{CRON}',\n"
            f"  targets: [{{region: eu, repository: {source.host}/copy}}]}}]\n"
        )
        settings = {
            "SEALIFT_FLEET_FILE": str(file),
            "SEALIFT_SWEEP_INTERVAL_S": "0.3",
            "SEALIFT_STALL_S": "3",
        }
        fleet = Fleet(made(folder / "fleet"), ["eu"], settings)
        stack.callback(fleet.stop)
        fleet.start("eu")
        fleet.await_ready(["eu"])
        born = last_slot(CRON, time.time())
        fleet.ledger.schedules.look("app", CRON, born, born)
        yield Station(fleet, born)


def test_of_two_beats_one_sends_and_when_it_is_killed_the_other_does(station: Station) -> None:
    first = station.beat()
    station.await_sender(first)
    second = station.beat()
    station.await_runs(2)
    until(lambda: "this one stands by" in second.text(), PATIENCE_S, second.tail)

    first.kill()

    station.await_sender(second)
    station.await_runs(2)
    station.check_slots(second)


def test_a_beat_that_was_suspended_stands_by_when_it_wakes_up(station: Station) -> None:
    first = station.beat()
    station.await_sender(first)
    station.await_runs(1)

    first.freeze()
    second = station.beat()
    station.await_sender(second)
    station.await_runs(1)
    first.thaw()

    until(lambda: "this one stands by" in first.text(), PATIENCE_S, first.tail)
    station.await_runs(1)
    station.check_slots(first, second)


def test_schedules_outlive_a_redis_that_is_restarted(station: Station) -> None:
    beats = [station.beat(), station.beat()]
    station.await_runs(2)

    station.fleet.valkey.kill()
    until(
        lambda: any("Redis does not answer" in beat.text() for beat in beats), PATIENCE_S, station.fleet.logs
    )
    station.fleet.valkey.restart()

    station.await_runs(2)
    assert all(beat.running for beat in beats), station.fleet.logs()
    station.check_slots(*beats)


def test_somebody_who_looks_sees_what_ran_what_is_next_and_what_was_missed(station: Station) -> None:
    station.await_slots(3)
    beat = station.beat()
    station.await_runs(1)
    station.check_slots(beat)
    report = station.report

    shown = station.fleet.sealift("schedules", "--json")

    assert shown.returncode == 0, shown.stderr
    document = json.loads(shown.stdout)
    (row,) = document["schedules"]
    assert 0 <= document["beat_seen_ago_s"] < PATIENCE_S
    assert (row["mirror"], row["cron"], row["lane"], row["run"]) == ("app", CRON, "release", report.run)
    assert (row["run_state"], row["slot_s"], row["missed"]) == ("done", report.slot_s, report.missed)
    assert row["next_s"] % 60 == 0
    assert "no beat was at work" in {miss["reason"] for miss in row["misses"]}

    table = station.fleet.sealift("schedules").stdout
    assert re.search(
        rf"^app +\* \* \* \* \* .* {report.run} done .* {report.missed:,} slots?, last", table, re.MULTILINE
    )
