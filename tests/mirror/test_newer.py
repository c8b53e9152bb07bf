"""Processes of two versions work side by side: what a newer one has written is read as far as it is known."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pytest

from mirror.damage import Part
from mirror.ledger import Ledger, NewerRun
from mirror.ledger.conflicts import Conflict
from mirror.ledger.measured import Change, Measurement
from mirror.ledger.newer import own_fields
from mirror.ledger.receivers import Standing
from mirror.ledger.schedules import Miss
from mirror.ledger.values import (
    AsRead,
    Merged,
    Outcome,
    Placing,
    Resolved,
    outcome_row,
    outcomes_of,
    placed_of,
    resolved_of,
    resolved_row,
)
from mirror.report import Deletion, Moved
from mirror.spec import MirrorSpec, Target, Verification
from tests.support.valkey import ValkeyServer
from workers.cli.exits import Exit, explained

SPEC = MirrorSpec("app", "src.example/app", (Target("eu.example/app"),))


def newer(document: Any) -> Any:
    """With one more field in each object."""
    if not isinstance(document, dict):
        return document
    return {name: newer(value) for name, value in document.items()} | {"word_of_tomorrow": [1]}


def text_of(document: Any) -> bytes:
    return json.dumps(newer(document)).encode()


@pytest.fixture
def ledger(valkey: ValkeyServer) -> Iterator[Ledger]:
    with valkey.client() as client:
        yield Ledger(client, "test:")


def test_how_far_a_receiver_is(ledger: Ledger) -> None:
    known = Standing(cursor="5-0", number=5, tries=2, sent=(1.0, 2.0))
    ledger._redis.hset(ledger.keys.receivers, "team", text_of(known.document()))
    before = ledger.receivers.standing("team")
    assert before is not None
    assert before == known
    assert ledger.receivers.standings() == {"team": known}
    assert ledger.receivers.put("team", before, replace(before, tries=3), {}), "and it is moved on"


def test_what_became_of_tags_and_blobs() -> None:
    merged = Merged((None, "sha256:1"), "sha256:1", read=AsRead(agreed="a"))
    resolved = Resolved("v1", "v1", reason="no", merged=merged)
    outcome = Outcome("updated", previous="sha256:1", moved=Moved(copied_bytes=7))
    placing = Placing("copied", reason="so")

    tags = json.dumps([["v1", "v1"]]).encode()
    row = text_of(json.loads(resolved_row(resolved)))
    assert resolved_of(tags, {b"v1": row}) == [resolved]
    row = text_of(json.loads(outcome_row(outcome)))
    assert outcomes_of({b"v1\nt": row}) == {("v1", "t"): outcome}
    assert placed_of({b"d\nt": text_of(asdict(placing))}) == {("d", "t"): placing}


def test_what_is_left_alone() -> None:
    known = Conflict("v1", "conflict", {"a": "sha256:1"}, None, 5.0, "r1", "both moved")
    document = asdict(known)
    del document["tag"]
    text = json.dumps(document | {"word_of_tomorrow": 1})
    assert Conflict.parse("v1", text) == known


def test_what_was_deleted(ledger: Ledger) -> None:
    known = Deletion("v1", "eu.example/app", "eu", "sha256:1", "deleted")
    ledger._redis.hset(ledger.keys.deletions("r1"), "v1\neu.example/app", text_of(asdict(known)))
    assert ledger.gone.deletion("r1", "v1", "eu.example/app") == known
    assert ledger.gone.deletions("r1") == [known]


def test_slots_that_were_missed(ledger: Ledger) -> None:
    known = Miss(60, 120, 2, "no beat")
    ledger._redis.lpush(ledger.keys.misses("app"), text_of(asdict(known)))
    assert ledger.schedules.report("app").misses == (known,)


def test_what_was_measured(ledger: Ledger) -> None:
    known = Measurement("eu", "a.example", 5.0, up=True, head_s=0.1)
    ledger._redis.hset(ledger.keys.probes("eu", "a.example"), "last", text_of(known.document()))
    assert ledger.probes.latest([("eu", "a.example")])[0].last == known


def test_when_a_registry_was_down() -> None:
    known = Change("registry_down", 5.0, "eu", "a.example", 1.0, "no answer", ("eu",), ())
    assert Change.parse(text_of(asdict(known))) == known


def test_what_is_looked_at_once_more() -> None:
    known = Part("blob", "sha256:1", "a layer", 7)
    assert Part(**own_fields(Part, newer(asdict(known)))) == known


def test_terms_that_are_as_by_default_are_not_written_so_that_only_a_run_that_needs_a_new_one_has_it() -> (
    None
):
    document = json.loads(json.dumps(SPEC.document()))
    assert document == {
        "name": "app",
        "source": "src.example/app",
        "targets": [{"repository": "eu.example/app"}],
    }
    assert MirrorSpec.parse(document) == SPEC


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, kind="verify", verification=Verification()),
        replace(SPEC, kind="verify", verification=Verification(sample=3, repairs=True)),
        replace(SPEC, refs=(("v1", "v1"), ("v2", "sha256:1")), targets=(Target("a.example/b", "eu"),)),
        replace(SPEC, newest=3, immutable=("v*",), referrers=False),
    ],
)
def test_terms_read_as_they_were_written(spec: MirrorSpec) -> None:
    assert MirrorSpec.parse(json.loads(json.dumps(spec.document()))) == spec


def test_a_term_that_is_not_known_is_not_guessed() -> None:
    with pytest.raises(TypeError):
        MirrorSpec.parse(newer(SPEC.document()))


def newer_run(ledger: Ledger) -> str:
    """As a newer version has begun it."""
    run = ledger.create_run(replace(SPEC, verification=Verification()), "release")
    ledger._redis.hset(ledger.keys.run(run), "spec", text_of(SPEC.document()))
    ledger._terms._known.clear()
    return run


def test_runs_are_listed_with_those_that_a_newer_version_has_begun(ledger: Ledger) -> None:
    run, own = newer_run(ledger), ledger.create_run(SPEC, "release")
    assert {(one.run, one.mirror, one.state) for one in ledger.runs()} == {
        (run, "app", "open"),
        (own, "app", "open"),
    }
    assert ledger.run_report(run).source == "src.example/app"


def test_nobody_acts_on_terms_that_are_not_known_nor_after_they_were_shown(ledger: Ledger) -> None:
    run = newer_run(ledger)
    ledger.runs()
    with pytest.raises(NewerRun) as told:
        ledger.spec(run)
    stop = explained(told.value)
    assert stop is not None
    assert stop.code == Exit.CONFIGURATION
    assert str(stop) == (
        f"run {run} was begun by a newer version of Sealift, on terms that this one does not know: "
        "use that version"
    )


def test_how_mirrors_stand_is_read_without_runs_that_a_newer_version_has_begun(ledger: Ledger) -> None:
    run, own = newer_run(ledger), ledger.create_run(SPEC, "release")
    assert [one.run for runs in ledger.standings.open_runs().values() for one in runs] == [own]
    ledger._redis.hset(ledger.keys.standing, "app\nall", run)
    assert ledger.standings.of([SPEC])["app"].runs == []
