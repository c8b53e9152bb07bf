"""What a beat makes of the fleet file's schedules; the hours pass by hand."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from config.fleet import Fleet
from config.settings import Settings
from mirror.ledger import Ledger
from mirror.ledger.probes import Measurement
from tasks import canvas, schedules
from tasks.schedules import FleetFile, Schedules
from tests.support.valkey import ValkeyServer

FLEET = """\
mirrors:
  - name: app
    source: src.example/app
    targets: [{{region: eu, repository: eu.example/app}}]
    lane: {lane}
    schedule: "{cron}"
  - {{name: other, source: src.example/other, targets: [eu.example/other]}}
"""


@dataclass
class Beat:
    """One beat's schedules on a fleet file that can be written anew."""

    file: Path
    ledger: Ledger
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.write("0 * * * *")
        self.schedules = self.again()

    def again(self) -> Schedules:
        """Another beat, or this one after a restart."""
        rt: Any = SimpleNamespace(ledger=self.ledger, settings=Settings(fleet_file=self.file))
        return Schedules(rt)

    def write(self, cron: str, lane: str = "release") -> None:
        """As editors do: a new file takes the place of the old one."""
        draft = self.file.with_suffix(".new")
        draft.write_text(FLEET.format(cron=cron, lane=lane))
        draft.replace(self.file)

    def runs_at(self, *times: str) -> list[str]:
        """What is sent when the schedules are asked at these times of one day, each run ending at once."""
        before = len(self.sent)
        for time in times:
            self.schedules.run_due(at(time))
            for report in self.ledger.runs():
                self.ledger.cancel_run(report.run)
        return self.sent[before:]


def at(time: str) -> float:
    return datetime.fromisoformat(f"2026-11-27T{time}+00:00").timestamp()


@pytest.fixture
def beat(valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Beat]:
    with valkey.client() as client:
        beat = Beat(tmp_path / "sealift.yaml", Ledger(client, "test:"))
        monkeypatch.setattr(canvas, "send_enumerate", lambda _, run: beat.sent.append(run))
        yield beat


def test_a_mirror_runs_once_at_each_of_its_slots(beat: Beat) -> None:
    assert beat.runs_at("11:30", "11:59:59") == []
    assert len(beat.runs_at("12:00", "12:00:01", "12:59")) == 1
    assert len(beat.runs_at("13:00:04")) == 1
    assert {report.mirror for report in beat.ledger.runs()} == {"app"}


def test_it_says_when_it_wants_to_be_asked_again(beat: Beat) -> None:
    assert beat.schedules.run_due(at("11:59:50")) == pytest.approx(10)
    assert beat.schedules.run_due(at("12:00")) == pytest.approx(3600)


def test_the_lane_is_the_mirrors(beat: Beat) -> None:
    beat.write("0 * * * *", "backfill")

    (run,) = beat.runs_at("11:30", "12:00")

    assert beat.ledger.lane(run) == "backfill"


def test_after_a_time_without_any_beat_the_last_slot_alone_is_run(beat: Beat) -> None:
    beat.runs_at("08:30")
    beat.schedules = beat.again()

    assert len(beat.runs_at("12:20", "12:21")) == 1

    report = beat.ledger.schedules.report("app")
    assert report.run_slot_s == at("12:00")
    (miss,) = report.misses
    assert (miss.first_s, miss.last_s, miss.count, miss.reason) == (
        at("09:00"), at("11:00"), 3, "no beat was at work"
    )  # fmt: skip


def test_a_beat_that_takes_over_repeats_nothing(beat: Beat) -> None:
    beat.runs_at("11:30", "12:00")
    beat.schedules = beat.again()

    assert beat.runs_at("12:00:05") == []


def test_two_beats_that_both_believe_to_send_run_a_slot_once(beat: Beat) -> None:
    beat.runs_at("11:30")
    other = beat.again()
    other.run_due(at("11:30"))

    beat.schedules.run_due(at("12:00"))
    other.run_due(at("12:00"))

    assert len(beat.sent) == 1
    assert beat.ledger.schedules.report("app").missed == 0


def test_a_schedule_that_is_changed_holds_without_a_restart(beat: Beat) -> None:
    beat.runs_at("11:30")

    beat.write("*/10 * * * *")

    assert beat.runs_at("11:35") == []
    assert len(beat.runs_at("11:40", "11:50")) == 2


def test_a_mirror_that_is_new_in_the_file_is_counted_by_its_name(beat: Beat) -> None:
    beat.runs_at("11:30")
    beat.file.write_text(beat.file.read_text().replace("name: other", "name: another"))

    beat.runs_at("11:40")

    named = beat.ledger.gauges.read().told.named
    assert {name for kind, name in named if kind == "mirror"} == {"app", "other", "another"}


