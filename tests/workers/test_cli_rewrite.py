"""``rewrite`` as it is typed, against two registries: what is proven changes, the rest is named."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.select import keeper_tag
from registry.images import LINUX_AMD64, LINUX_ARM64, build_image, build_index
from registry.memory import MemoryRegistry
from workers.cli import main
from workers.cli.exits import Exit

ONE, TWO = (build_image({"version": text}) for text in (b"1", b"2"))
CHILDREN = [build_image({"at": str(at).encode()}, platform=at) for at in (LINUX_AMD64, LINUX_ARM64)]
INDEX = build_index(CHILDREN)


@dataclass(frozen=True, slots=True)
class World:
    """An old and a new place, and a folder of files."""

    old: MemoryRegistry
    new: MemoryRegistry
    folder: Path

    @property
    def map(self) -> str:
        return f"{self.old.host}/org={self.new.host}/moved"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text.replace("OLD", f"{self.old.host}/org"))
        return path

    def at_new(self, text: str) -> str:
        return text.replace("OLD", f"{self.new.host}/moved")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("SEALIFT_ATTEMPTS", "1")
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    (tmp_path / "files").mkdir()
    with MemoryRegistry() as old, MemoryRegistry() as new:
        for tag, image in (("1", ONE), ("2", TWO)):
            old.hold("org/app", image, tag)
            new.hold("moved/app", image, tag)
        yield World(old, new, tmp_path / "files")
    for number, handler in handlers.items():
        signal.signal(number, handler)


COMPOSE = "services:\n  app: {image: 'OLD/app:1'}   # ours\n  db:  {image: OLD/db:1}\n"


def test_a_diff_is_shown_that_applies_and_nothing_is_written(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world.write("compose.yaml", COMPOSE)
    before = path.read_bytes()

    code = main(["rewrite", "files", "--map", world.map])
    out, err = capsys.readouterr()

    assert (code, path.read_bytes()) == (Exit.FAILED, before)
    assert f"files/compose.yaml:3: {world.old.host}/org/db:1 stays: " in err
    assert "it is not there (any more), and nothing else says what" in err
    assert "1 reference in 1 file would change; --write does it, 1 reference stays" in err
    subprocess.run(["git", "apply"], input=out, text=True, check=True)
    assert path.read_text().splitlines()[1] == world.at_new("  app: {image: 'OLD/app:1'}   # ours")


def test_what_is_proven_is_written_and_pinned(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    path = world.write("compose.yaml", COMPOSE.replace("db:1", "app:2"))

    code = main(["rewrite", "files", "--map", world.map, "--write", "--pin"])

    assert code == Exit.DONE, capsys.readouterr().err
    assert path.read_text() == world.at_new(
        f"services:\n  app: {{image: 'OLD/app:1@{ONE.digest}'}}   # ours\n"
        f"  db:  {{image: OLD/app:2@{TWO.digest}}}\n"
    )
    assert main(["rewrite", "files", "--map", world.map]) == Exit.DONE
    assert "No old reference in 1 file" in capsys.readouterr().err


def _other(world: World) -> None:
    world.new.hold("moved/app", TWO, "1")


def _incomplete(world: World) -> None:
    world.old.hold("org/app", INDEX, "1")
    world.new.plant("moved/app", "1", INDEX.manifest)
    world.new.plant("moved/app", CHILDREN[0].digest, CHILDREN[0].manifest)


@pytest.mark.parametrize(
    ("happened", "why"),
    [
        (_other, "is another image: "),
        (_incomplete, "lacks linux/arm64; --platform says which are needed"),
    ],
)
def test_what_is_not_proven_stays_and_why_is_said(
    happened: Callable[[World], None], why: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world.write("list.txt", "OLD/app:1\n")
    before = path.read_text()
    happened(world)

    assert main(["rewrite", str(path), "--map", world.map, "--write"]) == Exit.FAILED
    assert why in capsys.readouterr().err
    assert path.read_text() == before


def test_a_tag_that_is_not_at_the_new_place_is_answered_with_what_brings_it(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.old.hold("org/app", ONE, "3")
    path = world.write("list.txt", "OLD/app:3\n")

    assert main(["rewrite", str(path), "--map", world.map]) == Exit.FAILED
    new = f"{world.new.host}/moved/app"
    assert f"`sealift mirror {world.old.host}/org/app:3 --to {new}` brings it" in capsys.readouterr().err


def test_with_the_platforms_that_are_needed_a_part_of_an_index_will_do(world: World) -> None:
    path = world.write("list.txt", "OLD/app:1\n")
    _incomplete(world)

    assert (
        main(["rewrite", str(path), "--map", world.map, "--platform", "linux/amd64", "--write"]) == Exit.DONE
    )
    assert path.read_text() == world.at_new("OLD/app:1\n")


def test_where_any_tag_may_be_meant_all_of_them_are_compared(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    path = world.write("run.sh", "docker run OLD/app:$TAG\n")

    assert main(["rewrite", str(path), "--map", world.map, "--write"]) == Exit.DONE
    assert path.read_text() == world.at_new("docker run OLD/app:$TAG\n")

    world.old.hold("org/app", TWO, keeper_tag("1", 0))  # of the old place alone
    world.write("kept.sh", "docker run OLD/app:$TAG\n")
    assert main(["rewrite", "files/kept.sh", "--map", world.map, "--write"]) == Exit.DONE

    world.old.hold("org/app", ONE, "3")
    again = world.write("again.sh", "docker run OLD/app:$TAG\n")
    assert main(["rewrite", str(again), "--map", world.map, "--write"]) == Exit.FAILED
    assert "of 3 tags of" in capsys.readouterr().err


def test_check_names_what_is_old_asks_nobody_and_ends_with_1(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write("compose.yaml", COMPOSE)
    world.write("push.sh", "docker push OLD/app:1\n")

    assert main(["rewrite", "files", "--map", world.map, "--check"]) == Exit.FAILED
    out, err = capsys.readouterr()
    assert [line.partition(" ")[0] for line in out.splitlines()] == [
        "files/compose.yaml:2:",
        "files/compose.yaml:3:",
    ]
    assert "2 old references in 2 files" in err
    assert not world.old.requests
    assert not world.new.requests
    (world.folder / "compose.yaml").unlink()
    assert main(["rewrite", "files", "--map", world.map, "--check"]) == Exit.DONE


def test_what_may_be_an_old_image_is_told_from_what_is(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write("settings.toml", "base = 'org/app:1'\n")
    there = ["rewrite", "files", "--map", "docker.io/org=ghcr.io/org"]

    assert main([*there, "--check"]) == Exit.FAILED
    out = capsys.readouterr().out
    assert out == "files/settings.toml:1: org/app:1 may be an old image; its new place is ghcr.io/org/app\n"
    assert main(there) == Exit.FAILED
    assert "No reference can change, 1 reference stays" in capsys.readouterr().err


def test_json_is_one_object_with_what_changes_and_what_stays(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.write("compose.yaml", COMPOSE)

    assert main(["rewrite", "files", "--map", world.map, "--json"]) == Exit.FAILED

    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["exit_code"], document["written"]) == (1, 1, False)
    (changed,) = document["changed"]
    assert changed["references"][0]["to"] == f"{world.new.host}/moved/app"
    assert changed["diff"].startswith("--- a/files/compose.yaml\n")
    (left,) = document["left"]
    assert (left["file"], left["line"], left["role"]) == ("files/compose.yaml", 3, "used")


def test_an_account_that_is_missing_is_4(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with MemoryRegistry(username="ci", password="right") as closed:
        path = world.write("list.txt", "OLD/app:1\n")
        code = main(["rewrite", str(path), "--map", f"{world.old.host}/org={closed.host}/org"])

    assert code == Exit.AUTHENTICATION
    assert closed.host in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["files"], "Missing option '--map'"),
        (["--map", "a.example=b.example"], "Missing argument 'PATH"),
        (["files", "--map", "a.example"], "write OLD=NEW"),
        (["files", "--map", "a.example=b.example", "--check", "--write"], "--check only looks"),
        (["gone.yaml", "--map", "a.example=b.example"], "gone.yaml: No such file or directory"),
        (["files", "--map", "a.example=b.example"], "no file of a kind that refers to images"),
        (["list.txt", "--map", "docker.io=b.example", "--platform", "x"], "--platform: not a platform"),
    ],
)
def test_what_cannot_be_meant_is_2_and_one_line(
    words: list[str], says: str, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    (world.folder.parent / "list.txt").write_text("alpine:3\n")

    assert main(["rewrite", *words]) == Exit.USAGE
    out, err = capsys.readouterr()
    assert (says in err, out) == (True, "")
