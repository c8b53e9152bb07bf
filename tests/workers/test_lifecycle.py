"""The heartbeat of a worker: what makes it beat, what it says, what it keeps to itself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.settings import Settings
from mirror.ledger import Ledger
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from workers import heartbeat, lifecycle
from workers.heartbeat import Heartbeat, consumer_step


class Timer:
    """Celery's timer, turned by hand."""

    def __init__(self) -> None:
        self.actions: list[Callable[[], None]] = []

    def call_repeatedly(self, _: float, action: Callable[[], None]) -> SimpleNamespace:
        self.actions.append(action)
        return SimpleNamespace(cancel=lambda: self.actions.remove(action))

    def tick(self) -> None:
        for action in self.actions:
            action()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "heartbeat"


def consumer() -> Any:
    """As much of a consumer as the heartbeat looks at."""
    qos = SimpleNamespace(can_consume=lambda: False)
    channel = SimpleNamespace(qos=qos)
    return SimpleNamespace(task_consumer=SimpleNamespace(channel=channel), timer=Timer(), steps=[])


def ask(one: Any) -> bool:
    """As the transport does in every turn of the loop."""
    return bool(one.task_consumer.channel.qos.can_consume())


def test_it_beats_while_the_transport_asks_whether_it_may_take_messages(file: Path) -> None:
    one, beating = consumer(), Heartbeat(file)
    consumer_step(beating, 60)(one).start(one)

    assert ask(one) is False  # a full pool takes none, and is well
    one.timer.tick()

    assert beating.is_fresh
    assert file.read_text() == "ready\n"


def test_a_consumer_that_may_take_nothing_for_longer_than_a_task_lasts_is_deaf(file: Path) -> None:
    one, beating = consumer(), Heartbeat(file)
    consumer_step(beating, longest_s=0.0)(one).start(one)

    assert ask(one) is False
    one.timer.tick()

    assert not file.exists()


def test_a_timer_that_fires_in_a_deaf_worker_makes_no_heartbeat(file: Path) -> None:
    one, beating = consumer(), Heartbeat(file)
    consumer_step(beating, 60)(one).start(one)
    ask(one)
    one.timer.tick()
    file.unlink()

    one.timer.tick()
    one.timer.tick()

    assert not file.exists()


def test_a_connection_that_was_given_up_makes_no_heartbeat(file: Path) -> None:
    one, beating = consumer(), Heartbeat(file)
    step = consumer_step(beating, 60)(one)
    step.start(one)

    step.stop(one)

    assert one.timer.actions == []


def test_what_an_earlier_worker_said_is_forgotten(file: Path) -> None:
    Heartbeat(file).say("ready")

    Heartbeat(file).clear()

    assert not file.exists()


def test_a_heartbeat_that_cannot_be_written_is_told_once_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    beating = Heartbeat(tmp_path / "no such folder" / "heartbeat")

    beating.beat()
    beating.beat()

    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.fixture
def keeping(
    file: Path, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Heartbeat, Ledger]]:
    """The thread that keeps a worker known, at a quick pace, and the ledger it writes to."""
    beating = Heartbeat(file)
    monkeypatch.setattr(lifecycle, "_heartbeat", beating)
    monkeypatch.setattr(lifecycle, "BEAT_S", 0.1)
    monkeypatch.setattr(lifecycle, "_stopping", stopping := threading.Event())
    monkeypatch.setenv("SEALIFT_REDIS_URL", valkey.url)
    arguments = (Settings(), ["eu"], "eu@here")
    thread = threading.Thread(target=lifecycle._keep_known, args=arguments)
    with valkey.client() as client:
        thread.start()
        yield beating, Ledger(client)
        stopping.set()
        thread.join()


def test_a_worker_is_known_in_the_ledger_while_its_consumer_is_at_work(
    keeping: tuple[Heartbeat, Ledger],
) -> None:
    beating, ledger = keeping
    assert not eventually(lambda: bool(ledger.workers.live_regions()), 0.5)

    beating.beat()

    assert eventually(lambda: ledger.workers.live_regions() == {"eu"})


@pytest.fixture
def wrong_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fleet file that cannot be used."""
    file = tmp_path / "sealift.yaml"
    file.write_text("mirrors: no list")
    monkeypatch.setenv("SEALIFT_FLEET_FILE", str(file))
    return file


def test_a_wrong_fleet_file_ends_no_heartbeat_and_names_are_admitted_whenever_it_changes(
    wrong_file: Path, keeping: tuple[Heartbeat, Ledger], caplog: pytest.LogCaptureFixture
) -> None:
    beating, ledger = keeping
    assert eventually(lambda: "tries again" in caplog.text)

    def is_admitted(mirror: str) -> bool:
        return ("mirror", mirror) in ledger.gauges.read().told.named

    for name in ("app", "other"):
        draft = wrong_file.with_suffix(".new")
        draft.write_text(f"mirrors: [{{name: {name}, source: a.example/x, targets: [b.example/{name}]}}]")
        draft.replace(wrong_file)
        assert eventually(partial(is_admitted, name))

    beating.beat()
    assert eventually(lambda: ledger.workers.live_regions() == {"eu"})


def test_a_deaf_worker_makes_no_excuse_while_redis_answers(
    keeping: tuple[Heartbeat, Ledger], file: Path
) -> None:
    assert not eventually(file.exists, 0.5)


def test_while_redis_is_away_a_worker_is_excused(
    keeping: tuple[Heartbeat, Ledger],
    valkey: ValkeyServer,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beating, _ = keeping
    beating.beat()
    monkeypatch.setattr(heartbeat, "FRESH_S", 0.2)

    valkey.kill()

    assert eventually(lambda: file.read_text() == "waiting\n", 30)
