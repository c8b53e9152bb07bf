"""What a command costs is counted with everything below it, dead or orphaned."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import machine
from bench.jobs import Command
from bench.trials import METER, run

BURN = "import time; end = time.process_time() + 0.25\nwhile time.process_time() < end: pass\n"
"""A quarter of a second of CPU."""


def metered(folder: Path, *argv: str) -> dict[str, float]:
    return run(Command(argv), folder)


def test_it_counts_a_child_that_its_parent_waited_for(tmp_path: Path) -> None:
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    assert metered(tmp_path, sys.executable, "-c", parent)["cpu_s"] >= 0.25


def test_it_counts_an_orphan_that_outlives_its_parent_but_not_in_the_wall(tmp_path: Path) -> None:
    parent = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {BURN!r} * 4])"
    cost = metered(tmp_path, sys.executable, "-I", "-S", "-c", parent)
    assert cost["cpu_s"] >= 1.0
    assert cost["wall_s"] < cost["cpu_s"]


def test_the_peak_is_that_of_the_largest_process(tmp_path: Path) -> None:
    hungry = "x = bytearray(64 << 20)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hungry!r}])"
    peak = metered(tmp_path, sys.executable, "-I", "-S", "-c", parent)["peak_bytes"]
    assert 64 << 20 <= peak < 96 << 20


def test_a_failure_is_told(tmp_path: Path) -> None:
    assert metered(tmp_path, "sh", "-c", "exit 3")["status"] == 3


def test_the_meter_runs_in_a_bare_interpreter(tmp_path: Path) -> None:
    """What it imports is memory that no command below it could be told apart from."""
    report = tmp_path / "report.json"
    subprocess.run([sys.executable, "-I", "-S", str(METER), str(report), "true"], check=True)
    assert json.loads(report.read_text())["peak_bytes"] < 24 << 20


def test_a_running_tree_is_counted_with_its_dead(tmp_path: Path) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN!r}])"
    script = f"{child}; print('done', flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        assert machine.tree_cpu_s(process.pid) >= 0.25
        assert machine.tree_peak_bytes(process.pid) > 1 << 20
        process.stdin.close()
