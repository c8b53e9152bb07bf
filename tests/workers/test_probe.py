from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from workers import heartbeat, probe
from workers.cli import main

FAST_S = 0.05


def beaten(folder: Path, word: heartbeat.Word = "ready", age_s: float = 0.0) -> str:
    file = folder / "heartbeat"
    heartbeat.Heartbeat(file).say(word)
    then = time.time() - age_s
    os.utime(file, (then, then))
    return str(file)


def asked(question: str, file: str) -> int:
    return probe.main([question, "--file", file])


@pytest.mark.parametrize(
    ("word", "age_s", "live", "ready"),
    [
        ("ready", 0, True, True),
        ("ready", 31, True, False),
        ("ready", 601, False, False),
        ("waiting", 0, True, False),
        ("leaving", 0, True, False),
    ],
)
def test_the_answer_is_the_age_of_what_the_worker_said(
    tmp_path: Path, word: heartbeat.Word, age_s: float, *, live: bool, ready: bool
) -> None:
    file = beaten(tmp_path, word, age_s)

    assert (asked("live", file), asked("ready", file)) == (int(not live), int(not ready))
    assert asked("started", file) == 0


@pytest.mark.parametrize("question", ["live", "ready", "started"])
def test_a_worker_that_has_said_nothing_is_nothing(
    tmp_path: Path, question: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(question, str(tmp_path / "none")) == 1
    assert capsys.readouterr().out == f"not {question}: {tmp_path}/none: No such file or directory\n"


def test_one_line_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked("ready", beaten(tmp_path, "waiting", 12))

    assert capsys.readouterr().out == "not ready: waiting, 12 s ago\n"


def test_the_environment_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(probe.VARIABLE, beaten(tmp_path))

    assert probe.main(["ready"]) == 0


@pytest.mark.parametrize("command", [["worker", "--region", "eu"], ["beat"]])
def test_what_an_earlier_process_said_is_gone_before_the_next_one_starts(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Pod's emptyDir outlives its containers: a startup probe would answer for one that is dead."""

    def started(*_: object) -> None:
        answers.append(probe.main(["started", "--file", file]))

    answers: list[int] = []
    file = beaten(tmp_path)
    assert probe.main(["started", "--file", file]) == 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("SEALIFT_HEARTBEAT_FILE", file)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for name in ("execv", "execve"):
        monkeypatch.setattr(os, name, started)

    main(command)

    assert answers == [1]


@pytest.mark.parametrize("arguments", [[], ["well"], ["live", "--file"], ["live", "--path", "x"], ["live"]])
def test_a_question_that_makes_no_sense_is_neither_yes_nor_no(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(probe.VARIABLE, raising=False)

    assert probe.main(arguments) == 2


def test_it_imports_neither_celery_nor_anything_of_ours() -> None:
    tree = ast.parse(Path(probe.__file__).read_text())
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]

    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_it_costs_next_to_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", probe.__file__, "ready", "--file", beaten(tmp_path)]
    costs = []
    for _ in range(5):
        before = os.times().children_user + os.times().children_system
        assert subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode == 0
        costs.append(os.times().children_user + os.times().children_system - before)

    assert min(costs) < FAST_S  # of CPU: how long it takes by the clock depends on what else runs
