"""Beat: what it sends while it is the one that sends, and what it does otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.beat import ScheduleEntry
from celery.beat import Scheduler as CeleryScheduler
from celery.schedules import schedule

from config.settings import Settings
from mirror.ledger import Ledger
from mirror.ledger.schedules import LEAD_S
from tests.support.listening import Listener
from tests.support.valkey import ValkeyServer
from workers import scheduler


@pytest.fixture
def heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEALIFT_HEARTBEAT_FILE", str(tmp_path / "heartbeat"))
    return tmp_path / "heartbeat"


@pytest.fixture
def ledger(valkey: ValkeyServer, heartbeat: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        runtime = SimpleNamespace(ledger=ledger, settings=Settings())
        monkeypatch.setattr(scheduler, "runtime", lambda: runtime)
        monkeypatch.setattr(CeleryScheduler, "apply_async", lambda *_, **__: "sent")
        monkeypatch.setattr(CeleryScheduler, "tick", lambda *_, **__: 1.5)
        yield ledger


@pytest.fixture
def beat(ledger: Ledger) -> scheduler.Scheduler:
    return scheduler.Scheduler(Celery("test", set_as_current=False), lazy=True)


def test_no_sweep_is_sent_while_no_worker_lives(ledger: Ledger, beat: scheduler.Scheduler) -> None:
    sweep = ScheduleEntry("sweep", scheduler.SWEEP, schedule=schedule(1), app=beat.app)
    other = ScheduleEntry("other", "sealift.other", schedule=schedule(1), app=beat.app)

    assert beat.apply_async(sweep) is None
    assert beat.apply_async(other) == "sent"

    ledger.workers.beat("eu", "worker")
    assert beat.apply_async(sweep) == "sent"


def test_a_beat_beside_one_that_sends_stands_by(
    valkey: ValkeyServer, beat: scheduler.Scheduler, heartbeat: Path
) -> None:
    with valkey.client() as client:
        first = Ledger(client, "test:").schedules
        assert first.lead()

        assert beat.tick() == scheduler.STANDBY_S
        assert heartbeat.read_text() == "ready\n"

        first.step_down()
        assert beat.tick() == 1.5


def test_a_beat_that_is_stopped_makes_room_at_once(
    valkey: ValkeyServer, ledger: Ledger, beat: scheduler.Scheduler
) -> None:
    assert beat.tick() == 1.5
    with valkey.client() as client:
        other = Ledger(client, "test:").schedules
        assert other.lead() is None

        beat.close()

        assert other.lead()


def test_a_beat_whose_redis_is_away_says_so_and_tries_again(
    valkey: ValkeyServer, beat: scheduler.Scheduler, heartbeat: Path
) -> None:
    beat.tick()

    valkey.kill()

    assert beat.tick() == scheduler.RETRY_S
    assert heartbeat.read_text() == "waiting\n"
    beat.close()


def test_another_beat_sends_within_half_a_minute() -> None:
    assert LEAD_S + scheduler.STANDBY_S < 30
    assert max(scheduler.STANDBY_S, scheduler.RETRY_S) < LEAD_S / 2


def test_while_no_worker_lives_beat_tells_receivers_itself(
    ledger: Ledger, beat: scheduler.Scheduler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Listener() as listener:
        file = tmp_path / "sealift.yaml"
        file.write_text(f"notify:\n  - {{name: team, to: '{listener.url}'}}\n")
        settings = Settings(fleet_file=file, notify_settle_s=0)
        runtime = SimpleNamespace(ledger=ledger, settings=settings)
        monkeypatch.setattr(scheduler, "runtime", lambda: runtime)
        sweep = ScheduleEntry("sweep", scheduler.SWEEP, schedule=schedule(1), app=beat.app)
        beat.apply_async(sweep)  # it meets the receiver
        beat._herald.wait(30)

        ledger.workers.beat("eu", "worker")
        ledger.events.no_workers("us", ["app"])
        beat.apply_async(sweep)
        beat._herald.wait(30)
        assert listener.messages == [], "a worker does it"

        ledger.workers.leave("eu", "worker")
        beat.apply_async(sweep)
        beat._herald.wait(30)
        assert listener.titles == ["Sealift · us: no worker"]
