"""Commands that the standby process of an ``up`` lends a fork to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mirror.ledger import Ledger
from mirror.spec import MirrorSpec, Target
from tests.support.process import Process, surroundings
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from workers import processes
from workers.cli import borrowing
from workers.server import standby_path

COMMAND = [sys.executable, "-P", "-m", "workers.cli"]
SPEC = MirrorSpec("app", "src.example/app", (Target("eu.example/app", "eu"),))
Type = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def state(scratch: Path) -> Path:
    (scratch / "state").mkdir()
    return scratch / "state"


@pytest.fixture
def standby(state: Path, scratch: Path) -> Iterator[Process]:
    path = standby_path(state)
    with Process(processes.standby(path), scratch / "standby.log") as process:
        until(path.exists, 20, process.tail)
        yield process


@pytest.fixture
def typed(state: Path, valkey: ValkeyServer, tmp_path: Path) -> Iterator[Type]:
    """Types a command where nothing slow can be imported: what works was done by a fork."""
    (tmp_path / "poison").mkdir()
    for name in ("typer", "redis", "pydantic"):
        (tmp_path / "poison" / f"{name}.py").write_text("raise ImportError('imported by the command itself')")
    begun: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        env = {
            **surroundings(),
            "SEALIFT_STATE_DIR": str(state),
            "SEALIFT_REDIS_URL": valkey.url,
            "PYTHONPATH": str(tmp_path / "poison"),
        }
        begun.append(
            subprocess.Popen(
                [*COMMAND, *words],
                env=env,
                cwd=tmp_path,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        )
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.communicate()


def forks_of(process: Process) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(child) for child in children.split()]


def open_run(valkey: ValkeyServer) -> str:
    with valkey.client() as client:
        return Ledger(client).create_run(SPEC, "release")


@pytest.mark.usefixtures("standby")
def test_a_command_is_done_in_its_own_surroundings_and_on_its_own_streams(
    typed: Type, valkey: ValkeyServer, tmp_path: Path
) -> None:
    run = open_run(valkey)
    (tmp_path / "sealift.yaml").write_text("mirrors: []\n")

    shown, complaints = typed("runs", "--json").communicate(timeout=20)
    assert [one["run"] for one in json.loads(shown)["runs"]] == [run], complaints

    planned = typed("plan")
    _, complaints = planned.communicate(timeout=20)
    assert (planned.returncode, "sealift.yaml has no mirrors" in complaints) == (3, True), complaints


@pytest.mark.usefixtures("standby")
def test_ctrl_c_reaches_the_fork_and_its_exit_code_comes_back(typed: Type, valkey: ValkeyServer) -> None:
    run = open_run(valkey)
    watching = typed("watch", run)
    assert watching.stderr
    line = watching.stderr.readline()
    assert "eu" in line, line

    watching.send_signal(signal.SIGINT)

    assert watching.wait(20) == 130


def test_a_fork_ends_when_whoever_typed_its_command_is_killed(
    standby: Process, typed: Type, valkey: ValkeyServer
) -> None:
    watching = typed("watch", open_run(valkey))
    until(lambda: forks_of(standby), 20, standby.tail)

    watching.kill()

    until(lambda: not forks_of(standby), 20, standby.tail)


@pytest.mark.usefixtures("standby")
def test_a_command_of_another_installation_is_done_by_itself(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(state))
    monkeypatch.setattr(borrowing, "stamp", lambda: "another")

    assert borrowing.borrow(["runs"]) is None


def test_without_a_standby_process_a_command_is_done_by_itself(
    state: Path, monkeypatch: pytest.MonkeyPatch, standby: Process
) -> None:
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(state))
    standby.kill()
    assert standby_path(state).exists(), "it was killed: nobody tidied up"

    assert borrowing.borrow(["runs"]) is None


@pytest.mark.parametrize(
    "words",
    [
        ["worker", "-r", "eu"],
        ["worker", "--region", "sync"],
        ["--fleet-file", "mirror", "up"],
        ["demo"],
        ["--version"],
        [],
    ],
)
def test_what_stays_is_never_borrowed(words: list[str], state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(state))
    monkeypatch.setattr(borrowing, "_send", lambda *_: os.abort())

    assert borrowing.borrow(words) is None
