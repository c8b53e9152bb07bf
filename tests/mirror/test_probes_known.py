"""Probes in the ledger: what is known of each registry from each region, and when it was down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mirror.ledger import Ledger
from mirror.ledger.probes import Change, Incident, Measurement, Reach, best_first
from tests.support.valkey import ValkeyServer

HOST = "one.example"


def about(at_s: float) -> Any:
    return pytest.approx(at_s, abs=0.01)


@dataclass
class Rig:
    """Measurements of the past, since the server's clock is nobody's to move."""

    ledger: Ledger
    now: float
    count: int = 0

    def probe(
        self, ago_s: float, *, up: bool = True, region: str = "eu", host: str = HOST, **known: float
    ) -> str:
        self.count += 1
        error = "" if up else "one.example: cannot be reached"
        one = Measurement(region, host, self.now - ago_s, up, error=error, **known)  # type: ignore[arg-type]  # times alone
        return self.ledger.probes.record(one, f"probe {self.count}")

    def reach(self, region: str = "eu", host: str = HOST) -> Reach:
        return self.ledger.probes.latest([(region, host)])[0]


@pytest.fixture
def rig(valkey: ValkeyServer) -> Iterator[Rig]:
    with valkey.client() as client:
        ledger = Ledger(client, "test:")
        yield Rig(ledger, ledger.now())


def test_a_measurement_reads_as_it_was_taken(rig: Rig) -> None:
    timed = {"hello_s": 0.01, "token_s": 0.02, "head_s": 0.03, "first_byte_s": 0.04}
    words = {"error": "the blob: 404", "repository": f"{HOST}/app"}
    one = Measurement("eu", HOST, rig.now, up=True, **timed, bytes_per_second=5e6, **words)  # type: ignore[arg-type]  # each its own
    assert rig.ledger.probes.latest([("eu", HOST)]) == [Reach("eu", HOST)]

    assert rig.ledger.probes.record(one, "one") == ""

    known = rig.reach()
    assert known == Reach("eu", HOST, one, None, "", 0.03, 5e6, fresh=True, was_up=True)
    assert (known.standing, known.latency_s, known.bytes_per_second) == ("up", 0.03, 5e6)
    assert rig.ledger.probes.latest() == [known]


def test_a_registry_is_down_after_two_failed_probes_in_a_row_and_that_is_told_once(rig: Rig) -> None:
    rig.probe(400)
    assert rig.probe(300, up=False) == ""
    assert rig.reach().standing == "unknown", "one may be an accident"

    assert rig.probe(200, up=False) == "registry_down"
    assert rig.probe(100, up=False) == ""

    assert rig.reach().standing == "down"
    assert rig.reach().down_since == about(rig.now - 300), "since the first"
    assert [change.kind for change in rig.ledger.probes.changes()] == ["registry_down"]
    (incident,) = rig.ledger.probes.incidents()
    assert (incident.down_s, incident.up_s) == (about(rig.now - 300), None)
    assert incident.reason == "one.example: cannot be reached"


def test_a_registry_that_comes_back_ends_the_incident_and_that_is_told_once(rig: Rig) -> None:
    rig.probe(500)
    for ago_s in (400, 300):
        rig.probe(ago_s, up=False)

    assert rig.probe(200) == "registry_back"
    assert rig.probe(100) == ""

    assert rig.reach().standing == "up"
    assert [change.kind for change in rig.ledger.probes.changes()] == ["registry_back", "registry_down"]
    assert [(one.name, one.more["region"]) for one in rig.ledger.events.recent(9)] == [
        ("registry_back", "eu"),
        ("registry_down", "eu"),
    ]
    (incident,) = rig.ledger.probes.incidents()
    assert incident == Incident(
        "eu",
        HOST,
        about(rig.now - 400),
        about(rig.now - 200),
        "one.example: cannot be reached",
        about(rig.now - 200),
    )


def test_failures_with_a_success_in_between_are_no_outage(rig: Rig) -> None:
    told = [rig.probe(500 - 100 * at, up=bool(at % 2)) for at in range(5)]
    assert told == [""] * 5
    assert rig.ledger.probes.incidents() == []


def test_a_change_says_from_where_else_the_registry_is_down(rig: Rig) -> None:
    for region in ("us", "ap", "eu"):
        rig.probe(400, region=region)
    for ago_s in (300, 200):
        rig.probe(ago_s, up=False, region="ap")
    for ago_s in (300, 200):
        rig.probe(ago_s, up=False)

    change = rig.ledger.probes.changes()[0]
    assert (change.region, change.down_in, change.up_in) == ("eu", ("ap", "eu"), ("us",))


def test_a_probe_that_is_told_of_twice_or_too_late_changes_nothing(rig: Rig) -> None:
    late = Measurement("eu", HOST, rig.now - 200, up=False)
    rig.ledger.probes.record(replace(late, at=rig.now - 100, up=True), "second")
    before = rig.ledger.probes.availability([("eu", HOST)]), rig.reach()

    rig.ledger.probes.record(replace(late, at=rig.now - 50), "second")
    rig.ledger.probes.record(late, "first")

    assert (rig.ledger.probes.availability([("eu", HOST)]), rig.reach()) == before
    assert rig.ledger.probes.is_recorded("eu", HOST, "second")
    assert not rig.ledger.probes.is_recorded("eu", HOST, "first")


def test_what_was_measured_by_a_clock_that_was_ahead_blocks_nothing(rig: Rig) -> None:
    rig.probe(-7200)

    rig.probe(0, up=False)

    assert rig.reach().standing == "unknown"


def test_what_was_measured_long_ago_is_not_gone_by(rig: Rig) -> None:
    rig.ledger.probes.record(Measurement("eu", HOST, rig.now, up=True), "one", fresh_s=-1.0)

    assert rig.reach().standing == "unknown"
    assert rig.reach().last is not None


def test_registries_are_ordered_by_what_is_up_and_then_by_speed(rig: Rig) -> None:
    rig.probe(100, host="far.example", head_s=0.2, bytes_per_second=2e6)
    rig.probe(100, host="near.example", head_s=0.01, bytes_per_second=9e6)
    rig.probe(100, host="unread.example", head_s=0.001)
    rig.probe(100, host="unread-slow.example", head_s=0.5)
    for ago_s in (200, 100):
        rig.probe(ago_s, up=False, host="down.example")
    hosts = [
        "down.example",
        "never.example",
        "unread-slow.example",
        "unread.example",
        "far.example",
        "near.example",
    ]

    order = best_first(rig.ledger.probes.latest([("eu", host) for host in hosts]))

    assert [one.host for one in order] == [
        "near.example",
        "far.example",
        "unread.example",
        "unread-slow.example",
        "never.example",
        "down.example",
    ]
    assert [one.standing for one in order[-2:]] == ["unknown", "down"]
    elsewhere = rig.ledger.probes.latest([("us", host) for host in hosts])
    assert {one.standing for one in elsewhere} == {"unknown"}, "another region's"


def test_one_slow_probe_changes_no_order(rig: Rig) -> None:
    for ago_s in (500, 400, 300, 200):
        rig.probe(ago_s, head_s=0.01, bytes_per_second=9e6)
    rig.probe(100, head_s=3.0, bytes_per_second=1e5)

    assert (rig.reach().latency_s, rig.reach().bytes_per_second) == (0.01, 9e6)
    assert best_first([Reach("eu", "other.example"), rig.reach()])[0].host == HOST


def test_availability_is_counted_by_the_hour_for_a_day_and_by_the_day_for_a_month(rig: Rig) -> None:
    hours = [hour for day in range(40, 0, -1) for hour in (day * 24.0, day * 24.0 - 12.0)]
    for count, hour in enumerate(hours):
        rig.probe(hour * 3600, up=count % 4 != 0, head_s=0.01, bytes_per_second=1e6)
    for ago_s in (7200, 3600, 1):
        rig.probe(ago_s, up=ago_s != 3600, head_s=0.03)

    (known,) = rig.ledger.probes.availability([("eu", HOST)])

    assert known.day_share is not None
    assert 0.5 < known.day_share < 1.0
    assert len(known.days) == 30
    today = known.days[-1:]
    assert [one.began_s for one in today] == [rig.now // 86400 * 86400]
    assert {one.share for one in known.days[:-2]} == {0.5, 1.0}
    assert all(one.latency_s == 0.01 for one in known.days[:-2])
    assert len(known.hours) <= 25
    assert [one.latency_s for one in known.hours[-1:]] == [0.03]
    assert known.hours == tuple(sorted(known.hours, key=lambda one: one.began_s))


def test_what_is_never_probed_has_no_availability(rig: Rig) -> None:
    (known,) = rig.ledger.probes.availability([("eu", HOST)])
    assert (known.day_share, known.hours, known.days) == (None, (), ())
    assert rig.ledger.probes.availability([]) == []


def test_a_month_of_probes_every_five_minutes_is_bounded_and_expires(rig: Rig) -> None:
    month = 30 * 86400
    for ago_s in range(month, 0, -300 * 7):
        rig.probe(ago_s, head_s=0.123456789, bytes_per_second=123_456_789.0)
    client, keys = rig.ledger._redis, rig.ledger.keys

    key = keys.probes("eu", HOST)
    names = [name.decode() for name in client.hkeys(key)]
    assert sum(name[0] == "d" and name[1:].isdigit() for name in names) == 30
    assert sum(name[0] == "h" and name[1:].isdigit() for name in names) <= 25
    assert len(client.hget(key, "samples").split(b"\n")) == 60
    assert client.memory_usage(key, samples=0) < 10_000
    for name in (key, keys.seen_from(HOST)):
        assert 0 < client.ttl(name) <= 31 * 86400


def test_changes_are_bounded_and_those_older_than_a_month_are_not_told(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.ledger.probes.MOST_CHANGES", 4)
    rig.probe(33 * 86400)
    rig.probe(32 * 86400, up=False)
    rig.probe(31 * 86400, up=False)
    rig.probe(30 * 86400 + 60)
    assert rig.ledger.probes.changes() == []
    for ago_s in range(9000, 0, -900):
        rig.probe(ago_s, up=False)
        rig.probe(ago_s - 300, up=False)
        rig.probe(ago_s - 600)

    assert len(rig.ledger.probes.changes()) == 4
    assert len(rig.ledger.probes.incidents()) == 2
    assert len(rig.ledger.probes.incidents(limit=1)) == 1
    assert rig.ledger._redis.llen(rig.ledger.keys.outages) == 4


def test_an_outage_that_goes_on_is_an_incident_whatever_came_after_it(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.ledger.probes.MOST_CHANGES", 2)
    rig.probe(9100, host="lost.example")
    rig.probe(9100)
    for ago_s in (9000, 8900):
        rig.probe(ago_s, up=False, host="lost.example")
    for ago_s in (800, 700):
        rig.probe(ago_s, up=False)
    rig.probe(600)

    assert [one.host for one in rig.ledger.probes.incidents()] == [HOST, "lost.example"]


def test_a_slot_is_sent_once_and_a_clock_that_was_ahead_blocks_none(rig: Rig) -> None:
    probes, slot, now = rig.ledger.probes, int(rig.now), rig.now
    assert probes.send_slot("eu", slot + 7200, now + 7200, 600)

    assert probes.send_slot("eu", slot, now, 600)
    assert probes.begin_slot("eu", slot)
    assert not probes.send_slot("eu", slot, now, 600)
    assert not probes.send_slot("eu", slot - 60, now, 600)
    assert probes.send_slot("eu", slot + 30, now + 30, 600)
    assert probes.send_slot("us", slot, now, 600), "each region has its own"


def test_a_pass_that_waits_to_be_begun_keeps_the_next_back_until_it_must_be_lost(rig: Rig) -> None:
    probes, slot, now = rig.ledger.probes, int(rig.now), rig.now
    assert probes.send_slot("eu", slot, now, 600)

    assert not probes.send_slot("eu", slot + 60, now + 60, 600)
    assert probes.send_slot("eu", slot + 660, now + 660, 600)

    assert probes.begin_slot("eu", slot + 660)
    assert probes.begin_slot("eu", slot + 660), "a worker that was killed has it begun again"
    assert not probes.begin_slot("eu", slot), "its message came late"


def test_of_passes_that_waited_for_a_busy_worker_the_first_probes_for_all(rig: Rig) -> None:
    probes, slot, now = rig.ledger.probes, int(rig.now), rig.now
    for later in (0, 61, 122, 183):
        assert probes.send_slot("eu", slot + later, now + later, 60)

    assert probes.begin_slot("eu", slot), "it would be overtaken for as long as the worker is busy"
    assert not probes.begin_slot("eu", slot + 61)
    assert not probes.begin_slot("eu", slot + 122)
    assert probes.send_slot("eu", slot + 240, now + 240, 60)


def test_what_is_probed_no_more_is_forgotten(rig: Rig) -> None:
    for host in (HOST, "old.example"):
        rig.probe(300, host=host)
        for ago_s in (200, 100):
            rig.probe(ago_s, up=False, host=host)
    rig.probe(100, region="us", host="old.example")

    assert rig.ledger.probes.keep_only([("eu", HOST), ("us", "old.example")]) == 1

    assert rig.ledger.probes.places() == [("eu", HOST), ("us", "old.example")]
    assert [one.host for one in rig.ledger.probes.incidents()] == [HOST]
    assert rig.reach(host="old.example").last is None
    assert rig.ledger._redis.hkeys(rig.ledger.keys.seen_from("old.example")) == [b"us"]


def test_what_was_never_up_from_a_region_is_down_there_and_has_no_outage(rig: Rig) -> None:
    assert [rig.probe(ago_s, up=False) for ago_s in (300, 200)] == ["", ""]
    assert (rig.reach().standing, rig.reach().was_up) == ("down", False)
    assert rig.ledger.probes.incidents() == []

    assert rig.probe(100) == ""

    assert rig.ledger.probes.changes() == []
    assert (rig.reach().standing, rig.reach().was_up) == ("up", True)


def test_a_change_reads_as_it_was_told(rig: Rig) -> None:
    rig.probe(300)
    for ago_s in (200, 100):
        rig.probe(ago_s, up=False)

    (change,) = rig.ledger.probes.changes()

    assert change == Change(
        "registry_down",
        about(rig.now - 100),
        "eu",
        HOST,
        about(rig.now - 200),
        "one.example: cannot be reached",
        ("eu",),
        (),
    )
