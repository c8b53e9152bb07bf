"""Receivers are told what has happened: once, in few messages, late rather than never, and never a secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.fleet import Fleet, parse_fleet
from config.notification import Receiver
from config.problems import FleetError
from mirror.ledger import Ledger
from mirror.ledger.events import Event
from mirror.ledger.measured import Measurement
from mirror.ledger.receivers import Standing
from mirror.ledger.totals import Told
from mirror.notices import Message, trial
from tasks import canvas, notify, receivers
from tests.support.listening import Listener
from tests.support.valkey import ValkeyServer

ON = "mirrors: ['*']"


@dataclass
class Town:
    """A ledger, a receiver named ``team`` and what tells it."""

    ledger: Ledger
    listener: Listener
    more: str = ON
    settle_s: float = 0.0

    def fleet(self) -> Fleet:
        return parse_fleet(f"notify:\n  - {{name: team, to: '{self.listener.url}', {self.more}}}\n")

    @property
    def rt(self) -> Any:
        settings = SimpleNamespace(notify_settle_s=self.settle_s)
        return SimpleNamespace(ledger=self.ledger, settings=settings, fleet=self.fleet())

    @property
    def receiver(self) -> Receiver:
        return self.fleet().notify[0]

    @property
    def standing(self) -> Standing:
        found = self.ledger.receivers.standing("team")
        assert found
        return found

    def happens(self, number: int = 1, mirror: str = "app", reason: str = "no right to push") -> None:
        """A run of the mirror fails: each time another."""
        for _ in range(number):
            self.ledger._redis.delete(self.ledger.keys.failing(mirror))
            run = self.ledger.create_run(_spec(mirror), "release")
            self.ledger.fail_run(run, reason, "Denied")

    def turn(self) -> str:
        return notify.tell(self.rt, self.fleet(), self.receiver)

    def due(self) -> list[str]:
        return [one.name for one in notify.due(self.rt, self.fleet())]

    def counted(self) -> dict[tuple[str, str], int]:
        told = Told.parse(self.ledger._redis.hgetall(self.ledger.keys.totals))
        return {(one.labels["event"], one.labels["outcome"]): one.value for one in told.of("notifications")}

    def put(self, **changed: Any) -> None:
        """As time would."""
        before = self.standing
        assert self.ledger.receivers.put("team", before, replace(before, **changed), {})


def _spec(mirror: str) -> Any:
    from mirror.spec import MirrorSpec, Target

    return MirrorSpec(mirror, f"src.example/{mirror}", (Target(f"eu.example/{mirror}", "eu"),))


@pytest.fixture
def town(valkey: ValkeyServer) -> Iterator[Town]:
    with valkey.client() as client, Listener() as listener:
        town = Town(Ledger(client, "test:"), listener)
        town.ledger.totals.admit({"receiver": ["team"]})
        town.ledger.receivers.meet(["team"])
        yield town


def test_what_happens_is_told_once_with_what_to_do(town: Town) -> None:
    town.happens()
    assert town.due() == ["team"]
    assert town.turn() == "receiver team was told of 1 event"
    assert town.due() == []
    assert town.turn() == ""

    (message,) = town.listener.messages
    assert message["title"] == "Sealift · app: run failed"
    assert message["type"] == "failure"
    assert "no right to push" in message["message"]
    assert "`sealift retry " in message["message"]
    assert "docs/operations.md#sealiftfailureratio" in message["message"]
    assert town.counted() == {("failed", "sent"): 1}


def test_many_events_are_one_message(town: Town) -> None:
    town.happens(3)
    town.happens(2, "other")
    town.turn()

    (message,) = town.listener.messages
    assert message["title"] == "Sealift · 2 notices: app: 3 runs failed, …"
    assert "other: 2 runs failed" in message["message"]
    assert town.counted() == {("failed", "sent"): 5}


def test_events_are_gathered_for_a_while_first(town: Town) -> None:
    town.settle_s = 60.0
    town.happens()
    assert town.turn() == ""
    assert town.listener.messages == []
    town.settle_s = 0.0
    town.turn()
    assert len(town.listener.messages) == 1


def test_who_is_new_is_told_what_comes_and_not_what_was(valkey: ValkeyServer) -> None:
    with valkey.client() as client, Listener() as listener:
        town = Town(Ledger(client, "test:"), listener)
        town.happens()
        assert town.due() == []
        assert town.turn() == ""
        town.happens()
        town.turn()
        assert len(listener.messages) == 1
        assert "run failed" in listener.titles[0]


def test_a_receiver_is_told_only_what_it_asked_for(town: Town) -> None:
    town.more = "on: [conflict, failed], mirrors: ['app-*']"
    town.happens(1, "other")
    town.ledger.events.no_workers("eu", ["app-one"])
    town.turn()
    assert town.listener.messages == []
    assert town.due() == [], "what is not for it is over, too"

    town.happens(1, "app-one")
    town.turn()
    assert town.listener.titles == ["Sealift · app-one: run failed"]


def test_what_is_of_no_mirror_is_told_whatever_mirrors_are_chosen(town: Town) -> None:
    town.more = "mirrors: [none]"
    for number in range(3):
        one = Measurement("eu", "a.example", town.ledger.now() + number, up=not number)
        town.ledger.probes.record(one, f"probe {number}")
    town.turn()
    assert town.listener.titles == ["Sealift · a.example: down"]


def test_of_a_region_without_workers_all_are_told_whose_mirrors_need_it_and_no_others(town: Town) -> None:
    town.more = "mirrors: [base]"
    town.ledger.events.no_workers("eu", ["app", "base"])
    town.ledger.events.no_workers("us", ["app", "other"])
    town.turn()
    assert town.listener.titles == ["Sealift · eu: no worker"]


def test_a_receiver_that_is_away_is_told_when_it_is_back(town: Town) -> None:
    town.listener.stop()
    town.happens()
    assert town.turn().startswith("receiver team is not reached: ")
    first = town.standing
    assert (first.tries, first.error) == (
        1,
        "A Connection error occurred sending JSON notification to 127.0.0.1.",
    )
    assert first.failing_s > 0
    assert first.next_s == pytest.approx(first.failing_s + notify.FIRST_PAUSE_S, abs=1)
    assert town.due() == []
    assert town.turn() == "", "not before its pause is over"

    town.put(next_s=0.0)
    town.turn()
    second = town.standing
    assert second.tries == 2
    assert second.failing_s == first.failing_s
    assert second.next_s - town.ledger.now() == pytest.approx(2 * notify.FIRST_PAUSE_S, abs=1)

    town.happens()
    town.listener.start()
    town.put(next_s=0.0)
    town.turn()
    assert town.listener.titles == ["Sealift · app: 2 runs failed"]
    assert town.standing.failing_s == 0
    assert town.counted() == {("failed", "failed"): 2, ("failed", "sent"): 2}


@pytest.mark.parametrize("status", [302, 403, 500])
def test_an_answer_that_is_none_is_a_failure_and_a_redirect_is_not_followed(town: Town, status: int) -> None:
    with Listener() as elsewhere:
        town.listener.status = status
        town.listener.location = f"http://127.0.0.1:{elsewhere.port}/"
        town.happens()
        assert "is not reached" in town.turn()
        assert town.standing.tries == 1
        assert elsewhere.messages == []
    assert len(town.listener.messages) == 1, "Apprise itself tries nothing twice"


def test_a_receiver_that_never_answers_is_given_up_in_time(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receivers, "READ_S", 0.3)
    town.listener.hangs = threading.Event()
    town.happens()
    assert "is not reached" in town.turn()


def test_whatever_takes_longest_there_is_an_end(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers, "SEND_S", 0.3)
    town.listener.hangs = threading.Event()
    town.happens()
    assert town.turn() == "receiver team is not reached: no answer within 0 s"


def test_more_than_so_many_messages_an_hour_wait_and_come_as_one(town: Town) -> None:
    town.more = "per_hour: 2"
    for _ in range(5):
        town.happens()
        town.turn()
    assert len(town.listener.messages) == 2
    assert "These were many messages: the next comes after" in town.listener.messages[1]["message"]
    held = town.standing
    assert held.is_held
    assert held.next_s == pytest.approx(held.sent[0] + 3600)
    assert town.due() == []

    town.put(next_s=0.0, sent=tuple(at - 3600 for at in held.sent))
    town.turn()
    assert len(town.listener.messages) == 3
    assert "3 events were held back" in town.listener.messages[2]["message"]
    assert not town.standing.is_held
    assert town.counted() == {("failed", "sent"): 5}


def test_a_day_later_nobody_is_told_any_more(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    town.happens(2)
    monkeypatch.setattr(notify, "OLDEST_S", 0.0)
    town.turn()
    assert town.listener.messages == []
    assert town.counted() == {("failed", "dropped"): 2}
    assert town.due() == []


def test_what_was_lost_before_it_was_read_is_counted(town: Town) -> None:
    town.happens(4)
    town.ledger._redis.xtrim(town.ledger.keys.events, maxlen=1, approximate=False)
    town.turn()
    assert town.counted() == {("failed", "sent"): 1, ("lost", "dropped"): 3}


def test_whoever_is_killed_after_sending_has_the_same_sent_once_more_and_no_more_with_it(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def send_and_die(*words: Any) -> None:
        receivers.send(*words)
        raise Killed

    town.happens()
    with monkeypatch.context() as patched:
        patched.setattr(notify, "send", send_and_die)
        with pytest.raises(Killed):
            town.turn()
    town.happens(1, "other")
    town.turn()
    town.turn()

    first, again, rest = (one["message"] for one in town.listener.messages)
    assert again == f"This may have reached you before: whoever sent it was interrupted.\n\n{first}"
    assert "other" not in again
    assert rest.startswith("other: run failed")
    assert town.due() == []


def test_two_at_once_tell_once(town: Town) -> None:
    town.listener.hangs = threading.Event()
    town.happens()
    first = threading.Thread(target=town.turn)
    first.start()
    town.listener.await_messages(1)
    assert town.turn() == "", "the first has the lease"
    town.listener.hangs.set()
    first.join(30)
    assert town.turn() == ""
    assert len(town.listener.messages) == 1


def test_a_standing_that_somebody_has_moved_stays(town: Town) -> None:
    stale = town.standing
    town.put(tries=7)
    assert town.ledger.receivers.put("team", stale, replace(stale, tries=1), {}) is None
    assert town.standing.tries == 7


def test_receivers_that_are_gone_from_the_file_are_forgotten(town: Town) -> None:
    town.ledger.receivers.meet(["other"])
    town.ledger.receivers.keep_only(["other"])
    assert set(town.ledger.receivers.standings()) == {"other"}


def test_nothing_that_registries_say_acts_at_a_receiver(town: Town) -> None:
    bad = (
        "\x1b[31m@everyone <!channel> [click](https://evil.example/x) \u202egnp.exe\x00\n\n# title **b** `x`"
    )
    town.happens(reason=bad)
    town.turn()
    body = town.listener.messages[0]["message"]
    for active in ("\x1b", "\x00", "\u202e", "@everyone", "<!channel>", "](", "://evil", "\n# title", "**"):
        assert active not in body, active
    assert "(at)everyone" in body


def test_long_texts_are_cut(town: Town) -> None:
    town.happens(reason="x" * 100_000)
    town.turn()
    assert len(town.listener.messages[0]["message"]) < 1000


SECRET = "s3cr3t-t0ken-4711"


@pytest.mark.parametrize("url", ["json://user:{0}@127.0.0.1:1/{0}", "jsons://127.0.0.1:1/{0}?+X-Token={0}"])
def test_no_part_of_an_address_is_in_what_is_said_of_a_failure(
    town: Town, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "address"
    file.write_text(url.format(SECRET) + "\n")
    fleet = parse_fleet(f"notify:\n  - {{name: team, to: 'file:{file}'}}\n")
    town.happens()
    said = notify.tell(town.rt, fleet, fleet.notify[0])
    assert "is not reached" in said
    for text in (said, caplog.text, repr(town.standing), repr(fleet)):
        assert SECRET not in text


def test_what_apprise_says_loses_every_part_of_a_secret_address() -> None:
    fleet = parse_fleet("notify:\n  - {name: team, to: 'env:T'}\n  - {name: b, to: 'json://h.example'}\n")
    secret, plain = fleet.notify
    hide = receivers._without_secrets
    said = hide(
        "no answer of chat 4711 by to ken at h.example", secret, "tgram://by%20to%20ken/4711?x=h.example"
    )
    assert said == "no answer of chat … … … … at …"
    assert hide("no answer of h.example", plain, plain.to) == "no answer of h.example"


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("no chat ABC-def/9", "no chat …/…"),
        ("no chat abc-DEF%2f9", "no chat …/…"),
        ("no chat ABC%2DDEF%252F9, error=19", "no chat …/…, error=19"),
        ("H.Example does not answer bot 42:xY", "… does not answer bot …:…"),
        ("xyz is no xy", "xyz is no …"),
        ("a tgram message: %C3%84RGER", "a tgram message: …"),
    ],
)
def test_parts_of_a_secret_address_are_hidden_in_any_case_and_encoding_and_however_short(
    said: str, left: str
) -> None:
    receiver = parse_fleet("notify:\n  - {name: team, to: 'env:T'}\n").notify[0]
    url = "tgram://42:xY@h.example/Abc%2dDef%2F9/?x=%c3%a4rger"
    assert receivers._without_secrets(said, receiver, url) == left


@pytest.mark.timeout(60)
def test_what_was_encoded_without_end_is_not_shown_and_holds_nobody_up() -> None:
    receiver = parse_fleet("notify:\n  - {name: team, to: 'env:T'}\n").notify[0]
    said = f"no answer of %{'25' * 500_000}41bc"
    assert receivers._without_secrets(said, receiver, "json://h.example/Abc") == "it was refused"


LONG = [f"line {number} of what is told" for number in range(300)]


@pytest.mark.parametrize("more", ["", "?overflow=upstream", "?overflow=split"])
def test_a_message_that_is_too_long_for_a_service_comes_in_parts(
    more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Services refuse what is too long: Mattermost takes 4,000 characters."""
    with Listener() as listener:
        monkeypatch.setenv("TEAM_URL", f"mmost://127.0.0.1:{listener.port}/{'a' * 26}{more}")
        fleet = parse_fleet("notify:\n  - {name: team, to: 'env:TEAM_URL'}\n")
        receivers.send(fleet, fleet.notify[0], Message("Sealift · much", "\n".join(LONG), "info"))
        texts = [str(one["text"]) for one in listener.messages]
    assert max(map(len, texts)) <= 4000
    assert [line for line in LONG if not any(line in text for text in texts)] == []


