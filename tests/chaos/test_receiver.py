"""The storm's receiver, told things by the product's own way of telling them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from config.fleet import Fleet
from config.notification import Receiver as Entry
from mirror.notices import Message
from tasks.receivers import NotReached, send
from tests.chaos.receiver import ALL, EVENTS, FEW, TROUBLE, Answer, Receiver

MESSAGE = Message("Sealift · news", f"What happened.\n{EVENTS}1-0 2-0", "info")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(seed=1) as one:
        yield one


def test_it_takes_messages_and_knows_what_they_are_made_of(receiver: Receiver) -> None:
    fleet = _fleet(receiver)
    send(fleet, fleet.notify[1], MESSAGE)

    assert [one.name for one in fleet.notify] == [ALL, FEW]
    assert receiver.of(ALL) == []
    (one,) = receiver.of(FEW)
    assert (one.title, one.events, one.is_answered) == (MESSAGE.title, ("1-0", "2-0"), True)


@pytest.mark.parametrize("trouble", TROUBLE)
def test_whatever_goes_wrong_its_sender_hears_of(
    receiver: Receiver, trouble: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = _fleet(receiver)
    monkeypatch.setattr(receiver, "answer", lambda: trouble)
    with pytest.raises(NotReached):
        send(fleet, fleet.notify[0], MESSAGE)

    assert [one.is_answered for one in receiver.of(ALL)] == ([False] if trouble == "answer lost" else [])


def _fleet(receiver: Receiver) -> Fleet:
    return Fleet(notify=tuple(Entry.model_validate(entry) for entry in receiver.entries()))
