from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue

import pytest

from tests.support.waiting import eventually
from workers import supervisor as subject
from workers.supervisor import Child, Death, Supervisor

FOREVER = "import signal; signal.pause()"
STUBBORN = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); "
    "[signal.pause() for _ in iter(int, 1)]"
)
BEATING = (
    "import itertools, os, pathlib, threading\n"
    "beat, hours = pathlib.Path(os.environ['HEARTBEAT']), itertools.count()\n"
    "while not threading.Event().wait(0.1): beat.touch(); os.utime(beat, None)"
)
FORKING = "import os, signal; print(os.fork(), flush=True); signal.pause()"


@pytest.fixture
def deaths() -> SimpleQueue[Death]:
    return SimpleQueue()


@pytest.fixture
def keeper(deaths: SimpleQueue[Death]) -> Iterator[Supervisor]:
    keeper = Supervisor(deaths.put)
    yield keeper
    keeper.close()


def child(name: str, program: str, folder: Path) -> Child:
    return Child(name, (sys.executable, "-c", program), folder / "log" / f"{name}.log")


def is_running(pid: int) -> bool:
    """Not gone, and no zombie either."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_that_dies_is_started_again(
    keeper: Supervisor, deaths: SimpleQueue[Death], tmp_path: Path
) -> None:
    keeper.start(child("worker", FOREVER, tmp_path))
    first = keeper.pid("worker")

    os.kill(first, signal.SIGKILL)

    death = deaths.get(timeout=10)
    assert (death.status, death.hopeless) == (-signal.SIGKILL, False)
    assert eventually(lambda: keeper.pid("worker") != first and is_running(keeper.pid("worker")))


def test_a_child_that_cannot_live_is_reported_as_hopeless(
    keeper: Supervisor, deaths: SimpleQueue[Death], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "FIRST_DELAY_S", 0.01)
    keeper.start(child("worker", "raise SystemExit('no such thing')", tmp_path))

    seen = [deaths.get(timeout=10) for _ in range(subject.HOPELESS)]

    assert [death.hopeless for death in seen] == [False] * (subject.HOPELESS - 1) + [True]
    assert "no such thing" in (tmp_path / "log" / "worker.log").read_text()
    assert str(tmp_path) in str(seen[-1])


def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(keeper: Supervisor, tmp_path: Path) -> None:
    stubborn = child("worker", STUBBORN, tmp_path)
    keeper.start(stubborn)
    pid = keeper.pid("worker")
    assert eventually(lambda: "ready" in stubborn.log.read_text())

    keeper.stop(["worker"], grace_s=0.2)

    assert not is_running(pid)
    assert keeper.names == []


def test_what_a_child_forked_goes_with_it(keeper: Supervisor, tmp_path: Path) -> None:
    parent = child("worker", FORKING, tmp_path)
    keeper.start(parent)
    assert eventually(lambda: len(parent.log.read_text().split()) == 2)
    forked = max(int(word) for word in parent.log.read_text().split())

    keeper.stop(["worker"], grace_s=5)

    assert eventually(lambda: not is_running(forked))


def test_closing_leaves_nothing_running(keeper: Supervisor, tmp_path: Path) -> None:
    keeper.start(child("a", FOREVER, tmp_path), child("b", FOREVER, tmp_path))
    pids = [keeper.pid(name) for name in keeper.names]

    keeper.close()

    assert not any(is_running(pid) for pid in pids)


def test_a_long_log_is_put_aside_before_the_next_start(
    keeper: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "KEPT_LOG_BYTES", 10)
    log = tmp_path / "log" / "worker.log"
    log.parent.mkdir()
    log.write_text("what an earlier one said")

    keeper.start(child("worker", FOREVER, tmp_path))

    assert (tmp_path / "log" / "worker.log.1").read_text() == "what an earlier one said"
    assert log.stat().st_size == 0


def beating(name: str, program: str, folder: Path) -> Child:
    one = child(name, program, folder)
    heartbeat = folder / f"{name}.heartbeat"
    return replace(one, heartbeat=heartbeat, environment={"HEARTBEAT": str(heartbeat)})


def test_a_child_whose_heartbeat_stops_is_killed_and_started_again(
    keeper: Supervisor, deaths: SimpleQueue[Death], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "DEAF_S", 1.0)
    keeper.start(beating("worker", FOREVER, tmp_path))
    first = keeper.pid("worker")

    death = deaths.get(timeout=10)

    assert death.deaf
    assert str(death) == f"worker does not react (log: {tmp_path}/log/worker.log)"
    assert not is_running(first)
    assert eventually(lambda: keeper.pid("worker") != first and is_running(keeper.pid("worker")))


def test_a_child_whose_heartbeat_goes_on_is_left_alone(
    keeper: Supervisor, deaths: SimpleQueue[Death], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "DEAF_S", 1.0)
    keeper.start(beating("worker", BEATING, tmp_path))

    with pytest.raises(Empty):
        deaths.get(timeout=3)


def test_a_clock_that_is_set_makes_nobody_deaf(
    keeper: Supervisor, deaths: SimpleQueue[Death], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "DEAF_S", 1.0)
    keeper.start(beating("worker", BEATING.replace("None", "(0, next(hours) * 3600)"), tmp_path))

    with pytest.raises(Empty):
        deaths.get(timeout=3)
