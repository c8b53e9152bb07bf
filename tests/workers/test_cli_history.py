"""``sealift history``, ``rollback`` and ``pins``: what a person is told, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from mirror.engine import Engine
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
    engine: Engine
    us: str
    eu: str
    runs: list[str]
    spec: MirrorSpec


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
        yield World(tmp_path, engine, *names, runs, spec)


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


def test_pinned_tags_are_listed_and_let_go(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.engine.ledger.pins.put("app", "abc", {"v1": ONE.digest})

    assert [main(["pins"]), main(["pins", "many"]), main(["pins", "app", "--json"])] == [0, 0, 0]
    head, row, none, document = capsys.readouterr().out.splitlines()
    assert head.split() == ["MIRROR", "TAG", "PINNED", "AT", "SINCE", "BY"]
    assert row.split()[:3] == ["app", "v1", ONE.digest[:19]]
    assert row.endswith("rollback abc")
    assert none == "No tag is pinned."
    (pin,) = json.loads(document)["pins"]
    assert (pin["mirror"], pin["tag"], pin["digest"], pin["run"]) == ("app", "v1", ONE.digest, "abc")

    assert [main(["unpin", "app", "v1"]), main(["unpin", "app", "v1"])] == [0, 0]
    assert capsys.readouterr().out.splitlines() == [
        "v1 of app may move again, from the next run on.",
        "Nothing to do: v1 of app is not pinned.",
    ]
    assert [main(["pins", "apq"]), main(["unpin", "apq", "v1"])] == [2, 2]
    assert capsys.readouterr().err.count('no mirror "apq"; did you mean "app"?') == 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["app"], 2, "say which TAG, or --run RUN for all that it moved"),
        (["app", "v1", "--to", "sha256:1", "--run", "x"], 2, "give one of them"),
        (["app", "v2"], 1, "v2: it was new with run"),
        (["app", "v2", "v9"], 1, "v9: no target has such a tag, and no move of it is remembered"),
        (
            ["app", "v11"],
            1,
            "v11: no target has such a tag, and no move of it is remembered; did you mean v1?",
        ),
        (["app", "v11", "--to", ONE.digest], 1, "v11: no target has such a tag, and no move"),
        (["app", "v1", "--to", "sha256:00"], 1, "no digest of its history begins with 'sha256:00'"),
        (["app", "v1", "--to", "sha256:zz"], 2, "--to 'sha256:zz' is no digest"),
        (["app", "v1", "--to", "latest"], 2, "--to 'latest' is no digest"),
        (["app", "v 1"], 2, "'v 1' is not a tag"),
        (["app", "sealift-keep.0.v1"], 2, "keeps what another tag was: name that one"),
        (["app", "--run", "nosuch"], 2, "no move by run nosuch is remembered in the history of app"),
        (["apq", "v1"], 2, 'no mirror "apq"; did you mean "app"?'),
    ],
)
@pytest.mark.usefixtures("world")
def test_a_rollback_that_cannot_be_starts_nothing(
    words: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", *words, "--no-wait"]) == code
    assert says in capsys.readouterr().err


@dataclass
class Fleet:
    """As a command has one; it only writes runs."""

    world: World
    begun: list[MirrorSpec]

    def start(self, _rt: object, spec: MirrorSpec) -> str:
        self.begun.append(spec)
        return self.world.engine.ledger.create_run(spec, "release")


@pytest.fixture
def fleet(world: World, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    made = Fleet(world, [])
    monkeypatch.setattr("tasks.producer.start", made.start)
    return made


def test_a_run_is_undone_as_far_as_there_was_something_before(
    world: World, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = world.runs

    assert main(["rollback", "app", "--run", first, "--no-wait"]) == 0

    (spec,) = fleet.begun
    assert dict(spec.refs) == {"v1": THREE.digest}
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1
    assert f"v2 was new with run {first}: it stays. To be rid of it, delete it at the source" in err
    assert main(["rollback", "app", "v1", "v2", "--run", first, "--no-wait"]) == 1, "v2 was asked for"
    assert main(["rollback", "app", "v1", "v2", "--run", second, "--no-wait"]) == 1
    assert [dict(one.refs) for one in fleet.begun[1:]] == [{"v1": THREE.digest}, {"v1": ONE.digest}]
    assert f"left as it is: v2: no move of it by run {second} is remembered" in capsys.readouterr().err


def test_where_a_run_moved_new_tags_only_nothing_is_begun(
    world: World, fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    new = Drive(world.engine, replace(world.spec, refs=(("v7", "v1"), ("v8", "v1")))).all().run

    assert main(["rollback", "app", "--run", new, "--no-wait", "--json"]) == 0
    assert main(["rollback", "app", "v7", "--run", new, "--no-wait", "--json"]) == 1
    assert fleet.begun == []
    out, err = capsys.readouterr()
    assert [json.loads(line)["exit_code"] for line in out.splitlines()] == [0, 1]
    assert f"v7 and v8 were new with run {new}: they stay. To be rid of them, delete them" in err


@pytest.mark.usefixtures("fleet")
def test_it_is_said_that_a_pin_goes_along(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.engine.ledger.pins.put("app", "earlier", {"v1": TWO.digest})

    assert main(["rollback", "app", "v1", "--no-wait"]) == 0
    assert main(["rollback", "app", "v1", "--pin", "--no-wait"]) == 0
    err = capsys.readouterr().err
    assert err.count("v1 was pinned: its pin goes along; `sealift unpin app v1` lets go") == 1


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