def test_a_fleet_file_that_is_gone_takes_no_mirror_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is read unless another is named, and need not be there: editors move it away first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)
    file, path = FleetFile(Settings()), tmp_path / "sealift.yaml"
    assert file.latest() == Fleet()
    text = FLEET.format(cron="0 * * * *", lane="release")
    path.write_text(text)
    assert [one.name for one in file.latest().mirrors] == ["app", "other"]
    path.unlink()
    assert [one.name for one in file.latest().mirrors] == ["app", "other"]
    path.write_text(text.replace("name: other", "name: another"))
    assert [one.name for one in file.latest().mirrors] == ["app", "another"]


def test_a_mirror_whose_schedule_redis_refuses_holds_up_no_other(
    beat: Beat, caplog: pytest.LogCaptureFixture
) -> None:
    beat.file.write_text(FLEET.format(cron="0 * * * *", lane="release").replace(
        "targets: [eu.example/other]", 'targets: [eu.example/other], schedule: "0 * * * *"'
    ))  # fmt: skip
    beat.ledger._redis.set(beat.ledger.keys.schedule("app"), "no hash")
    beat.runs_at("11:30")

    (run,) = beat.runs_at("12:00", "12:00:05", "12:00:10")

    assert beat.ledger.spec(run).name == "other"
    refused = [getattr(one, "mirror", "") for one in caplog.records if one.levelno == logging.ERROR]
    assert refused == ["app", "app"], "once at 11:30 and once at 12:00"
    beat.ledger._redis.delete(beat.ledger.keys.schedule("app"))
    beat.runs_at("12:01")
    assert len(beat.runs_at("13:00")) == 2


def test_a_beat_that_begins_with_a_wrong_fleet_file_forgets_nothing(beat: Beat) -> None:
    beat.ledger.probes.record(Measurement("eu", "src.example", beat.ledger.now(), up=True), "one")
    beat.runs_at("11:30")
    begun = beat.again()
    right = beat.file.read_text()
    beat.file.write_text(right.replace("eu.example/app", "not a repository"))

    begun.run_due(at("12:00"))

    assert beat.ledger.probes.places() == [("eu", "src.example")]
    assert beat.sent == []
    beat.file.write_text(right)
    begun.run_due(at("12:00:05"))
    assert len(beat.sent) == 1


def test_a_fleet_file_that_is_wrong_changes_nothing_and_is_told_once(
    beat: Beat, caplog: pytest.LogCaptureFixture
) -> None:
    beat.runs_at("11:30")

    beat.write("every hour")

    assert len(beat.runs_at("11:40", "12:00", "13:00")) == 2
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "sealift.yaml:6" in errors[0].getMessage()


