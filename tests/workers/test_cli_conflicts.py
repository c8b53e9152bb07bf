"""How conflicts of two-way mirrors are shown, and what ``resolve`` and ``plan`` refuse."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mirror.ledger.conflicts import Conflict
from mirror.report import RunReport
from workers.cli import main
from workers.cli.console import Console
from workers.cli.deciding import _show
from workers.cli.exits import Exit
from workers.cli.summary import exit_code

FLEET = """\
mirrors:
  - {name: app, mode: two_way, targets: [a.example/app, b.example/team/app]}
  - {name: other, source: ghcr.io/a/other, targets: ["localhost:5000/other"]}
"""
ONE, TWO = (f"sha256:{text * 64}" for text in "12")


@pytest.fixture(autouse=True)
def own_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEALIFT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("SEALIFT_REDIS_URL", raising=False)
    monkeypatch.delenv("SEALIFT_FLEET_FILE", raising=False)
    Path("sealift.yaml").write_text(FLEET)


def report(kind: str, **states: int) -> RunReport:
    return RunReport(
        "r",
        "app",
        "release",
        "done",
        "s",
        0.0,
        1.0,
        listed=True,
        tags=2,
        states=states,
        regions=(),
        kind=kind,
    )


def shown(capsys: pytest.CaptureFixture[str], **fields: Any) -> list[str]:
    given: dict[str, Any] = {"kind": "conflict", "sides": {"a/app": ONE, "b/team/app": None}, "base": ONE}
    one = Conflict("v1", since_s=0.0, run="r1", **{**given, **fields})
    _show(SimpleNamespace(console=Console(), has_fleet_file=False), [("app", one)])  # type: ignore[arg-type]  # all it looks at
    return capsys.readouterr().out.splitlines()


def test_where_nothing_has_run_there_is_no_conflict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conflicts"]) == 0
    assert capsys.readouterr().out == "No conflict is open.\n"


def test_a_conflict_is_shown_with_what_each_side_has(capsys: pytest.CaptureFixture[str]) -> None:
    head, *sides = shown(capsys)

    assert head.startswith("app v1: moved apart, seen first ")
    assert sides == [f"  a/app       {ONE} (as all had it)", "  b/team/app  no such tag"]


def test_one_that_is_over_says_what_decided(capsys: pytest.CaptureFixture[str]) -> None:
    head, *sides = shown(
        capsys, sides={"a/app": ONE, "b/team/app": TWO}, base=None, settled_s=1.0, rule="newest", took=TWO
    )

    assert head.endswith(" by run r1: the image made last won")
    assert sides[1] == f"  b/team/app  {TWO} (taken)"


def test_one_that_was_decided_is_told_as_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    head, *_ = shown(capsys, kind="take", settled_s=1.0, rule="resolve", took=ONE)

    assert head.startswith("app v1: was left alone, settled ")


def test_how_to_decide_is_said_as_a_command_that_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    one = Conflict("v1", "conflict", {"a/app": None, "b/team/app": TWO}, None, 0.0, "r1")
    _show(SimpleNamespace(console=Console(), has_fleet_file=False), [("app", one)])  # type: ignore[arg-type]  # all it looks at

    said = "Decide with `sealift resolve app v1 --take b/team/app`, or whichever side is right.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("app", "v1", "--take", "c.example"),
            "--take 'c.example' is not one side of app; it has a.example/app",
        ),
        (("other", "v1", "--take", "ghcr.io"), "other is no two-way mirror: its source decides"),
        (("ap", "v1", "--take", "a.example"), 'the fleet file has no mirror "ap"; did you mean "app"?'),
        (("app", "v1"), "say which side is right, --take REGISTRY; or --drop"),
        (("app", "v1", "--drop"), "app is in the fleet file: its next run would list them again"),
    ],
)
def test_a_decision_that_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert main(["resolve", *words]) == 2
    assert capsys.readouterr().err.startswith(f"sealift: {said}")


def test_a_mirrors_name_is_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mirror", "app"]) == 2
    assert capsys.readouterr().err == (
        "sealift: Missing option '--to': a repository to write; `sealift sync app` runs the mirror of "
        "the fleet file\n"
    )


def test_a_list_has_no_place_in_a_two_way_mirror(capsys: pytest.CaptureFixture[str]) -> None:
    Path("list").write_text("a.example/app:v1\n")
    assert main(["backfill", "app", "--from", "list"]) == 2
    assert "app is a two-way mirror: a list has no source to take from" in capsys.readouterr().err


def test_what_a_two_way_mirror_leaves_alone_is_not_a_success() -> None:
    assert exit_code([report("two_way", held=1, current=1)]) == Exit.FAILED
    assert exit_code([report("two_way", current=2)]) == Exit.DONE
    assert exit_code([report("mirror", held=1)]) == Exit.DONE
