"""Totals are counted with the state that they describe: a step that is taken twice counts once (G6)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from mirror.flip import flip
from mirror.land import land
from mirror.ledger import Ledger, traffic
from mirror.ledger.accounts import RegionBatch
from mirror.ledger.batches import Outcome, Placing, Resolved
from mirror.ledger.content import Done, Memory
from mirror.ledger.totals import COUNT, MOST_OTHERS, OTHER, Total, counts, series
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_MANIFEST, Descriptor, digest_of
from registry.errors import NotFound
from registry.images import build_image, random_layer
from registry.memory import MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

US, EU = "us.example/app", "eu.example/app"
SPEC = MirrorSpec("app", "src.example/app", (Target(US, "us"), Target(EU, "eu")))
AT = Descriptor(OCI_MANIFEST, digest_of(b"m"), 1)


@pytest.fixture
def ledger(valkey: ValkeyServer) -> Iterator[Ledger]:
    with valkey.client() as client:
        yield Ledger(client, "test:")


def told(ledger: Ledger, name: str) -> dict[tuple[str, ...], int]:
    """By the values of the labels, in the order in which they are counted."""
    return {tuple(one.labels.values()): one.value for one in ledger.gauges.read().told.of(name)}


def opened(ledger: Ledger, *tags: str, spec: MirrorSpec = SPEC) -> tuple[str, str]:
    run = ledger.create_run(spec, "release")
    assert ledger.add_batches(run, "", "", [[(tag, tag) for tag in tags]], listed=True)
    ledger.open_window(run, 1)
    return run, f"{run}.0"


# -- runs --------------------------------------------------------------------------------------------


def test_a_run_counts_when_it_begins_and_when_it_ends_once_each(ledger: Ledger) -> None:
    _, batch = opened(ledger, "1")
    assert told(ledger, "runs_started") == {("app", "release"): 1}
    assert [(one.mirror, one.state) for one in ledger.gauges.read().runs] == [("app", "active")]

    for _ in range(2):
        ledger.batches.conclude(batch, "resolving", SPEC)

    assert told(ledger, "runs_ended") == {("app", "release", "done"): 1}
    assert ledger.gauges.read().runs_open == 0


def test_a_run_that_is_joined_begins_once_and_one_that_is_cancelled_twice_ends_once(ledger: Ledger) -> None:
    run, _ = ledger.create_or_join_run(SPEC, "backfill")
    assert ledger.create_or_join_run(SPEC, "backfill") == (run, False)
    assert told(ledger, "runs_started") == {("app", "backfill"): 1}

    assert [ledger.cancel_run(run), ledger.cancel_run(run)] == [True, False]
    assert told(ledger, "runs_ended") == {("app", "backfill", "cancelled"): 1}
    assert ledger.gauges.read().runs_open == 0


def test_a_plan_is_no_run_until_it_begins(ledger: Ledger) -> None:
    run = ledger.beginnings.plan(SPEC, "backfill")
    ledger.add_batches(run, "", "", [[("1", "1")]], listed=True)
    assert told(ledger, "runs_started") == {}

    assert [ledger.begin_planned(run), ledger.begin_planned(run)] == [run, run]
    assert told(ledger, "runs_started") == {("app", "backfill"): 1}

    wildcard = MirrorSpec("all", "src.example/*", (Target("eu.example/*", "eu"),))
    dropped = ledger.beginnings.plan(wildcard, "backfill")
    error = NotFound("src.example", "team/gone", "no such repository")
    gone = wildcard.of("src.example/team/gone")
    assert ledger.sources.fail_repository(dropped, "", "1", gone, error, listed=True)
    ledger.cancel_run(dropped)
    assert told(ledger, "runs_ended") == told(ledger, "tags") == {}


def test_open_runs_say_whether_they_are_paused_or_wait(ledger: Ledger) -> None:
    paused, waiting = (ledger.create_run(SPEC, "release") for _ in range(2))
    ledger.pause_run(paused, paused=True)
    ledger.note_wait(waiting, "no pulls", ledger.now() + 3600)

    facts = ledger.gauges.read()

    assert {one.state for one in facts.runs} == {"paused", "waiting"}
    assert all(abs(one.started_s - facts.now_s) < 60 for one in facts.runs)


# -- tags and their lag --------------------------------------------------------------------------------


def ended(ledger: Ledger, at: float, states: dict[str, str], spec: MirrorSpec = SPEC) -> bool:
    """One batch whose tags were seen at that time and ended so in both targets; asked for twice."""
    _, batch = opened(ledger, *states, spec=spec)
    ledger.batches.set_resolved(batch, [Resolved(tag, tag, AT, at=at) for tag in states])
    outcomes: dict[tuple[str, str], Any] = {
        (tag, target.repository): Outcome(state)  # type: ignore[arg-type]  # a test's own words
        for tag, state in states.items()
        for target in spec.targets
    }
    ledger.batches.record(batch, outcomes)
    first, second = (ledger.batches.conclude(batch, "resolving", spec) for _ in range(2))
    return bool(first) and second is None


def test_tags_count_by_region_and_state_when_their_batch_concludes_and_not_again(ledger: Ledger) -> None:
    assert ended(ledger, ledger.now(), {"1": "updated", "2": "current", "3": "failed"})

    each = {
        ("app", region, state): 1 for region in ("us", "eu") for state in ("updated", "current", "failed")
    }
    assert told(ledger, "tags") == each


def test_the_lag_of_tags_that_moved_is_counted_once_in_its_bucket(ledger: Ledger) -> None:
    assert ended(ledger, ledger.now() - 200, {"1": "updated", "2": "updated", "3": "current", "4": "failed"})

    assert told(ledger, "tag_lag") == {("app", "release", "300"): 2}
    (ms,) = told(ledger, "tag_lag_ms").values()
    assert 400_000 <= ms < 600_000

    assert ended(ledger, ledger.now() - 10 * 86400, {"1": "updated"})
    assert told(ledger, "tag_lag")["app", "release", "+Inf"] == 1


def test_repositories_of_a_wildcard_count_for_their_mirror(ledger: Ledger) -> None:
    wildcard = MirrorSpec("all", "src.example/*", (Target("eu.example/*", "eu"),))
    run = ledger.create_run(wildcard, "backfill")
    ledger.add_batches(run, "", "1", [[("1", "1")]], listed=False, repository="src.example/team/app")
    ledger.open_window(run, 1)
    own = wildcard.of("src.example/team/app")
    ledger.batches.set_resolved(f"{run}.0", [Resolved("1", "1", AT)])
    ledger.batches.record(f"{run}.0", {("1", "eu.example/team/app"): Outcome("updated")})

    assert ledger.batches.conclude(f"{run}.0", "resolving", own)
    error = NotFound("src.example", "team/gone", "no such repository")
    gone = wildcard.of("src.example/team/gone")
    for _ in range(2):
        ledger.sources.fail_repository(run, "1", "2", gone, error, listed=True)

    assert told(ledger, "tags") == {("all", "eu", "updated"): 1, ("all", "eu", "failed"): 1}
    assert told(ledger, "runs_ended") == {("all", "backfill", "failed"): 1}


def test_a_run_of_one_repository_of_a_wildcard_counts_for_the_mirror(ledger: Ledger) -> None:
    wildcard = MirrorSpec("all", "src.example/*", (Target("eu.example/*", "eu"),))
    ledger.fail_run(ledger.create_run(wildcard.of("src.example/team/app"), "release"), "no", "Denied")
    assert told(ledger, "runs_started") == {("all", "release"): 1}
    assert told(ledger, "runs_ended") == {("all", "release", "failed"): 1}


def test_what_no_fleet_file_has_counts_for_no_mirror_of_its_name(ledger: Ledger) -> None:
    spec = MirrorSpec("app", "src.example/app", (Target("eu.example/app", "eu"),), ad_hoc=True)
    run = ledger.create_run(spec, "release")
    ledger.add_batches(run, "", "1", [[("1", "1")]], listed=True)
    ledger.open_window(run, 1)
    ledger.batches.set_resolved(f"{run}.0", [Resolved("1", "1", AT)])
    ledger.batches.record(f"{run}.0", {("1", "eu.example/app"): Outcome("updated")})
    assert ledger.batches.conclude(f"{run}.0", "resolving", spec)

    assert told(ledger, "tags") == {("eu.example/app", "eu", "updated"): 1}
    assert told(ledger, "runs_ended") == {("eu.example/app", "release", "done"): 1}


# -- blobs ---------------------------------------------------------------------------------------------

LAYER, SHARED = random_layer(300_000, seed=1), random_layer(200_000, seed=2)


@pytest.fixture
def drive(valkey: ValkeyServer) -> Iterator[Drive]:
    """A batch of one tag and two targets in one region, at registries of their own; resolved."""
    with MemoryRegistry() as source, MemoryRegistry() as one, MemoryRegistry() as other:
        source.hold("app", build_image({}, layers=[LAYER, SHARED]), "1")
        one.hold("app", build_image({"a": b"older"}, layers=[SHARED]), "0")
        targets = (Target(f"{one.host}/app", "eu"), Target(f"{other.host}/app", "eu"))
        with engine_on(valkey) as engine:
            drive = Drive(engine, MirrorSpec("app", f"{source.host}/app", targets))
            drive.resolve()
            yield drive


def test_a_landing_that_is_taken_twice_counts_its_blobs_and_bytes_once(drive: Drive) -> None:
    ledger, (batch,) = drive.engine.ledger, drive.batches
    assert land(drive.engine, batch, "eu", hauls=False) == []
    first = {name: told(ledger, name) for name in ("blobs", "copied_bytes", "saved_bytes")}
    again = ledger.batches.outcomes(batch)
    assert {one.state for one in again.values()} == {"landed"}
    # As if its worker had been killed just before it could say that the region is through.
    missing = {pair: replace(one, state="missing") for pair, one in again.items()}
    ledger.batches.record(batch, missing, ("landed",))
    ledger.batches.reopen(batch, ["eu"], "landed")

    land(drive.engine, batch, "eu", hauls=False)

    assert {name: told(ledger, name) for name in first} == first
    assert first["blobs"] == {("eu", "copied"): 5, ("eu", "exists"): 1}, "two layers and a config each"
    saved, layer, shared = first["saved_bytes"], LAYER.descriptor.size, SHARED.descriptor.size
    config = saved["eu", "shared"] - layer
    assert saved["eu", "exists"] == shared
    assert sum(first["copied_bytes"].values()) == 2 * (layer + config) + shared


def test_what_is_mounted_counts_as_saved(valkey: ValkeyServer) -> None:
    with MemoryRegistry() as source, MemoryRegistry() as target, engine_on(valkey) as engine:
        for name in ("one", "two"):
            source.hold(name, build_image({}, layers=[LAYER]), "1")
            spec = MirrorSpec(name, f"{source.host}/{name}", (Target(f"{target.host}/{name}", "eu"),))
            Drive(engine, spec).all()

        assert told(engine.ledger, "blobs") == {("eu", "copied"): 2, ("eu", "mounted"): 2}
        assert told(engine.ledger, "saved_bytes")["eu", "mounted"] > LAYER.descriptor.size


def test_a_blob_that_fails_and_comes_in_the_end_counts_as_both_and_a_second_failure_does_not(
    drive: Drive, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, (batch,) = drive.engine.ledger, drive.batches
    with monkeypatch.context() as broken:
        broken.setattr("registry.client.RemoteRepository.start_upload", refuse)
        for _ in range(2):
            land(drive.engine, batch, "eu", hauls=False)
            outcomes = ledger.batches.outcomes(batch)
            assert {one.state for one in outcomes.values()} == {"failed"}
            missing = {pair: replace(one, state="missing") for pair, one in outcomes.items()}
            ledger.batches.record(batch, missing, ("failed",))
            ledger.batches.reopen(batch, ["eu"], "landed")
    assert told(ledger, "blobs") == {("eu", "failed"): 5, ("eu", "exists"): 1}

    land(drive.engine, batch, "eu", hauls=False)

    assert told(ledger, "blobs") == {("eu", "failed"): 5, ("eu", "exists"): 1, ("eu", "copied"): 5}


def refuse(*_: object, **__: object) -> None:
    raise NotFound("eu.example", "app", "no such repository")


def test_a_worker_that_comes_after_its_batch_has_ended_counts_nothing(drive: Drive) -> None:
    engine, ledger, (batch,) = drive.engine, drive.engine.ledger, drive.batches
    land(engine, batch, "eu", hauls=False)
    drive.finalize()
    flip(engine, batch, "eu")
    drive.conclude()
    before = told(ledger, "blobs")
    place = drive.spec.targets[0].repository.partition("/")[0]
    late = Done(drive.spec.targets[0].repository, Placing("copied"), 5)
    ledger.content.saw(place, "app", digest_of(b"late"), Memory(), "uploaded", RegionBatch(batch, "eu"), late)

    assert told(ledger, "blobs") == before
    assert not ledger._redis.exists(ledger.keys.placed(batch, "eu"))


# -- requests ------------------------------------------------------------------------------------------


def test_requests_are_told_in_one_exchange_that_counts_once_however_often_it_is_sent(ledger: Ledger) -> None:
    for status in (200, 200, 404, None):
        ledger.traffic.met("r.example", "GET", "manifest", status)
    ledger.traffic.flush()
    asked = {
        ("r.example", "GET", "manifest", "2xx"): 2,
        ("r.example", "GET", "manifest", "4xx"): 1,
        ("r.example", "GET", "manifest", "none"): 1,
    }
    assert told(ledger, "requests") == asked
    assert set(told(ledger, "met")) == {("r.example", "success"), ("r.example", "failure")}

    tell, sent = ledger.traffic._tell, list[tuple[Any, Any]]()

    def lost(keys: Any, words: Any) -> None:
        sent.append((keys, words))
        tell(keys, words)
        if len(sent) == 1:
            raise redis.ConnectionError("it was done, and nobody heard")

    ledger.traffic._tell = lost  # a wire that breaks after the exchange
    ledger.traffic.met("r.example", "GET", "manifest", 200)
    ledger.traffic.flush()
    ledger.traffic.met("r.example", "HEAD", "blob", 503)
    ledger.traffic.flush()

    assert [words[0] for _, words in sent] == [2, 2, 3]
    asked["r.example", "GET", "manifest", "2xx"] = 3
    assert told(ledger, "requests") == {**asked, ("r.example", "HEAD", "blob", "5xx"): 1}


def test_what_was_met_later_stands_whoever_tells_it_first(ledger: Ledger, valkey: ValkeyServer) -> None:
    with valkey.client() as client:
        late, early = Ledger(client, "test:").traffic, ledger.traffic
        for one in (early, late):
            one.met("r.example", "GET", "blob", 200)
        early._met = {name: at - 100 for name, at in early._met.items()}
        late.flush()
        met = told(ledger, "met")
        early.flush()

    assert told(ledger, "met") == met
    assert told(ledger, "requests") == {("r.example", "GET", "blob", "2xx"): 2}


def test_when_a_registry_was_met_is_told_by_the_servers_clock(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "FLUSH_S", 3600.0)  # it is told by hand
    monkeypatch.setattr(time, "time", lambda: 4_000_000_000.0)  # a machine whose clock is ahead
    ledger.traffic.met("r.example", "GET", "blob", 200)
    ledger.traffic._met = {name: at - 100 for name, at in ledger.traffic._met.items()}
    ledger.traffic.flush()

    (at_ms,) = told(ledger, "met").values()
    assert 99 < ledger.now() - at_ms / 1000 < 160


def test_what_may_have_arrived_is_not_told_again_once_nobody_knows(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic, "FLUSH_S", 3600.0)
    tell = ledger.traffic._tell

    def lost(keys: Any, words: Any) -> None:
        tell(keys, words)
        raise redis.ConnectionError("it was done, and nobody heard")

    ledger.traffic._tell = lost
    ledger.traffic.met("r.example", "GET", "blob", 200)
    ledger.traffic.flush()
    ledger.traffic._tell = tell
    ledger._redis.delete(ledger.keys.flushed(ledger.traffic._process))  # as its end does
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + traffic.KEEP_S + 1)
    ledger.traffic.flush()

    assert told(ledger, "requests") == {("r.example", "GET", "blob", "2xx"): 1}


def test_a_busy_process_tells_by_itself(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "FLUSH_S", 0.05)
    ledger.traffic.met("r.example", "GET", "blob", 200)
    until(lambda: told(ledger, "requests"), 10, "the counts")
    until(lambda: ledger.traffic._teller is None, 10, "its thread to end: there is nothing to tell")


# -- bounds --------------------------------------------------------------------------------------------


def count(ledger: Ledger, field: str) -> None:
    script = f"{COUNT}\ncount(KEYS[1], ARGV[1])"
    ledger._redis.eval(script, 1, ledger.keys.totals, counts({field: 1}))


def test_names_that_no_fleet_file_has_are_bounded_and_the_rest_are_others(ledger: Ledger) -> None:
    ledger.totals.admit({"registry": ["own.example"]})
    for number in range(MOST_OTHERS + 20):
        count(ledger, series("copied_bytes", region="eu", registry=f"{number}.example"))
    count(ledger, series("copied_bytes", region="eu", registry="own.example"))
    count(ledger, series("copied_bytes", region="eu", registry="0.example"))
    ledger.totals.admit({"registry": ["own.example", "late.example"]})
    count(ledger, series("copied_bytes", region="eu", registry="late.example"))

    found = ledger.gauges.read().told
    by_registry = {one.labels["registry"]: one.value for one in found.of("copied_bytes")}

    assert len(by_registry) == MOST_OTHERS + 3
    assert by_registry[OTHER] == 20
    assert by_registry["own.example"] == by_registry["late.example"] == 1
    assert by_registry["0.example"] == 2
    assert found.shown("registry", "own.example") == "own.example"
    assert found.shown("registry", "60.example") == OTHER


def test_any_name_can_be_counted(ledger: Ledger) -> None:
    name = "le=5, mirror=x"
    count(ledger, series("runs_ended", mirror=name, lane="release", state="done"))

    assert ledger.gauges.read().told.of("runs_ended") == [
        Total("runs_ended", {"mirror": name, "lane": "release", "state": "done"}, 1)
    ]


def test_amounts_beyond_what_lua_writes_out_are_counted(ledger: Ledger) -> None:
    field = series("copied_bytes", region="eu", registry="r.example")
    script = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])"
    ledger._redis.eval(script, 1, ledger.keys.totals, field, str(10**15))
    count(ledger, field)
    assert ledger.gauges.read().told.of("copied_bytes")[0].value == 10**15 + 1


def test_workers_are_counted_by_region_while_they_are_heard_of(ledger: Ledger) -> None:
    ledger.workers.beat("eu", "eu@one")
    ledger.workers.beat("eu", "eu@two")
    ledger._redis.zadd(ledger.keys.workers, {"eu\neu@two": time.time() - 120})

    facts = ledger.gauges.read()

    assert (facts.alive("eu"), facts.alive("us")) == (1, 0)
    assert len(facts.workers["eu"]) == 2
