"""What stays until it is stopped, in a shell beside that of ``sealift up``: it joins that fleet."""

from __future__ import annotations

import os
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.support.ports import LOOPBACK, free_fixed_port, is_listening
from tests.support.process import Process
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from workers.state import Card, StateFolder

FLEET = "mirrors:\n  - {name: app, source: r.example/app, targets: [eu.example/app]}\n"


@pytest.mark.parametrize(
    ("command", "path", "says"),
    [
        (["serve", "--bind", f"{LOOPBACK}:{{port}}"], "/", "<h3>app</h3>"),
        (["exporter", "--host", LOOPBACK, "--port", "{port}"], "/metrics", "\nsealift_redis_up 1.0\n"),
    ],
)
def test_it_joins_a_fleet_that_runs_on_the_same_state_folder(
    tmp_path: Path, valkey: ValkeyServer, command: list[str], path: str, says: str
) -> None:
    (tmp_path / "sealift.yaml").write_text(FLEET)
    state, port = StateFolder(tmp_path / "state"), free_fixed_port()
    lock = state.claim()
    try:
        state.publish(Card(os.getpid(), valkey.url, shared=True, regions=("local",)))
        words = [one.format(port=port) for one in command]
        env = {"SEALIFT_STATE_DIR": str(state.path)}
        process = Process(
            [sys.executable, "-P", "-m", "workers.cli", *words], tmp_path / "log", env, tmp_path
        )
        try:
            until(lambda: is_listening(port) or not process.running, 30, process.tail)
            with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=30) as answer:
                assert says in answer.read().decode()
        finally:
            process.kill()
    finally:
        os.close(lock)
