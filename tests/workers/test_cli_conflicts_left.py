"""Conflicts of mirrors that the fleet file has no more, or never had: shown as such, taken off the list."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from mirror.engine import Engine
from mirror.spec import TARGETS, MirrorSpec, Target
from registry.images import build_image
from registry.memory import MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer
from workers.cli import main

ONE, TWO = (build_image({"app": text}) for text in (b"one", b"two"))
IN_FILE = "mirrors:\n  - {{name: app, mode: two_way, targets: [{}, {}]}}\n"
OTHER = "mirrors:\n  - {name: other, source: a.example/app, targets: [b.example/app]}\n"


@dataclass
class World:
    """A mirror that the file has, with two tags that moved apart."""

    engine: Engine
    sides: list[MemoryRegistry]

    def leaves(self) -> None:
        Path("sealift.yaml").write_text(OTHER)

    def at(self, tag: str) -> list[str | None]:
        return [side.tag("app", tag) for side in self.sides]


@pytest.fixture
def world(valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setitem(sys.modules, "workers.app", ModuleType("none"))  # nothing is sent here
    monkeypatch.setattr("tasks.runtime._made", [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)
    for name, value in {"REDIS_URL": valkey.url, "REDIS_PREFIX": "test:", "STATE_DIR": "state"}.items():
        monkeypatch.setenv(f"SEALIFT_{name}", value)
    with MemoryRegistry() as us, MemoryRegistry() as eu, engine_on(valkey) as engine:
        names = f"{us.host}/app", f"{eu.host}/app"
        Path("sealift.yaml").write_text(IN_FILE.format(*names))
        for tag in ("v1", "v2"):
            us.hold("app", ONE, tag)
            eu.hold("app", TWO, tag)
        Drive(
            engine, MirrorSpec("app", TARGETS, tuple(map(Target, names)), kind="two_way", two_way=True)
        ).all()
        yield World(engine, [us, eu])


def test_a_mirror_that_left_the_file_is_shown_as_such_with_what_to_do(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["conflicts", "app"]) == 0
    assert "--take" in capsys.readouterr().err
    world.leaves()
    assert [main(["conflicts"]), main(["conflicts", "--json"])] == [0, 0]

    said, told = capsys.readouterr()
    assert said.count("(the mirror is not in the fleet file any more)") == 2
    assert "`sealift resolve app v1 --drop` takes it off the list; nothing is moved." in told
    assert "--take" not in told
    document = json.loads(said.splitlines()[-1])
    assert [one["in_fleet_file"] for one in document["conflicts"]] == [False, False]


def test_taking_off_the_list_moves_nothing_and_stays_on_record(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.leaves()
    assert main(["resolve", "app", "v1", "--drop"]) == 0

    assert capsys.readouterr().out == "Off the list of app: v1. Nothing was moved.\n"
    assert [one.tag for one in world.engine.ledger.conflicts.open("app")] == ["v2"]
    assert world.at("v1") == [ONE.digest, TWO.digest]
    assert main(["conflicts", "app", "--settled"]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head.endswith("somebody took it off the list (the mirror is not in the fleet file any more)")


def test_a_mirror_of_the_file_is_decided_instead(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resolve", "app", "*", "--drop"]) == 2
    assert "app is in the fleet file" in capsys.readouterr().err
    assert len(list(world.engine.ledger.conflicts.open("app"))) == 2


@pytest.mark.parametrize("words", [("conflicts", "ap"), ("resolve", "ap", "v1", "--drop")])
def test_a_mirror_that_nobody_knows_is_one_line(
    world: World, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    world.leaves()
    assert main([*words]) == 2
    assert capsys.readouterr().err == 'sealift: the fleet file has no mirror "ap"; did you mean "app"?\n'
