"""Events in words: what happened, what to do next, where the handbook speaks of it; and nothing that acts."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

from mirror.ledger.events import Event, Name
from mirror.notices import LONGEST_TITLE, MOST_NOTICES, harmless, message, notices

ROOT = Path(__file__).parents[2]
MORE: dict[str, dict[str, Any]] = {
    "failed": {"run": "r1", "count": 3, "tags": 12, "names": ["1.0", "1.1"], "reason": "a.example: no"},
    "recovered": {"run": "r9", "runs": 37, "since_s": 1_795_000_000.0},
    "split": {"run": "r1", "count": 1, "names": ["1.0"]},
    "conflict": {"run": "r1", "count": 2, "names": ["v1", "v2"]},
    "registry_down": {"registry": "a.example", "reason": "no answer"},
    "registry_back": {"registry": "a.example"},
    "budget": {"registry": "a.example", "limit": 100, "until_s": 1_795_000_000.0, "kept": False},
    "backfill_done": {"run": "r1", "count": 3, "tags": 12},
    "damage": {"run": "r1", "count": 1, "names": ["1.0"], "reason": "a.example/app: a layer is missing"},
    "repaired": {"run": "r1", "count": 1, "tags": 1},
    "no_workers": {"region": "eu", "count": 2, "mirrors": ["app", "base"]},
}


def event(name: str, mirror: str = "app", **more: Any) -> Event:
    own = mirror if "run" in MORE[name] else ""
    return Event("1-0", 0.0, 1, name, own, {**MORE[name], **more})


def test_every_event_has_words() -> None:
    assert set(MORE) == set(get_args(Name))
    texts = [notices([event(name)])[0].text for name in MORE]
    assert not [text for text in texts if "Another version" in text]
    assert len(set(texts)) == len(MORE)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("failed", "app: run failed. 3 tags (1.0, 1.1, …) failed in run r1: a.example: no."),
        (
            "conflict",
            "app: conflict. 2 tags (v1, v2): not the same on all sides, and left alone until somebody",
        ),
        ("budget", "a.example: no pulls left. Of 100 pulls that it allows none is left: work waits, until "),
        ("damage", "app: damage found. Content of 1 tag (1.0) is not what it should be"),
        (
            "no_workers",
            "eu: no worker. Region eu has no worker. Mirrors that run by a schedule need one there: app",
        ),
    ],
)
def test_a_notice_says_what_happened(name: str, text: str) -> None:
    assert notices([event(name)])[0].text.startswith(text)


def test_many_runs_that_failed_are_one_notice_about_the_last_with_a_command_for_all() -> None:
    runs = [event("failed", run=f"r{n}", count=1, names=[f"v{n}"], runs=n) for n in (1, 5)]
    (one,) = notices(runs)
    assert one.title == "app: 6 runs failed"
    assert one.sentence == "1 tag (v5) failed in the last of them (run r5): a.example: no."
    assert one.todo == "`sealift status r5` says why; `sealift sync app` tries again"
    (typed,) = notices([replace(one, mirror="library/alpine") for one in runs])
    assert "`sealift retry r5 --failed` tries again" in typed.todo


@pytest.mark.parametrize(
    ("name", "kind", "title"),
    [
        ("failed", "verify", "app: verification failed"),
        ("failed", "repair", "app: repair failed"),
        ("failed", "rollback", "app: rollback failed"),
        ("recovered", "verify", "app: verification goes well again"),
        ("recovered", "", "app: well again"),
        ("damage", "verify", "app: damage found"),
        ("damage", "repair", "app: damage left"),
    ],
)
def test_a_notice_says_what_kind_of_run_it_was(name: str, kind: str, title: str) -> None:
    (one,) = notices([event(name, kind=kind)])
    assert one.title == title


@pytest.mark.parametrize(
    ("names", "titles"),
    [
        (["registry_down", "registry_back"], ["a.example: down", "a.example: back"]),
        (["registry_down", "registry_back", "registry_down"], ["a.example: back", "a.example: down"]),
        (["failed", "recovered", "failed"], ["app: well again", "app: 2 runs failed"]),
    ],
)
def test_what_holds_now_is_told_last(names: list[str], titles: list[str]) -> None:
    assert [one.title for one in notices(event(name) for name in names)] == titles


@pytest.mark.parametrize("more", [{"count": "many"}, {"runs": [1]}, {"run": None, "names": 3}])
def test_an_event_that_says_things_in_other_ways_keeps_no_other_from_being_told(more: dict[str, Any]) -> None:
    """As a newer version might."""
    said = message([event("failed", **more), event("conflict")])
    assert "app: news. Another version of Sealift wrote this." in said.body
    assert "app: conflict." in said.body


def test_kinds_of_runs_are_notices_of_their_own() -> None:
    told = notices([event("failed"), event("failed", kind="verify"), event("failed", run="r2")])
    assert [one.title for one in told] == ["app: verification failed", "app: 2 runs failed"]


@pytest.mark.parametrize(
    ("more", "mirror", "todo"),
    [
        ({}, "app", "`sealift verify app --repair`"),
        ({"kind": "verify", "repairs": True}, "app", "nothing yet: a repair begins by itself, "),
        ({"kind": "repair"}, "app", "`sealift status r1` names each part"),
        ({}, "library/alpine", "`sealift status r1` names each part"),
    ],
)
def test_what_to_do_about_damage_is_what_nobody_does_yet(more: Any, mirror: str, todo: str) -> None:
    (one,) = notices([event("damage", mirror, **more)])
    assert one.todo.startswith(todo)


def test_a_conflict_of_one_repository_of_many_is_decided_there() -> None:
    (one,) = notices([event("conflict", "all", place="all/team/app")])
    assert one.todo == ("`sealift conflicts all`, then `sealift resolve all/team/app TAG --take REGISTRY`")


def test_a_region_without_workers_is_told_with_its_mirrors_the_first_of_them_by_name() -> None:
    mirrors = [f"app-{number}" for number in range(7)]
    (one,) = notices([event("no_workers", mirrors=mirrors, count=7)])
    assert one.sentence.endswith("need one there: app-0, app-1, app-2, app-3, app-4, … (7 in all).")


def test_a_run_that_could_not_go_on_has_no_tags_to_name() -> None:
    text = notices([event("failed", count=0, names={}, reason="it cannot be listed")])[0].sentence
    assert text == "Run r1 could not go on: it cannot be listed."


@pytest.mark.parametrize("more", [{}, {"runs": 5}, {"kind": "repair"}, {"kind": "verify", "repairs": True}])
@pytest.mark.parametrize("name", MORE)
def test_what_to_do_next_is_a_command_that_exists(name: str, more: dict[str, Any]) -> None:
    import importlib

    group: Any = typer.main.get_command(importlib.import_module("workers.cli.app").app)
    todo = notices([event(name, **more)])[0].todo
    for words in (shlex.split(shown) for shown in re.findall(r"`([^`]+)`", todo)):
        assert words[0] == "sealift"
        flags = {flag for one in group.commands[words[1]].params for flag in one.opts}
        assert {word for word in words if word.startswith("--")} <= flags


@pytest.mark.parametrize("name", MORE)
def test_the_handbook_has_the_entry_that_is_named(name: str) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    headings = {one.lower().replace(" ", "-") for one in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}
    entry = notices([event(name)])[0].handbook
    assert not entry or entry in headings


def test_events_about_one_mirror_are_one_notice_with_their_sum() -> None:
    several = [event("conflict", names=[f"v{n}"], count=1) for n in range(8)]
    (one,) = notices([*several])
    assert one.count == 8
    assert "8 tags (v0, v1, v2, v3, v4, …): not the same" in one.sentence


def test_the_worst_of_what_is_told_is_how_bad_a_message_is() -> None:
    assert message([event("repaired"), event("conflict")]).level == "warning"
    assert message([event("conflict"), event("failed"), event("repaired")]).level == "failure"


def test_a_message_has_an_end_however_much_there_is_to_tell() -> None:
    said = message([event("failed", f"app-{n}", reason="x" * 10_000) for n in range(500)])
    assert said.body.endswith(f"And {500 - MOST_NOTICES} more: `sealift events`")
    assert len(said.body) < MOST_NOTICES * 1000
    assert len(said.title) <= LONGEST_TITLE


def test_texts_of_others_lose_what_acts_and_keep_what_says() -> None:
    assert harmless("a\r\nb\tc\x1b[1m\x07", 50) == "a b c (1m"
    assert harmless("@here and @channel; app@sha256:12", 50) == "(at)here and (at)channel; app@sha256:12"
    assert harmless("<a href='x'>https://x.example</a>", 50) == "(a href='x')https:x.example(/a)"
    assert harmless("\u202e\u200b\ufeffabc\u2028d", 50) == "abc d"
    assert harmless("x" * 60, 50) == "x" * 49 + "…"
    assert harmless("Bearer *** is no token", 50) == "Bearer … is no token"
    assert harmless("ok 1.0-rc.1_x", 50) == "ok 1.0-rc.1_x"