def test_a_file_behind_a_link_that_is_swapped_is_read_again(beat: Beat, tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    beat.file.replace(old)
    beat.file.symlink_to(old)
    beat.runs_at("11:30")
    new.write_text(FLEET.format(cron="5 * * * *", lane="release"))

    link = tmp_path / "link"
    link.symlink_to(new)
    os.replace(link, beat.file)  # noqa: PTH105 - the link itself, not what it leads to

    assert beat.runs_at("11:40", "12:00") == []
    assert len(beat.runs_at("12:05")) == 1


def test_a_mirror_that_left_the_file_runs_no_more(beat: Beat) -> None:
    beat.runs_at("11:30")

    beat.file.write_text("mirrors: []\n")

    assert beat.runs_at("12:00") == []
    assert beat.schedules.run_due(at("12:01")) == float("inf")


def test_a_schedule_that_was_taken_out_and_put_back_begins_with_its_next_slot(beat: Beat) -> None:
    beat.runs_at("08:30")
    beat.file.write_text("mirrors: []\n")
    beat.runs_at("08:40")
    beat.write("0 * * * *")

    assert beat.runs_at("11:30") == []
    assert beat.ledger.schedules.report("app").missed == 0
    assert len(beat.runs_at("12:00")) == 1


def test_a_schedule_that_was_taken_out_while_a_beat_began_anew_is_known_to_have_been(beat: Beat) -> None:
    beat.runs_at("08:30")
    beat.file.write_text("mirrors: []\n")
    beat.schedules = beat.again()
    beat.runs_at("08:40")
    beat.write("0 * * * *")

    assert beat.runs_at("11:30") == []
    assert beat.ledger.schedules.report("app").missed == 0


def test_many_mirrors_are_seen_to_in_portions(beat: Beat, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FLEET.format(cron="0 * * * *", lane="release")
    beat.file.write_text(
        text.replace("targets: [eu.example/other]", 'targets: [eu.example/other], schedule: "0 * * * *"')
    )
    beat.runs_at("11:30")
    monkeypatch.setattr(schedules, "LONGEST_S", -1.0)

    assert beat.schedules.run_due(at("12:00")) == 0.0
    assert len(beat.sent) == 1
    assert beat.schedules.run_due(at("12:00:01")) == 0.0
    assert len(beat.sent) == 2
    assert beat.schedules.run_due(at("12:00:02")) == pytest.approx(3598)


def test_a_message_that_cannot_be_sent_loses_no_slot(beat: Beat, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("away")

    beat.runs_at("11:30")
    monkeypatch.setattr(canvas, "send_enumerate", fail)

    beat.schedules.run_due(at("12:00"))

    (report,) = beat.ledger.runs()
    assert report.state == "open"
    assert beat.ledger.take_due(0) == [report.run]  # the sweeper's


def test_a_mirror_is_verified_by_a_schedule_of_its_own(beat: Beat) -> None:
    beat.file.write_text(
        "mirrors:\n  - name: app\n    source: src.example/app\n    targets: [eu.example/app]\n"
        '    schedule: "0 * * * *"\n    verify: {schedule: "30 * * * *", sample: 3}\n'
    )
    assert beat.runs_at("11:31") == []

    runs = beat.runs_at("12:31")

    specs = [beat.ledger.spec(run) for run in runs]
    assert [spec.kind for spec in specs] == ["mirror", "verify"]
    assert specs[1].verification is not None
    assert specs[1].verification.sample == 3
    assert beat.ledger.lane(runs[1]) == "backfill"
    assert beat.ledger.schedules.report("app/verify").run == runs[1]


def test_a_slot_whose_region_has_no_worker_is_told_once_and_not_at_once(beat: Beat) -> None:
    beat.runs_at("11:30", "12:00", "12:00:59")
    assert beat.ledger.events.recent(10) == []
    beat.runs_at("12:01", "13:00", "13:01", "14:00", "14:01")
    (one,) = beat.ledger.events.recent(10)
    assert (one.name, one.mirror, one.more) == (
        "no_workers", "", {"region": "eu", "count": 1, "mirrors": ["app"]}
    )  # fmt: skip

    beat.ledger.workers.beat("eu", "worker")
    beat.runs_at("15:00", "15:01")
    beat.ledger.workers.leave("eu", "worker")
    beat.runs_at("16:00", "16:01")
    assert [one.name for one in beat.ledger.events.recent(10)] == ["no_workers"] * 2


def test_a_region_that_no_mirror_needs_any_more_is_not_told(beat: Beat) -> None:
    beat.runs_at("11:30", "12:00")
    beat.file.write_text("mirrors: []\n")
    beat.runs_at("12:01", "13:01")
    assert beat.ledger.events.recent(10) == []


def test_a_region_without_worker_is_told_with_all_mirrors_that_run_by_a_schedule_there(beat: Beat) -> None:
    with beat.file.open("a") as file:
        for name, region, more in (
            ("base", "eu", 'schedule: "30 * * * *"'),
            ("checked", "eu", 'verify: {schedule: "0 3 * * *"}'),
            ("far", "us", 'schedule: "0 * * * *"'),
            ("by-hand", "eu", "lane: backfill"),
        ):
            at = f"targets: [{{region: {region}, repository: t.example/{name}}}]"
            file.write(f"  - {{name: {name}, source: src.example/{name}, {at}, {more}}}\n")
    beat.runs_at("11:31", "12:00", "12:01", "12:30", "12:31")

    told = {one.more["region"]: one.mirrors for one in beat.ledger.events.recent(10)}
    assert told == {"eu": ("app", "base", "checked"), "us": ("far",)}
    assert len(beat.ledger.events.recent(10)) == 2


def test_a_region_whose_worker_comes_within_the_minute_is_not_told(beat: Beat) -> None:
    assert len(beat.runs_at("11:30", "12:00")) == 1
    beat.ledger.workers.beat("eu", "worker")
    beat.runs_at("12:01")
    assert beat.ledger.events.recent(10) == []


def test_who_is_a_receiver_in_the_file_is_one_from_then_on_and_no_other(beat: Beat) -> None:
    beat.ledger.receivers.meet(["old"])
    with beat.file.open("a") as file:
        file.write("notify: [{name: team, to: 'json://127.0.0.1:1/'}]\n")
    beat.runs_at("11:30")
    assert set(beat.ledger.receivers.standings()) == {"team"}