def test_an_address_may_have_what_is_too_long_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    with Listener() as listener:
        monkeypatch.setenv("TEAM_URL", f"mmost://127.0.0.1:{listener.port}/{'a' * 26}?overflow=truncate")
        fleet = parse_fleet("notify:\n  - {name: team, to: 'env:TEAM_URL'}\n")
        receivers.send(fleet, fleet.notify[0], Message("Sealift · much", "\n".join(LONG), "info"))
        (one,) = listener.messages
    assert len(one["text"]) <= 4000


@pytest.mark.parametrize("url", ["nosuch://{0}/x", "{0}", "slack://{0}"])
def test_an_address_that_is_none_is_one_line_without_it(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TEAM_URL", url.format(SECRET))
    fleet = parse_fleet("notify:\n  - {name: team, to: 'env:TEAM_URL'}\n")
    with pytest.raises(FleetError) as told:
        receivers.send(fleet, fleet.notify[0], trial("team"))
    assert str(told.value).startswith(
        "sealift.yaml:2: notify[0].to: what env:TEAM_URL holds is no address that Apprise can use; see "
    )
    assert SECRET not in str(told.value) + caplog.text


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEAM_URL", raising=False)
    fleet = parse_fleet("notify:\n  - {name: team, to: 'env:TEAM_URL'}\n")
    with pytest.raises(FleetError, match="environment variable TEAM_URL is not set; export it"):
        receivers.check(fleet, fleet.notify[0])


def test_an_address_has_no_say_in_how_often_and_how_long_it_is_tried(tmp_path: Path) -> None:
    with Listener(status=500) as listener:
        file = tmp_path / "address"
        file.write_text(f"{listener.url}?retry=5&wait=0&rto=9000&cto=9000&redirect=yes&optional=yes")
        fleet = parse_fleet(f"notify:\n  - {{name: team, to: 'file:{file}'}}\n")
        channel: Any = receivers._opened(fleet, fleet.notify[0], file.read_text())
        assert channel.request_timeout == (receivers.CONNECT_S, receivers.READ_S)
        with pytest.raises(receivers.NotReached):
            receivers.send(fleet, fleet.notify[0], trial("team"))
        assert len(listener.messages) == 1


@pytest.mark.parametrize(
    ("form", "shown"),
    [("text", "& __more__"), ("markdown", "& \\_\\_more\\_\\_"), ("html", "&amp;&nbsp;__more__")],
)
def test_messages_are_text_to_every_receiver(form: str, shown: str, tmp_path: Path, town: Town) -> None:
    """One that shows markup is given what it shows as that text."""
    file = tmp_path / "address"
    file.write_text(f"{town.listener.url}?format={form}")
    fleet = parse_fleet(f"notify:\n  - {{name: team, to: 'file:{file}'}}\n")
    town.happens(reason="a <b>bold</b> [link](x) & __more__")
    notify.tell(town.rt, fleet, fleet.notify[0])
    body = town.listener.messages[0]["message"]
    assert shown in body
    assert "<b>" not in body
    assert "](" not in body


def test_the_sweeper_sends_a_task_for_each_receiver_that_has_something_to_hear(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(canvas, "send_notify", sent.append)
    notify.send_due(town.rt)
    assert sent == []
    town.happens()
    notify.send_due(town.rt)
    assert sent == ["team"]


def test_without_receivers_nothing_is_asked() -> None:
    rt: Any = SimpleNamespace(fleet=Fleet())
    notify.send_due(rt)


def test_an_event_of_a_newer_version_is_told_all_the_same(town: Town) -> None:
    event = Event("1-0", time.time(), 1, "something_new", "app", {})
    assert notify.takes(town.receiver, event)
    from mirror.notices import message

    assert message([event]).title == "Sealift · app: news"
