"""Task events travel in bundles, and none is lost when a worker ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery

from workers import events

TASKS = 3


class Sent:
    """What a dispatcher published, and what the event loop is to call later."""

    def __init__(self) -> None:
        self.messages: list[Any] = []
        self.later: list[tuple[float, Callable[[], None]]] = []

    def publish(self, event: Any, *_: object, **__: object) -> None:
        self.messages.append(event)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.later.append((delay, callback))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    made = Sent()
    monkeypatch.setattr(events, "get_event_loop", lambda: made)
    monkeypatch.setattr(events.Dispatcher, "_publish", lambda _, *words, **__: made.publish(*words))
    return made


def dispatcher() -> events.Dispatcher:
    app = Celery("test", broker="memory://", events="workers.events:Events", set_as_current=False)
    made = app.events.Dispatcher(
        app.connection_for_write(), buffer_group=["task"], on_send_buffered=SimpleNamespace
    )
    assert isinstance(made, events.Dispatcher)
    return made


def test_the_events_of_several_tasks_are_one_message(sent: Sent) -> None:
    bundling = dispatcher()
    for number in range(TASKS):
        bundling.send("task-received", uuid=str(number))
    assert (sent.messages, [delay for delay, _ in sent.later]) == ([], [events.BUNDLE_S])

    sent.later[0][1]()
    (bundle,) = sent.messages
    assert [event["uuid"] for event in bundle] == [str(number) for number in range(TASKS)]

    bundling.send("task-succeeded", uuid="0")
    assert len(sent.later) == TASKS - 1, "the next bundle has a time of its own"


def test_what_is_left_is_sent_when_a_worker_ends(sent: Sent) -> None:
    ending = dispatcher()
    ending.send("task-succeeded", uuid="0")

    ending.close()

    assert [event["uuid"] for event in sent.messages[0]] == ["0"]


def test_a_worker_that_lost_its_connection_goes_on(sent: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object, **__: object) -> None:
        raise ConnectionError

    cut_off = dispatcher()
    cut_off.send("task-succeeded", uuid="0")
    with monkeypatch.context() as away:
        away.setattr(events.Dispatcher, "_publish", gone)
        sent.later[0][1]()
    cut_off.send("task-succeeded", uuid="1")
    sent.later[1][1]()

    assert [event["uuid"] for event in sent.messages[0]] == ["0", "1"]
