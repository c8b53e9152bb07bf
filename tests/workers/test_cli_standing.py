"""What commands say of tags that are behind: users are sent elsewhere until a run has brought them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mirror.engine import Engine
from mirror.spec import MirrorSpec, Target
from registry.images import Image, build_image
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.typed import typed
from tests.support.valkey import ValkeyServer
from workers.cli import main

ONE, TWO = (build_image({"app": text}) for text in (b"one", b"two"))
BEHIND = "left out: {}/app: behind: a not current there"


@pytest.fixture(autouse=True)
def _own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SEALIFT_WORKER_PROCESSES", "1")
    monkeypatch.setattr("tasks.runtime._made", [])
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)


@dataclass
class Rig:
    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry

    def run(self, *tags: str) -> None:
        """Of all tags, or as a webhook has it."""
        targets = Target(f"{self.us.host}/app"), Target(f"{self.eu.host}/app")
        spec = MirrorSpec("app", f"{self.source.host}/app", targets, finalize="each")
        Drive(self.engine, replace(spec, refs=tuple((tag, tag) for tag in tags))).all()

    def hold(self, image: Image, *tags: str) -> None:
        for tag in tags:
            self.source.hold("app", image, tag)


@pytest.fixture
def rig(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("SEALIFT_REDIS_URL", valkey.url)
    monkeypatch.setenv("SEALIFT_REDIS_PREFIX", "test:")
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        targets = [f"{us.host}/app", f"{eu.host}/app"]
        write({"name": "app", "source": f"{source.host}/app", "targets": targets, "finalize": "each"})
        yield Rig(engine, source, us, eu)


def write(mirror: dict[str, object]) -> None:
    Path("sealift.yaml").write_text(json.dumps({"mirrors": [mirror]}))


def refuse(tag: str) -> Callable[[str, str], None]:
    def on_request(method: str, path: str) -> None:
        if method == "PUT" and path.endswith(f"/manifests/{tag}"):
            raise ErrorReply(403, "DENIED", "not now")

    return on_request


def test_a_tag_that_a_push_could_not_bring_is_behind_until_it_is_brought_whatever_is_pushed_meanwhile(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*words: str) -> str:
        assert main([*words]) == 0
        return "".join(capsys.readouterr())

    def page() -> tuple[str, str, dict[str, list[str]]]:
        asked("page", "--out", "public")
        (mirror,) = json.loads(Path("public/status.json").read_text())["mirrors"]
        tags = {one["tag"]: [held["state"] for held in one["held"]] for one in mirror["tags"]}
        return mirror["state"], mirror["why"], tags

    rig.hold(ONE, "a", "b", "c", "d")
    rig.run()
    clients = "clients", "app", "--format", "containers"
    assert "left out" not in asked(*clients)
    rig.hold(TWO, "a", "b", "c", "d")
    rig.eu.on_request = refuse("a")
    for tag in "abcd":
        rig.run(tag)

    assert BEHIND.format(rig.eu.host) in asked(*clients)
    state, why, tags = page()
    assert (state, why) == ("behind", "1 tag moved at the source and not everywhere yet")
    assert tags["a"] == ["same", "same", "different"]
    assert {state for tag in "bcd" for state in tags[tag]} == {"same"}

    rig.eu.on_request = None
    rig.run("a")
    assert "left out" not in asked(*clients)
    assert page()[:2] == ("in step", "every registry holds the same")


@pytest.mark.fleet
def test_a_run_without_a_fleet_file_changes_nothing_about_a_mirror_of_its_name() -> None:
    with MemoryRegistry() as source, MemoryRegistry() as target, MemoryRegistry() as other:
        source.hold("app", ONE, "v1")
        write({"name": "app", "source": f"{source.host}/app", "targets": [f"{target.host}/app"]})
        assert typed("sync").returncode == 0
        source.hold("app", TWO, "v1")
        other.on_request = refuse("v1")
        done = typed("mirror", f"{source.host}/app", "--tags", "*", "--to", f"{other.host}/app")
        assert done.returncode == 4, done.stderr
        assert json.loads(typed("page", "--out", "public", "--json").stdout)["mirrors"] == {"app": "in step"}
        clients = typed("clients", "app", "--format", "containers")
        assert "left out" not in clients.stderr
