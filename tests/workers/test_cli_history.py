"""``sealift history``: what a person is told of the moves that the ledger remembers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from mirror.spec import MirrorSpec, Target
from registry.images import Image, build_image
from registry.memory import MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer
from workers.cli import main

ONE, TWO, THREE = (build_image({"app": text}) for text in (b"one", b"two", b"three"))


@dataclass
class World:
    """Two moves of v1 and one of v2, from one source to two registries that were not alike at first."""

    folder: Path
    us: str
    eu: str
    runs: list[str]


@pytest.fixture
def world(valkey: ValkeyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setitem(sys.modules, "workers.app", ModuleType("none"))  # nothing is sent here
    monkeypatch.setattr("tasks.runtime._made", [])
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)
    for name, value in {"REDIS_URL": valkey.url, "REDIS_PREFIX": "test:", "STATE_DIR": "state"}.items():
        monkeypatch.setenv(f"SEALIFT_{name}", value)
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        names = f"{us.host}/app", f"{eu.host}/app"
        spec = MirrorSpec("app", f"{source.host}/app", tuple(map(Target, names)))
        us.hold("app", THREE, "v1")

        def move(image: Image, *tags: str) -> str:
            for tag in tags:
                source.hold("app", image, tag)
            return Drive(engine, spec).all().run

        runs = [move(ONE, "v1", "v2"), move(TWO, "v1")]
        (tmp_path / "sealift.yaml").write_text(
            "mirrors:\n"
            f"  - {{name: app, source: {source.host}/app, targets: [{names[0]}]}}\n"
            f'  - {{name: many, source: "{source.host}/x/*", targets: ["{us.host}/y/*"]}}\n'
        )
        yield World(tmp_path, *names, runs)


def test_moves_are_shown_newest_first_each_with_where_it_was_and_from_what(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", "app", "v1"]) == 0

    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["WHEN", "TAG", "RUN", "FROM", "TO", "WHERE"]
    one, two, three = (image.digest[:19] for image in (ONE, TWO, THREE))
    first, second = world.runs
    assert [row[2:] for row in rows] == [
        ["v1", second, one, two, world.us],
        [],
        ["v1", first, three, one, world.us],
        ["v1", first, "-", one, world.eu],
    ]
    assert rows[1] == [world.eu], "the second target of the same move"


def test_as_json_it_has_whole_digests_and_as_many_moves_as_were_asked_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [main(["history", "app", "--json"]), main(["history", "app", "--limit", "1", "--json"])] == [0, 0]

    every, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (every["schema"], every["mirror"], len(every["flips"])) == (1, "app", 3)
    (flip,) = last["flips"]
    assert flip["previous"] == {world.us: ONE.digest, world.eu: ONE.digest}
    assert (flip["tag"], flip["run"], flip["to"]) == ("v1", world.runs[1], TWO.digest)


def test_a_tag_that_never_moved_has_no_history(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", "app", "v9"]) == 0
    assert capsys.readouterr().out == "No move of v9 of app is remembered.\n"


def test_a_mirror_that_only_the_ledger_knows_is_shown_too(world: World) -> None:
    (world.folder / "sealift.yaml").write_text("mirrors: []\n")

    assert main(["history", "app"]) == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("apq", 'the fleet file has no mirror "apq"; did you mean "app"?'),
        ("many", "many is many repositories: name one of them, as in many/REPOSITORY"),
        ("app/web", 'the fleet file has no mirror "app/web"'),
    ],
)
@pytest.mark.usefixtures("world")
def test_a_name_that_cannot_be_meant_is_refused_with_2(
    name: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["history", name]) == 2
    assert says in capsys.readouterr().err
