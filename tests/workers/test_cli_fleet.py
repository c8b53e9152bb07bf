"""Commands on real fleets: an embedded one, one that ``up`` runs, and the demo."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.connections import Connections
from registry.credentials import ExplicitCredentials
from registry.images import build_image, push, random_layer
from registry.memory import MemoryRegistry
from tests.support.waiting import eventually

pytestmark = pytest.mark.fleet

COMMAND = [sys.executable, "-P", "-m", "workers.cli"]


@pytest.fixture
def registry() -> Iterator[MemoryRegistry]:
    """Source and target in one: an image at ``a/app:1.0``."""
    with MemoryRegistry() as registry:
        connections = Connections({}, ExplicitCredentials({}))
        push(
            connections.open(f"{registry.host}/a/app"),
            build_image({"version": b"1"}, layers=[random_layer(5_000_000)]),
            "1.0",
        )
        connections.close()
        yield registry


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Typed in a folder that has names of ours in it, as users' folders do."""
    for name in ("config", "registry", "tasks", "workers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('not the installed one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)


def sealift(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=60, check=False)


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def descendants(pid: int) -> list[int]:
    """Every process below ``pid`` that is alive."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            child = int(status.parent.name)
            found += [child, *descendants(child)]
    return found


def are_gone(pids: list[int]) -> bool:
    def is_running(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    return not any(is_running(pid) for pid in pids)


def test_one_command_mirrors_an_image_and_a_second_finds_nothing_to_do(registry: MemoryRegistry) -> None:
    words = ("mirror", f"{registry.host}/a/app:1.0", "--to", f"eu={registry.host}/b/app", "--json")

    first, second = sealift(*words), sealift(*words)

    assert [first.returncode, second.returncode] == [0, 0], first.stderr + second.stderr
    assert registry.tag("b/app", "1.0") == registry.tag("a/app", "1.0")
    states = [json.loads(done.stdout)["runs"][0]["states"] for done in (first, second)]
    assert states == [{"updated": 1}, {"current": 1}]


def test_ctrl_c_leaves_nothing_running_and_the_next_command_goes_on(registry: MemoryRegistry) -> None:
    with registry.pause(lambda method, path: method == "PUT" and "/blobs/" in path) as pause:
        command = start("mirror", f"{registry.host}/a/app:1.0", "--to", f"eu={registry.host}/b/app")
        assert pause.reached.wait(30)
        children = descendants(command.pid)
        assert len(children) >= 3  # a server, a worker and its pool

        command.send_signal(signal.SIGINT)
        _, said = command.communicate(timeout=30)

    assert command.returncode == 130, said
    assert are_gone(children)
    (line,) = [line for line in said.splitlines() if "interrupted" in line]
    run = line.split("`sealift watch ")[1].split("`")[0]
    status = sealift("status", run)
    assert "Under way" in status.stdout
    assert f"sealift watch {run}" in status.stderr


def test_a_killed_command_takes_its_workers_with_it(registry: MemoryRegistry) -> None:
    with registry.pause(lambda method, path: method == "PUT" and "/blobs/" in path) as pause:
        command = start("mirror", f"{registry.host}/a/app:1.0", "--to", f"eu={registry.host}/b/app")
        assert pause.reached.wait(30)
        children = descendants(command.pid)

        command.kill()
        command.communicate(timeout=30)

    assert eventually(lambda: are_gone(children), within_s=15)


def test_a_run_that_takes_too_long_is_code_5_and_says_how_to_go_on(registry: MemoryRegistry) -> None:
    with registry.pause(lambda method, path: method == "PUT" and "/blobs/" in path):
        done = sealift(
            "mirror", f"{registry.host}/a/app:1.0", "--to", f"{registry.host}/b/app", "--timeout", "1"
        )

    assert done.returncode == 5, done.stderr
    assert "not finished after 1.0 s" in done.stderr
    assert "sealift watch" in done.stderr


def test_other_commands_join_a_fleet_that_is_up(registry: MemoryRegistry) -> None:
    source = f"{registry.host}/a/app:1.0"
    up = start("up", "--region", "eu", "--flower-port", "0")
    try:
        assert up.stderr
        assert "The fleet is up" in up.stderr.readline()
        children = descendants(up.pid)
        joined = sealift("mirror", source, "--to", f"eu={registry.host}/b/app")
        enqueued = sealift("mirror", source, "--to", f"eu={registry.host}/c/app", "--no-wait")
        watched = sealift("watch", enqueued.stdout.strip())
        unserved = sealift("mirror", source, "--to", f"mars={registry.host}/d/app", "--no-wait")
        again = sealift("up")
    finally:
        up.send_signal(signal.SIGTERM)
        up.communicate(timeout=30)

    assert [joined.returncode, enqueued.returncode, watched.returncode] == [0, 0, 0], joined.stderr
    assert registry.tag("b/app", "1.0") == registry.tag("c/app", "1.0") == registry.tag("a/app", "1.0")
    assert "warning: no worker serves mars" in unserved.stderr
    assert (again.returncode, up.returncode) == (3, 0)
    assert "a fleet is up already" in again.stderr
    assert are_gone(children)


def test_a_failed_tag_is_tried_again_by_retry(registry: MemoryRegistry) -> None:
    failed = sealift("mirror", f"{registry.host}/a/new:1.0", "--to", f"{registry.host}/b/new", "--json")
    run = json.loads(failed.stdout)["runs"][0]["run"]
    image = build_image({"version": b"1"})
    connections = Connections({}, ExplicitCredentials({}))
    push(connections.open(f"{registry.host}/a/new"), image, "1.0")
    connections.close()

    done = sealift("retry", run)

    assert (failed.returncode, done.returncode) == (1, 0), done.stderr
    assert registry.tag("b/new", "1.0") == image.digest


def test_plan_says_what_would_move_and_writes_nothing(registry: MemoryRegistry, tmp_path: Path) -> None:
    done = sealift("plan", f"{registry.host}/a/app", "--to", f"{registry.host}/b/app", "--tags", "*")

    assert done.returncode == 0, done.stderr
    assert "a/app: 1 new (1 tag selected)." in done.stdout
    assert registry.tag("b/app", "1.0") is None
    assert not (tmp_path / "state").exists()


def test_what_a_dry_run_has_planned_is_begun_by_a_later_command(
    registry: MemoryRegistry, tmp_path: Path
) -> None:
    (tmp_path / "sealift.yaml").write_text(
        f"mirrors: [{{name: app, source: {registry.host}/a/app, targets: ['{registry.host}/b/app']}}]"
    )

    planned = sealift("backfill", "--dry-run", "--json")
    assert planned.returncode == 0, planned.stderr
    assert registry.tag("b/app", "1.0") is None
    run = json.loads(planned.stdout)["mirrors"][0]["run"]
    others = sealift("mirror", f"{registry.host}/a/app:1.0", "--to", f"{registry.host}/c/app")
    registry.forget_requests()
    done = sealift("backfill", "--resume", run)

    assert (others.returncode, done.returncode) == (0, 0), done.stderr
    assert "earlier run" not in others.stderr, "nobody has begun it"
    assert registry.tag("b/app", "1.0")
    assert not [one for one in registry.requests if one.kind == "tags" and "/a/app/" in one.path]


def test_the_demo_shows_what_it_says_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))

    done = sealift("demo")

    assert done.returncode == 0, done.stderr + done.stdout
    assert "3 tags current everywhere" in done.stdout
    assert done.stderr.count("the same in source, eu and us") == 4
    assert list((tmp_path / "tmp").iterdir()) == []
