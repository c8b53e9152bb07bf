"""Slots in the ledger: each dealt with once, whoever asks; and which beat sends."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence

import pytest

from mirror.ledger import Ledger, schedules
from mirror.ledger.schedules import Miss, Taken
from mirror.spec import Lane, MirrorSpec, Target
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until

CRON = "* * * * *"
SPEC = MirrorSpec("app", "src.example/app", (Target("eu.example/app", "eu"),))
NOON = 1_795_780_800


@pytest.fixture
def two(valkey: ValkeyServer) -> Iterator[tuple[Ledger, Ledger]]:
    """The ledger as two beats see it."""
    with valkey.client() as one, valkey.client() as other:
        yield Ledger(one, "test:"), Ledger(other, "test:")


@pytest.fixture
def ledger(two: tuple[Ledger, Ledger]) -> Ledger:
    """One that knows of the schedule since noon."""
    two[0].schedules.look("app", CRON, NOON, NOON)
    return two[0]


def take(ledger: Ledger, minute: int, between: Sequence[int] = (), lane: Lane = "release") -> Taken | None:
    slot = NOON + 60 * minute
    before = ledger.schedules.look("app", CRON, 0, slot)
    ends = (NOON + 60 * between[0], NOON + 60 * between[-1], len(between)) if between else (0, 0, 0)
    return ledger.schedules.take(SPEC, lane, CRON, before, slot, ends)


def started(taken: Taken | None) -> str:
    assert taken
    assert taken.is_started
    return taken.run


def test_a_slot_that_two_beats_take_is_run_once(two: tuple[Ledger, Ledger], ledger: Ledger) -> None:
    one, other = two
    words = (SPEC, "release", CRON, NOON, NOON + 60)

    run = started(one.schedules.take(*words))  # type: ignore[arg-type]  # a lane is a text

    assert other.schedules.take(*words) is None  # type: ignore[arg-type]
    assert [report.run for report in ledger.runs()] == [run]
    assert ledger.schedules.report("app").run_slot_s == NOON + 60


def test_a_schedule_begins_with_the_slot_after_it_was_first_seen(ledger: Ledger) -> None:
    assert ledger.schedules.look("app", CRON, NOON + 600, NOON + 601) == NOON
    assert ledger.schedules.look("new", CRON, NOON + 600, NOON + 601) == NOON + 600


def test_another_schedule_of_the_mirror_makes_up_for_no_slot(ledger: Ledger) -> None:
    assert ledger.schedules.look("app", "*/5 * * * *", NOON + 600, NOON + 601) == NOON + 600
    assert ledger.schedules.take(SPEC, "release", CRON, NOON, NOON + 60) is None


def test_a_slot_that_is_still_to_come_is_not_waited_for(ledger: Ledger) -> None:
    before, last = NOON - 86400, NOON - 86400 - 60

    assert ledger.schedules.look("app", CRON, last, before) == last, "the server's clock was a day ahead"
    assert ledger.schedules.look("app", CRON, last - 60, last - 1) == last, "and is put back by a second"


def test_a_schedule_that_is_kept_no_more_begins_anew(ledger: Ledger) -> None:
    ledger.schedules.keep_only(["app", "other"])
    ledger._redis.set(ledger.keys.schedule("other"), "no hash")
    assert ledger.schedules.look("app", CRON, NOON + 60, NOON + 61) == NOON

    ledger.schedules.keep_only([])

    assert ledger.schedules.look("app", CRON, NOON + 60, NOON + 61) == NOON + 60


def test_a_run_that_overruns_is_not_started_twice_and_its_slots_are_recorded(ledger: Ledger) -> None:
    run = started(take(ledger, 1))

    assert take(ledger, 2) == take(ledger, 3) == Taken(run, is_started=False)
    report = ledger.schedules.report("app")
    assert (report.run, report.slot_s, report.missed) == (run, NOON + 180, 2)
    assert report.misses == (Miss(NOON + 120, NOON + 180, 2, "under way", run),)
    assert report.misses[0].reason == f"run {run} was under way"

    ledger.cancel_run(run)
    assert started(take(ledger, 4)) != run


def test_a_paused_run_is_under_way(ledger: Ledger) -> None:
    run = started(take(ledger, 1))
    ledger.pause_run(run, paused=True)

    assert take(ledger, 2) == Taken(run, is_started=False)


def test_a_backfill_that_somebody_began_is_not_started_beside_it(ledger: Ledger) -> None:
    theirs, _ = ledger.create_or_join_run(SPEC, "backfill")

    assert take(ledger, 1, lane="backfill") == Taken(theirs, is_started=False)
    assert len(ledger.runs()) == 1


def test_slots_while_no_beat_was_at_work_are_recorded_and_only_the_last_is_run(ledger: Ledger) -> None:
    run = started(take(ledger, 5, between=(1, 2, 3, 4)))

    report = ledger.schedules.report("app")
    assert [one.run for one in ledger.runs()] == [run]
    assert report.missed == 4
    assert report.misses == (Miss(NOON + 60, NOON + 240, 4, "no beat"),)


def test_only_the_last_misses_are_kept_and_all_are_counted(ledger: Ledger) -> None:
    for number in range(1, schedules.KEPT_MISSES + 3):
        run = started(take(ledger, 4 * number, between=(4 * number - 1,)))
        ledger.cancel_run(run)

    report = ledger.schedules.report("app")
    assert report.missed == schedules.KEPT_MISSES + 2
    assert report.misses[0].first_s == NOON + 60 * (4 * (schedules.KEPT_MISSES + 2) - 1)


def test_a_slot_whose_misses_cannot_be_written_begins_no_run(ledger: Ledger) -> None:
    misses = ledger.keys.misses("app")
    ledger._redis.set(misses, "no list")
    for _ in range(3):
        with pytest.raises(schedules.ScheduleRefused):
            take(ledger, 2, between=(1,))
    assert ledger.runs() == []

    ledger._redis.delete(misses)
    started(take(ledger, 2, between=(1,)))


def test_misses_of_different_reasons_are_kept_apart(ledger: Ledger) -> None:
    first = started(take(ledger, 1))
    take(ledger, 2)
    ledger.cancel_run(first)
    second = started(take(ledger, 4, between=(3,)))
    take(ledger, 5)

    assert [miss.run for miss in ledger.schedules.report("app").misses] == [second, "", first]


def test_what_is_kept_of_a_schedule_has_an_end(valkey: ValkeyServer, ledger: Ledger) -> None:
    take(ledger, 2, between=(1,))
    ledger.schedules.keep_only(["app"])

    with valkey.client() as client:
        for key in (ledger.keys.schedule("app"), ledger.keys.misses("app"), ledger.keys.scheduled):
            assert 0 < client.ttl(key) <= schedules.KEEP_S


def test_one_of_two_beats_sends_until_it_steps_down(two: tuple[Ledger, Ledger]) -> None:
    one, other = two
    assert one.schedules.beat_seen_s() is None

    now = one.schedules.lead()
    assert now
    assert abs(now - one.now()) < 5
    assert one.schedules.beat_seen_s() == pytest.approx(now, abs=1)
    assert other.schedules.lead() is None
    assert one.schedules.lead()

    other.schedules.step_down()
    assert other.schedules.lead() is None
    one.schedules.step_down()
    assert other.schedules.lead()
    assert one.schedules.lead() is None


def test_a_beat_that_says_nothing_any_more_loses_its_place(
    two: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, other = two
    monkeypatch.setattr(schedules, "LEAD_S", 0.3)
    assert silent.schedules.lead()

    until(other.schedules.lead, 10, "the place to be free")

    assert silent.schedules.lead() is None


def test_the_place_of_a_beat_that_died_on_this_machine_is_taken_at_once(ledger: Ledger) -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    ledger._redis.set(ledger.keys.beat, f"{socket.gethostname()} {process.pid} 00", px=60_000)

    assert ledger.schedules.lead()


def test_the_place_of_a_beat_that_lives_or_is_elsewhere_is_not_taken(ledger: Ledger) -> None:
    for holder in (f"{socket.gethostname()} {os.getpid()} 00", "elsewhere 1 00"):
        ledger._redis.set(ledger.keys.beat, holder, px=60_000)

        assert ledger.schedules.lead() is None
