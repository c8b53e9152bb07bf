"""Beat and the sweeper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.beat import PersistentScheduler, ScheduleEntry
from celery.schedules import schedule

from mirror.ledger import Ledger
from tests.support.valkey import ValkeyServer
from workers import scheduler


@pytest.fixture
def ledger(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        monkeypatch.setattr(scheduler, "runtime", lambda: SimpleNamespace(ledger=ledger))
        monkeypatch.setattr(PersistentScheduler, "apply_async", lambda *_, **__: "sent")
        yield ledger


def test_no_sweep_is_sent_while_no_worker_lives(ledger: Ledger, tmp_path: Path) -> None:
    app = Celery("test", set_as_current=False)
    beat = scheduler.Scheduler(app, schedule_filename=str(tmp_path / "schedule"), lazy=True)
    sweep = ScheduleEntry("sweep", scheduler.SWEEP, schedule=schedule(1), app=app)
    other = ScheduleEntry("other", "sealift.other", schedule=schedule(1), app=app)

    assert beat.apply_async(sweep) is None
    assert beat.apply_async(other) == "sent"

    ledger.beat("eu", "worker")
    assert beat.apply_async(sweep) == "sent"
