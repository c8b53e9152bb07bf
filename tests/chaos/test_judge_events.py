"""Outages that nobody saw, events that nobody was told, and too much of both: planted, and found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from mirror.ledger import Ledger
from mirror.ledger.events import Event
from mirror.ledger.measured import Change, Measurement
from tests.chaos.judge_events import events_of, too_early, too_many, unbounded, unpaired, unseen, untold
from tests.chaos.outages import Outage, Outages
from tests.chaos.receiver import ALL, FEW, Received
from tests.support.valkey import ValkeyServer

HOST, REGION = "127.0.0.1:20001", "east"
PLACES = [(REGION, HOST)]
LONG = Outage(HOST, 100.0, 161.0)


def change(kind: Literal["registry_down", "registry_back"], at: float, host: str = HOST) -> Change:
    return Change(kind, at, REGION, host, at, "refused", (), ())


DOWN, BACK = change("registry_down", 110.0), change("registry_back", 170.0)


def test_a_long_outage_that_nobody_saw_is_found_and_a_short_one_may_be_missed() -> None:
    (violation,) = unseen([LONG], [], PLACES)

    assert violation == f"probes: {HOST} was away from 100.000 to 161.000, unseen from {REGION}"
    assert unseen([LONG], [change("registry_down", 110.0, "127.0.0.1:20002")], PLACES)
    assert unseen([LONG], [change("registry_down", 165.0)], PLACES)
    assert unseen([LONG], [DOWN, change("registry_back", 120.0)], PLACES)
    assert unseen([LONG], [DOWN, BACK], PLACES) == []
    assert unseen([LONG], [change("registry_down", 90.0)], PLACES) == [], "it was down already"
    assert unseen([replace(LONG, ended=110.0)], [], PLACES) == []


def test_a_registry_goes_down_and_comes_back_in_turns_and_is_back_at_the_end() -> None:
    assert unpaired([DOWN, BACK, replace(DOWN, at=180.0), replace(BACK, at=190.0)]) == []
    assert len(unpaired([DOWN, DOWN, BACK])) == 1
    assert len(unpaired([DOWN, BACK, BACK])) == 1
    assert len(unpaired([BACK])) == 1
    (violation,) = unpaired([DOWN, change("registry_back", 170.0, "127.0.0.1:20002"), DOWN])[-1:]
    assert violation.endswith("nobody was told that it is back")


def test_keys_of_probes_that_are_more_than_regions_and_registries_are_found(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path) as valkey, valkey.client() as client:
        ledger = Ledger(client)
        outages = Outages(ledger, [REGION], [HOST])
        assert not outages.are_known()
        for host, up in ((HOST, True), (HOST, False), ("127.0.0.1:20002", True)):
            one = Measurement(REGION, host, ledger.now(), up=up, error="" if up else "refused")
            ledger.probes.record(one, f"{host} {up}", failures=1)
        begun = outages.begin(HOST)
        assert (outages.are_known(), outages.is_seen(begun), outages.are_over()) == (True, True, False)
        assert [one.name for one in events_of(ledger)] == ["registry_down"]
        found = unbounded(client, ledger.keys, outages)
        client.hset(ledger.keys.probes(REGION, HOST), mapping={f"h{hour}": "1 0 - -" for hour in range(80)})
        assert unbounded(client, ledger.keys, Outages(ledger, [REGION], [HOST, "127.0.0.1:20002"]))

    assert found == [
        "probes: 2, and 1 at most",
        "seen-from: 2, and 1 at most",
        "probed: 2, and 1 at most",
    ]


def event(at: int) -> Event:
    return Event(f"{at}000-0", float(at), at, "failed", "app")


def message(at: float, *events: int, receiver: str = ALL, is_answered: bool = True) -> Received:
    return Received(receiver, at, "news", tuple(f"{one}000-0" for one in events), is_answered)


def test_an_event_that_is_in_no_message_is_found_whether_they_were_answered_or_not() -> None:
    messages = [message(13.0, 10), message(14.0, 11, is_answered=False)]

    assert untold([event(10), event(11)], messages) == []
    assert untold([event(10), event(12)], messages) == ["events: nobody was told of failed 12000-0, app"]


KNOWN = {f"{at}000-0" for at in (10, 11, 12, 13, 14)}


@pytest.mark.parametrize(
    ("messages", "is_too_many"),
    [
        pytest.param([message(20.0, 10), message(30.0, 11)], False, id="as many as wanted"),
        pytest.param([message(20.0, 10), message(30.0, 11), message(40.0, 12)], True, id="one more"),
        pytest.param([message(20.0, 10), message(30.0, 11), message(4000.0, 12)], False, id="hours apart"),
        pytest.param(
            [message(20.0, 10), message(25.0, 10), message(30.0, 11, 12)], False, id="one of them told again"
        ),
        pytest.param(
            [message(20.0, 10, is_answered=False), message(25.0, 10, 11), message(30.0, 12)],
            False,
            id="one of them without an answer",
        ),
        pytest.param(
            [message(20.0, 10), message(30.0, 99), message(40.0, 12)], False, id="one that Redis forgot"
        ),
    ],
)
def test_more_messages_in_an_hour_than_wanted_are_found(messages: list[Received], is_too_many: bool) -> None:  # noqa: FBT001
    assert bool(too_many(FEW, messages, KNOWN, most=2)) == is_too_many


def test_a_message_that_did_not_wait_for_others_is_found() -> None:
    assert too_early([message(12.0, 10, 11)]) == []
    assert too_early([message(11.5, 11)]) != []
