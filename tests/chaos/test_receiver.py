"""The storm's receiver, told things by the product's own way of telling them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from config.fleet import Fleet, parse_fleet
from mirror.notices import Message
from tasks.receivers import NotReached, send
from tests.chaos.receiver import ALL, EVENTS, FEW, TROUBLE, Answer, Receiver

MESSAGE = Message("Sealift · news", f"What happened.\n{EVENTS}1-0 2-0", "info")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(seed=1) as one:
        yield one


@pytest.fixture
def fleet(receiver: Receiver, tmp_path: Path) -> Fleet:
    return parse_fleet(yaml.safe_dump({"notify": receiver.entries(tmp_path)}), tmp_path / "sealift.yaml")


def test_it_takes_messages_and_knows_what_they_are_made_of(fleet: Fleet, receiver: Receiver) -> None:
    send(fleet, fleet.notify[1], MESSAGE)

    assert [one.name for one in fleet.notify] == [ALL, FEW]
    assert receiver.of(ALL) == []
    (one,) = receiver.of(FEW)
    assert (one.title, one.events, one.is_answered) == (MESSAGE.title, ("1-0", "2-0"), True)


@pytest.mark.parametrize("trouble", TROUBLE)
def test_whatever_goes_wrong_its_sender_hears_of(
    fleet: Fleet, receiver: Receiver, trouble: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver, "answer", lambda: trouble)
    with pytest.raises(NotReached):
        send(fleet, fleet.notify[0], MESSAGE)

    assert [one.is_answered for one in receiver.of(ALL)] == ([False] if trouble == "answer lost" else [])
