"""A fleet tells what happens: once, unless somebody is killed just then; later, if the receiver is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.fleet import load_fleet
from mirror.ledger.receivers import Standing
from mirror.spec import MirrorSpec
from registry.images import build_image, build_index
from tasks.terms import spec_of
from tests.support.fleet import Fleet, made
from tests.support.listening import Listener
from tests.support.ports import free_fixed_port
from tests.support.pushing import push
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

ONE, TWO = (build_index([build_image({"motd": text})]) for text in (b"one", b"two"))
FILE = """\
mirrors:
  - {{name: app, mode: two_way, targets: ["{us}/app", "{eu}/app"]}}
  - {{name: gone, source: "127.0.0.1:1/none", targets: ["{eu}/none"]}}
notify:
  - {{name: team, to: "{url}"}}
"""
SETTINGS = {"SEALIFT_NOTIFY_SETTLE_S": "0", "SEALIFT_OUTAGE_S": "0", "SEALIFT_ATTEMPTS": "1"}


@dataclass(frozen=True, slots=True)
class Town:
    fleet: Fleet
    us: DockerRegistry
    eu: DockerRegistry
    listener: Listener
    app: MirrorSpec
    gone: MirrorSpec

    def conflict(self, tag: str) -> None:
        push(f"{self.us.host}/app", ONE, tag)
        push(f"{self.eu.host}/app", TWO, tag)
        assert self.fleet.run(self.app).states["held"] >= 1

    def standing(self) -> Standing:
        found = self.fleet.ledger.receivers.standing("team")
        assert found
        return found

    def is_told(self) -> bool:
        """Of everything, with nothing under way."""
        standing = self.standing()
        return standing.cursor == self.fleet.ledger.receivers.last_event() and not standing.until

    def await_told(self) -> None:
        until(self.is_told, 60, lambda: f"{self.standing()}\n{self.fleet.logs()}")


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        us, eu = (stack.enter_context(DockerRegistry(made(folder / name))) for name in ("us", "eu"))
        listener = stack.enter_context(Listener(free_fixed_port()))
        file: Path = made(folder / "fleet") / "sealift.yaml"
        file.write_text(FILE.format(us=us.host, eu=eu.host, url=listener.url))
        written = load_fleet(file)
        fleet = stack.enter_context(Fleet(folder / "fleet", ("local",), settings=SETTINGS))
        app, gone = (spec_of(mirror, written) for mirror in written.mirrors)
        yield Town(fleet, us, eu, listener, app, gone)


def test_a_conflict_is_one_message_however_often_it_is_seen(town: Town) -> None:
    town.conflict("v1")
    town.await_told()
    assert town.fleet.run(town.app).states == {"held": 1}
    town.await_told()

    (message,) = town.listener.messages
    assert message["title"] == "Sealift · app: conflict"
    assert "1 tag (v1): not the same on all sides" in message["message"]
    assert "`sealift conflicts app`" in message["message"]


def test_a_receiver_that_was_away_is_told_when_it_is_back(town: Town) -> None:
    before = len(town.listener.messages)
    town.listener.stop()
    run = town.fleet.run(town.gone)
    assert run.state == "failed"
    until(lambda: town.standing().tries > 0, 60, town.fleet.logs)
    assert "not reached since" in town.fleet.sealift("notify").stdout

    town.listener.start()
    town.await_told()
    (message,) = town.listener.messages[before:]
    assert message["title"] == "Sealift · gone: run failed"
    assert run.run in message["message"]
    assert town.standing().failing_s == 0


def test_without_any_worker_the_beat_tells(town: Town) -> None:
    before = len(town.listener.messages)
    town.fleet.workers["local"].stop()  # it says that it leaves: nobody has to wait until it is missed
    ledger = town.fleet.ledger
    until(lambda: not ledger.workers.live_regions(), 90, town.fleet.logs)
    ledger.events.no_workers("local", ["app"])
    town.await_told()
    assert town.listener.titles[before:] == ["Sealift · local: no worker"]

    town.fleet.start("local")
    town.fleet.await_ready(["local"])


def test_a_worker_that_is_killed_while_it_tells_has_it_told_once_more(town: Town) -> None:
    before = len(town.listener.messages)
    town.listener.hangs = threading.Event()
    town.conflict("v2")
    town.listener.await_messages(before + 1)
    town.fleet.kill("local")
    town.listener.hangs.set()
    town.fleet.start("local")
    town.fleet.await_ready(["local"])
    town.await_told()

    first, again = (one["message"] for one in town.listener.messages[before:])
    assert again == f"This may have reached you before: whoever sent it was interrupted.\n\n{first}"
