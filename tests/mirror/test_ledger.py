"""The ledger: every step is taken once, however often it is asked for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mirror.ledger import Ledger, UnknownRun, content
from mirror.ledger.batches import Associate, Outcome, Placing, Resolved
from mirror.ledger.content import Hold, Memory
from mirror.report import Moved
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_MANIFEST, Descriptor, digest_of
from registry.images import build_image
from tests.support.valkey import ValkeyServer

SPEC = MirrorSpec(
    "app",
    "src.example/app",
    (Target("us.example/app", "us"), Target("eu.example/app", "eu")),
    referrers=False,
)

DIGEST = digest_of(b"a blob")
EU, US = ("eu.example", "eu.example", "app"), ("us.example", "us.example", "app")


@pytest.fixture
def ledger(valkey: ValkeyServer) -> Iterator[Ledger]:
    with valkey.client() as client:
        yield Ledger(client, "test:")


def open_batch(ledger: Ledger, *tags: str) -> tuple[str, str]:
    run = ledger.create_run(SPEC, "release")
    assert ledger.add_batches(run, "", "", [[(tag, tag) for tag in tags]], listed=True)
    (batch,) = ledger.open_window(run, 1)
    at = Descriptor(OCI_MANIFEST, digest_of(b"m"), 1)
    ledger.batches.set_resolved(batch, [Resolved(tag, tag, at) for tag in tags])
    return run, batch


def test_a_new_run_reads_back_as_it_was_written(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "backfill")

    report = ledger.run_report(run)
    assert (report.mirror, report.state, report.lane, report.tags) == ("app", "open", "backfill", 0)
    assert ledger.spec(run) == SPEC
    assert [one.run for one in ledger.runs()] == [run]


def test_with_each_new_run_those_that_are_kept_no_longer_leave_the_list_of_runs(
    valkey: ValkeyServer, ledger: Ledger
) -> None:
    with valkey.client() as client:
        client.zadd(ledger.keys.runs, {"gone": ledger.now() - 30 * 86400, "kept": ledger.now() - 29 * 86400})

        run = ledger.create_run(SPEC, "release")

        assert client.zrange(ledger.keys.runs, 0, -1) == [b"kept", run.encode()]


def test_a_run_never_takes_the_id_of_another(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter(("aaaa", "aaaa", "bbbb"))
    monkeypatch.setattr(secrets, "token_hex", lambda _: next(drawn))
    monkeypatch.setattr(time, "time", lambda: 1_800_000_000.0)
    first = ledger.create_run(SPEC, "release")
    ledger.cancel_run(first)

    second = ledger.create_run(replace(SPEC, name="other"), "backfill")

    assert second != first
    assert (ledger.run_report(first).state, ledger.run_report(first).mirror) == ("cancelled", "app")


def test_a_run_that_does_not_exist_is_named(ledger: Ledger) -> None:
    with pytest.raises(UnknownRun, match="'nope'"):
        ledger.run_report("nope")


def test_a_later_question_has_the_higher_generation(ledger: Ledger) -> None:
    assert ledger.begin_question([], [])[0] < ledger.begin_question([], [])[0]


def test_two_enumerations_of_one_run_write_its_batches_once(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "release")
    page = [[("a", "a"), ("b", "b")]]

    assert ledger.add_batches(run, "", "b", page, listed=False)
    assert not ledger.add_batches(run, "", "b", page, listed=False)
    assert ledger.run_report(run).tags == 2


def test_no_more_batches_are_in_flight_than_the_window_has_room_for(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "release")
    ledger.add_batches(run, "", "", [[(tag, tag)] for tag in "abcde"], listed=True)

    assert ledger.open_window(run, 2) == {f"{run}.0": [("a", "a")], f"{run}.1": [("b", "b")]}
    assert ledger.open_window(run, 2) == {}
    ledger.batches.advance(f"{run}.0", "resolving", "landing")
    ledger.batches.conclude(f"{run}.0", "landing", SPEC)
    assert list(ledger.open_window(run, 2)) == [f"{run}.2"]


def test_a_paused_run_opens_no_batch_and_has_its_list_read_no_further(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "backfill")
    ledger.add_batches(run, "", "a", [[("a", "a")]], listed=False)

    assert ledger.pause_run(run, paused=True)
    assert not ledger.pause_run(run, paused=True)
    assert ledger.refill(run, 2) == ({}, False)
    assert ledger.run_report(run).is_paused

    assert ledger.pause_run(run, paused=False)
    assert ledger.refill(run, 2) == ({f"{run}.0": [("a", "a")]}, True)
    assert not ledger.run_report(run).is_paused


def test_a_run_that_has_ended_is_not_paused(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "backfill")
    ledger.cancel_run(run)

    assert not ledger.pause_run(run, paused=True)
    with pytest.raises(UnknownRun):
        ledger.pause_run("nope", paused=True)


def test_of_several_starts_on_the_same_terms_all_but_the_first_join_it(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        begun = list(pool.map(lambda _: ledger.create_or_join_run(SPEC, "backfill"), range(8)))

    assert len({run for run, _ in begun}) == 1
    assert sum(is_new for _, is_new in begun) == 1
    run = begun[0][0]
    other = replace(SPEC, name="other")
    assert ledger.create_or_join_run(other, "backfill")[0] != run
    assert ledger.spec(run) == SPEC

    ledger.cancel_run(run)
    assert ledger.create_or_join_run(SPEC, "backfill")[1], "that one has ended"


def test_a_step_is_taken_once(ledger: Ledger) -> None:
    _, batch = open_batch(ledger, "1.0")

    assert ledger.batches.advance(batch, "resolving", "landing")
    assert not ledger.batches.advance(batch, "resolving", "landing")
    assert ledger.batches.state(batch) == "landing"


def test_a_run_ends_with_its_last_batch_and_is_counted_once(ledger: Ledger) -> None:
    run, batch = open_batch(ledger, "1.0", "1.1")
    ledger.batches.advance(batch, "resolving", "landing")
    for target in SPEC.targets:
        ledger.batches.record(batch, {("1.0", target.repository): Outcome("current")})
        ledger.batches.record(batch, {("1.1", target.repository): Outcome("failed", "quota", "Refused")})

    assert ledger.batches.conclude(batch, "landing", SPEC)
    assert not ledger.batches.conclude(batch, "landing", SPEC)

    report = ledger.run_report(run)
    assert (report.state, report.states) == ("failed", {"current": 1, "failed": 1})
    assert report.finished_s is not None
    assert ledger.take_due(0) == []


def test_a_run_without_any_tag_is_done_when_its_listing_is(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "release")

    ledger.add_batches(run, "", "", [], listed=True)
    assert ledger.run_report(run).state == "done"


def test_what_is_due_is_over_when_its_last_item_is_settled(ledger: Ledger) -> None:
    _, batch = open_batch(ledger, "1.0")
    assert ledger.batches.due(batch, "eu", "land")
    assert ledger.batches.due(batch, "eu", "sha256:x", {"size": 1})
    assert not ledger.batches.due(batch, "eu", "sha256:x")

    assert not ledger.batches.settle(batch, "eu", "land")
    assert not ledger.batches.settle(batch, "eu", "land")
    assert ledger.batches.settle(batch, "eu", "sha256:x")


def test_what_became_of_blobs_and_tags_reads_back(ledger: Ledger) -> None:
    _, batch = open_batch(ledger, "1.0")
    outcome = Outcome("landed", previous=digest_of(b"old"), moved=Moved(copied_bytes=3, copied_blobs=1))
    ledger.batches.record(batch, {("1.0", "eu.example/app"): outcome})
    at_once = Placing("failed", "slow down", "Throttled", 0.0)
    placed = {(digest_of(b"b"), "eu.example/app"): Placing("mounted"), (DIGEST, "eu.example/app"): at_once}
    other = {("1.0", "us.example/app"): Outcome("missing")}
    ledger.batches.settle(batch, "eu", "land", placed, other)

    assert ledger.batches.outcomes(batch) == {("1.0", "eu.example/app"): outcome, **other}
    assert ledger.batches.view_of_region(batch, "eu")[1] == placed


def test_a_step_finds_in_one_exchange_all_that_others_have_written(ledger: Ledger) -> None:
    run, batch = open_batch(ledger, "1.0", "1.1")
    resolved = ledger.batches.resolved(batch)
    associate = Associate(digest_of(b"new"), Descriptor(OCI_MANIFEST, digest_of(b"sig"), 4))
    ledger.batches.record(batch, {("1.1", "eu.example/app"): Outcome("landed", at=1.0)})
    ledger.batches.add_associates(batch, {"1.0": [], "1.1": [associate]})
    ledger.batches.region_done(batch, "eu", "landed")
    ledger.cancel_run(run)
    before = ledger.now()

    view = ledger.batches.view(batch)

    assert (view.state, view.is_cancelled, view.regions_done("landed")) == ("resolving", True, {"eu"})
    assert view.resolved == resolved
    assert [one.tag for one in resolved] == ["1.0", "1.1"]
    assert view.outcomes == {("1.1", "eu.example/app"): Outcome("landed", at=1.0)}
    assert view.associates == {"1.1": [associate]}
    assert before <= view.now <= ledger.now()


def test_a_turn_claims_its_tag_and_goes_on_only_where_a_newer_run_claims_it_too(ledger: Ledger) -> None:
    turns, target = ledger.turns, "eu.example/app"
    with turns.move(target, seen(digest_of(b"new"), 5)) as turn:
        assert (turn.claim, turns.claimed(target, "latest")) == ("ours", (5, digest_of(b"new")))
        assert turns.end(turn) is None
        with turns.move(target, seen(digest_of(b"old"), 4)) as late:
            assert late.claim == "newer"
            assert turns.end(late) == digest_of(b"new")
            assert ledger.content.leases.take(turn.lease.place, "latest") is None
    assert ledger.content.leases.take(turn.lease.place, "latest")


def seen(digest: str, generation: int, at: float = 0.0) -> Resolved:
    return Resolved("latest", "latest", Descriptor(OCI_MANIFEST, digest, 1), generation=generation, at=at)


def test_what_was_seen_later_keeps_what_was_seen_earlier_from_moving_its_tag(ledger: Ledger) -> None:
    new, old, now = digest_of(b"new"), digest_of(b"old"), ledger.now() + 60
    claim = ledger.turns.claim
    assert ledger.turns.claimed("eu.example/app", "latest") == (0, "")
    assert claim("eu.example/app", seen(old, 7, now)) == "ours"
    assert claim("eu.example/app", seen(old, 7, now)) == "ours"
    assert claim("eu.example/app", seen(old, 6, now)) == "newer"
    wanted = [("eu.example/app", seen(new, 10, now)), ("eu.example/app", seen(old, 9, now))]
    assert ledger.turns.claim_all(wanted) == ["ours", "newer"]
    assert ledger.turns.claimed("eu.example/app", "latest") == (10, new)


def test_two_answers_that_overlap_are_told_apart_by_the_source(ledger: Ledger) -> None:
    one, other = digest_of(b"one"), digest_of(b"other")
    before = ledger.now()
    assert ledger.turns.claim("eu.example/app", seen(one, 7, before)) == "ours"

    assert ledger.turns.claim("eu.example/app", seen(other, 8, before)) == "unsure"
    assert ledger.turns.claimed("eu.example/app", "latest") == (7, one)
    assert ledger.turns.claim("eu.example/app", seen(other, 8, before), sure=True) == "ours"
    assert ledger.turns.claimed("eu.example/app", "latest") == (8, other)


def test_claims_are_kept_for_as_long_as_somebody_asks_about_them(ledger: Ledger) -> None:
    key, redis = ledger.keys.newest("eu.example/app"), ledger._redis
    ledger.turns.claim("eu.example/app", seen(DIGEST, 7))
    assert 89 * 86400 < redis.ttl(key) <= 90 * 86400

    redis.expire(key, 60)
    _, _, new, _ = ledger.begin_question(["eu.example/app", "us.example/app"], ["latest", "other"])
    assert new == {"other"}
    assert redis.ttl(key) > 89 * 86400


def test_a_run_that_failed_as_a_whole_is_forgotten_in_time(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "release")
    ledger.fail_run(run, "the source cannot be listed", "NotFound")

    assert 0 < ledger._redis.ttl(ledger.keys.run(run)) <= 30 * 86400


def test_one_worker_at_a_time_has_the_lease_of_a_blob(ledger: Ledger) -> None:
    lease = ledger.content.leases.take("eu.example", "sha256:x")
    assert lease
    assert ledger.content.leases.take("eu.example", "sha256:x") is None
    assert ledger.content.leases.take("us.example", "sha256:x") is not None

    ledger.content.leases.release(lease)
    again = ledger.content.leases.take("eu.example", "sha256:x")
    assert again
    ledger.content.leases.release(lease)
    assert ledger.content.leases.take("eu.example", "sha256:x") is None


def test_a_batch_that_goes_well_does_not_silence_what_another_waits_for(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "release")
    waiting, well = f"{run}.0", f"{run}.1"
    hours = ledger.now() + 7200

    def waits() -> tuple[str, float | None]:
        report = ledger.run_report(run)
        return report.waits, report.waits_until_s

    ledger.note_wait(waiting, "no pulls", hours)
    ledger.note_wait(well, "a hiccup", ledger.now() + 2)
    ledger.batches.no_trouble(well)
    assert waits() == ("no pulls", round(hours))

    ledger.batches.no_trouble(waiting)
    assert waits() == ("", None)

    ledger.note_wait(waiting, "no pulls", ledger.now() - 1)
    ledger.note_wait(well, "a hiccup", ledger.now() + 2)
    assert waits()[0] == "a hiccup"
    ledger.note_wait(well, "no pulls", ledger.now() - 1)
    ledger.batches.no_trouble(waiting)
    assert waits()[0] == "", "its time is over"


def test_what_a_run_never_began_is_forgotten_with_it(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "release")
    ledger.add_batches(run, "", "", [[(str(n), str(n))] for n in range(3)], listed=True)
    ledger.open_window(run, 1)
    ledger.cancel_run(run)

    redis, keys = ledger._redis, ledger.keys
    assert not redis.exists(keys.queue(run))
    assert [redis.ttl(keys.batch(f"{run}.{n}")) > 0 for n in range(3)] == [False, True, True]
    assert [one.state for one in ledger.tag_reports(run)] == ["pending"] * 3


def test_a_cancelled_run_opens_nothing_further(ledger: Ledger) -> None:
    run, batch = open_batch(ledger, "1.0")

    assert ledger.cancel_run(run)
    assert not ledger.cancel_run(run)
    assert ledger.open_window(run, 5) == {}
    assert ledger.batches.count(batch, "eu", {"copied_bytes": 1})
    assert ledger.batches.state(batch) == "resolving"


def test_the_worst_target_says_how_a_tag_is(ledger: Ledger) -> None:
    run, batch = open_batch(ledger, "1.0")
    ledger.batches.record(batch, {("1.0", "us.example/app"): Outcome("updated")})
    (tag,) = ledger.tag_reports(run)
    assert (tag.state, [target.state for target in tag.targets]) == ("pending", ["updated", "pending"])

    ledger.batches.record(batch, {("1.0", "eu.example/app"): Outcome("failed", "no right", "Denied")})
    (tag,) = ledger.tag_reports(run)
    assert (tag.state, tag.reason, tag.targets[1].kind) == ("failed", "no right", "Denied")


def test_only_what_is_open_and_has_not_moved_is_due(ledger: Ledger) -> None:
    run, batch = open_batch(ledger, "1.0")

    assert ledger.take_due(60) == []
    assert set(ledger.take_due(0)) == {run, batch}
    ledger.batches.touch("no-such-batch")
    assert "no-such-batch" not in ledger.take_due(0)


def test_ten_sweepers_take_what_is_due_once(ledger: Ledger) -> None:
    run = ledger.create_run(SPEC, "release")
    ledger.add_batches(run, "", "", [[(tag, tag)] for tag in "abcdefgh"], listed=True)
    opened = ledger.open_window(run, 8)
    for batch in opened:
        assert ledger.park(batch, "resolving", ledger.now() - 1)

    with ThreadPoolExecutor(10) as pool:
        taken = [member for due in pool.map(lambda _: ledger.take_due(60), range(10)) for member in due]

    assert sorted(taken) == sorted(opened)


def test_what_is_parked_is_nobodys_business_until_its_time(ledger: Ledger) -> None:
    run, batch = open_batch(ledger, "1.0")

    assert not ledger.park(batch, "landing", ledger.now() + 3600), "it is not in that state"
    assert ledger.park(batch, "resolving", ledger.now() + 3600)
    assert ledger.take_due(0) == [run]
    assert ledger.park(batch, "resolving", ledger.now())
    assert batch in ledger.take_due(60)


def test_a_late_word_does_not_undo_what_came_after_it(ledger: Ledger) -> None:
    _, batch = open_batch(ledger, "1.0")
    pair = ("1.0", "eu.example/app")
    ledger.batches.record(batch, {pair: Outcome("missing")})
    ledger.batches.record(batch, {pair: Outcome("ready")})
    ledger.batches.record(batch, {pair: Outcome("updated")}, ("ready",))

    ledger.batches.record(batch, {pair: Outcome("landed")})
    ledger.batches.record(batch, {pair: Outcome("failed")}, ("ready", "missing"))

    assert ledger.batches.outcomes(batch)[pair].state == "updated"


def test_failures_within_a_pause_are_one_trouble_and_the_next_pause_is_longer(ledger: Ledger) -> None:
    _, batch = open_batch(ledger, "1.0")
    began, until = ledger.trouble(batch, 60.0, 600.0)

    assert until == pytest.approx(began + 60.0, abs=0.01)
    assert [ledger.trouble(batch, 60.0, 600.0) for _ in range(9)] == [(began, until)] * 9

    ledger.batches.no_trouble(batch)
    pauses = []
    for _ in range(5):
        since, until = ledger.trouble(batch, 10.0, 60.0)
        pauses.append(round(until - ledger.now()))
        ledger._redis.hset(ledger.keys.batch(batch), "trouble_until", 0)  # the pause is over
        assert since >= began
    assert pauses == [10, 20, 40, 60, 60]


def test_what_is_promised_is_on_the_servers_disk_before_anything_relies_on_it(
    valkey: ValkeyServer, ledger: Ledger
) -> None:
    run = ledger.create_run(SPEC, "release")
    ledger.confirm()
    valkey.kill()
    valkey.restart()

    assert ledger.run_report(run).state == "open"


def test_a_server_without_an_append_only_file_cannot_promise_and_is_not_waited_for(
    valkey: ValkeyServer, ledger: Ledger
) -> None:
    with valkey.client() as client:
        client.config_set("appendonly", "no")
    ledger.confirm()
    ledger.confirm()


def test_a_process_keeps_the_manifests_it_used_last_within_bounds(
    ledger: Ledger, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "RECENT_MANIFESTS", 2)
    manifests = [build_image({"a": str(n).encode()}).manifest for n in range(3)]
    for manifest in manifests:
        ledger.content.keep_manifest(manifest)
    with valkey.client() as client:
        client.flushall()

    assert [ledger.content.manifest(one.digest) for one in manifests] == [None, *manifests[1:]]


def hold(ledger: Ledger, repository: str) -> Hold:
    held = ledger.content.hold(DIGEST, [("eu.example", "eu.example", repository)])
    assert not isinstance(held, str)
    return held[0]


def test_a_blob_is_held_at_all_registries_or_at_none(ledger: Ledger) -> None:
    held = ledger.content.hold(DIGEST, [US])
    assert not isinstance(held, str)

    assert ledger.content.hold(DIGEST, [EU, US]) == "us.example"
    assert not ledger.content.leases.is_held("eu.example", DIGEST)

    ledger.content.let_go(held, Memory())
    both = ledger.content.hold(DIGEST, [EU, US])
    assert not isinstance(both, str)
    assert [(one.lease.place, one.repository) for one in both] == [
        ("eu.example", "app"),
        ("us.example", "app"),
    ]
    ledger.content.let_go(both, Memory())
    assert not ledger.content.leases.is_held("us.example", DIGEST)


def test_what_was_seen_of_a_blob_is_written_as_its_lease_is_given_up(ledger: Ledger) -> None:
    held = hold(ledger, "app")
    assert not held.sight.is_present

    held.became = "uploaded"
    ledger.content.let_go([held], Memory())

    again = hold(ledger, "other")
    assert again.sight.holder == "app"
    ledger.content.let_go([again], Memory())
    assert ledger.content.sight("eu.example", "app", DIGEST).is_present
    assert not ledger.content.sight("eu.example", "other", DIGEST).is_present, "nothing was seen there"


def memory_of(ledger: Ledger, batch: str) -> int:
    client = ledger._redis
    names = client.scan_iter(match=f"{ledger.keys.batch(batch)}*")
    return sum(int(client.memory_usage(name) or 0) for name in names)


def test_what_became_of_a_tag_can_be_looked_up_and_takes_little_room(ledger: Ledger) -> None:
    tags = [f"1.{number}.0" for number in range(32)]
    _, batch = open_batch(ledger, *tags)
    outcomes = {
        (tag, target.repository): Outcome(
            "updated", previous=digest_of(f"old {tag}".encode()), moved=Moved(copied_bytes=12345678), at=1e9
        )
        for tag in tags
        for target in (*SPEC.targets, Target("far.example/app", "far"))
    }
    ledger.batches.record(batch, outcomes)
    before = ledger.batches.results(batch)

    assert ledger.batches.conclude(batch, "resolving", SPEC)

    assert ledger.batches.results(batch) == before
    assert memory_of(ledger, batch) / len(tags) < 200


def test_a_word_that_comes_after_the_end_of_its_batch_leaves_nothing_behind(ledger: Ledger) -> None:
    _, batch = open_batch(ledger, "1.0")
    pair = ("1.0", "us.example/app")
    ledger.batches.record(batch, {pair: Outcome("updated")})
    assert ledger.batches.conclude(batch, "resolving", SPEC)

    ledger.batches.record(batch, {pair: Outcome("failed", "too late")})
    ledger.batches.set_resolved(batch, [Resolved("1.0", "1.0", None, "too late")])

    assert ledger.batches.outcomes(batch)[pair].state == "updated"
    client = ledger._redis
    assert all(client.ttl(name) > 0 for name in client.scan_iter(match=f"{ledger.keys.batch(batch)}*"))


def test_who_lives_is_told_by_the_servers_clock_wherever_workers_are(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(time, "time", lambda: 1e9)  # years behind
        ledger.workers.beat("us", "us@far")

    assert ledger.workers.live_regions() == {"us"}


def test_of_two_workers_of_a_region_the_first_that_leaves_takes_nothing_from_the_other(
    ledger: Ledger,
) -> None:
    ledger.workers.beat("us", "us@host:1")
    ledger.workers.beat("us", "us@host:2")

    ledger.workers.leave("us", "us@host:1")
    assert ledger.workers.live_regions() == {"us"}
    ledger.workers.leave("us", "us@host:2")
    assert ledger.workers.live_regions() == set()
