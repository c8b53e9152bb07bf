"""What is worth telling is written down with the change of state that it is about: once, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest

from config.notification import EventName
from mirror import decide
from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.ledger.budgets import Answered, Budgets, Wanted
from mirror.ledger.event_scripts import MOST_EVENTS, MOST_NAMES
from mirror.ledger.events import Event, Name
from mirror.ledger.measured import Measurement
from mirror.spec import TARGETS, Lane, MirrorSpec, Target, Verification
from registry.images import build_image
from registry.memory import ErrorReply, MemoryRegistry
from registry.ratelimits import RateLimits
from tests.support.budget import ADDRESS
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

ONE, TWO, THREE = (build_image({"app": text}) for text in (b"one", b"two", b"three"))


@dataclass
class World:
    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry

    @property
    def ledger(self) -> Ledger:
        return self.engine.ledger

    @property
    def spec(self) -> MirrorSpec:
        targets = (Target(f"{self.us.host}/app", "us"), Target(f"{self.eu.host}/app", "eu"))
        return MirrorSpec("app", f"{self.source.host}/app", targets)

    @property
    def two_way(self) -> MirrorSpec:
        return replace(self.spec, name="both", source=TARGETS, kind="two_way", two_way=True)

    def run(self, spec: MirrorSpec | None = None, lane: Lane = "release") -> Drive:
        return Drive(self.engine, spec or self.spec, lane=lane).to_end()

    def verify(self, **terms: Any) -> Drive:
        return self.run(replace(self.spec, kind="verify", verification=Verification(), **terms))

    def told(self) -> list[Event]:
        return self.ledger.events.recent(100)[::-1]

    def names(self) -> list[str]:
        return [one.name for one in self.told()]


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        yield World(engine, source, us, eu)


def _no_tags(method: str, path: str) -> None:
    """A target whose tags cannot be moved by anybody."""
    if method == "PUT" and "/manifests/" in path and "sha256" not in path:
        raise ErrorReply(400, "MANIFEST_INVALID", "not this one")


def _nothing(_method: str, _path: str) -> None:
    raise ErrorReply(403, "DENIED", "not you")


def test_a_fleet_file_may_name_every_event_and_no_other() -> None:
    assert get_args(EventName) == get_args(Name)


def test_a_run_that_went_well_is_not_worth_telling(world: World) -> None:
    world.source.hold("app", ONE, "1.0")
    assert world.run().report.state == "done"
    assert world.told() == []


def test_a_failed_run_is_told_with_how_many_tags_which_and_why(world: World) -> None:
    for number in range(MOST_NAMES + 2):
        world.source.hold("app", ONE, f"1.{number}")
    world.eu.on_request = _no_tags

    run = world.run().run

    (one,) = world.told()
    assert (one.name, one.mirror, one.more["run"]) == ("failed", "app", run)
    assert (one.more["count"], one.more["tags"]) == (7, 7)
    assert len(one.names) == MOST_NAMES
    assert set(one.names) < {f"1.{number}" for number in range(7)}
    assert f"{world.eu.host}/app" in one.more["reason"]


def test_the_same_failure_is_not_told_again_until_it_is_over_or_another(world: World) -> None:
    world.source.hold("app", ONE, "1.0")
    world.eu.on_request = _no_tags
    world.run()
    world.run()
    assert len(world.told()) == 1

    world.eu.on_request = None
    world.run()
    world.source.hold("app", TWO, "1.0")
    world.eu.on_request = _no_tags
    world.run()
    assert [one.more["count"] for one in world.told()] == [1, 1], "it was well in between"

    world.source.hold("app", TWO, "2.0")
    world.run()
    assert [one.more["count"] for one in world.told()] == [1, 1, 2], "one more tag fails: that is news"


def test_a_run_that_could_not_go_on_is_told_with_its_error(world: World) -> None:
    run = world.ledger.create_run(world.spec, "release")
    assert world.ledger.fail_run(run, "the source cannot be listed", "Unauthorized")
    assert not world.ledger.fail_run(run, "again", "Unauthorized")

    (one,) = world.told()
    assert (one.name, one.more["count"], one.more["reason"]) == ("failed", 0, "the source cannot be listed")
    assert one.more["names"] == []


def test_a_run_that_somebody_cancelled_is_not_worth_telling(world: World) -> None:
    world.ledger.cancel_run(world.ledger.create_run(world.spec, "backfill"))
    assert world.told() == []


def test_a_conflict_is_told_once_for_as_long_as_it_is_open(world: World) -> None:
    for side, image in ((world.us, ONE), (world.eu, TWO)):
        side.hold("app", image, "v1")
        side.hold("app", image, "v2")
    world.run(world.two_way)
    world.run(world.two_way)

    (one,) = world.told()
    assert (one.name, one.mirror, one.more["count"]) == ("conflict", "both", 2)
    assert sorted(one.names) == ["v1", "v2"]

    world.us.hold("app", ONE, "v3")
    world.eu.hold("app", TWO, "v3")
    world.run(world.two_way)
    assert [sorted(one.names) for one in world.told()] == [["v1", "v2"], ["v3"]]

    world.eu.hold("app", ONE, "v1")  # somebody made them equal
    world.run(world.two_way)
    world.eu.hold("app", TWO, "v1")
    world.us.hold("app", THREE, "v1")
    world.run(world.two_way)
    assert [sorted(one.names) for one in world.told()][2:] == [["v1"]], "a conflict that is new again"


def test_steps_that_are_taken_twice_tell_once(world: World) -> None:
    world.us.hold("app", ONE, "v1")
    world.eu.hold("app", TWO, "v1")
    drive = Drive(world.engine, world.two_way)
    for step in (drive.resolve, drive.land, drive.finalize, drive.flip, drive.conclude):
        step()
        step()
    assert world.names() == ["conflict"]


def test_a_tag_that_is_split_is_told_by_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decide, "ROLL_PAUSE_S", 0.0)
    world.source.hold("app", ONE, "1.0")
    world.eu.on_request = _no_tags
    with MemoryRegistry(deletes=False) as us:
        spec = replace(world.spec, targets=(Target(f"{us.host}/app", "us"), world.spec.targets[1]))
        world.run(spec)
        world.run(spec)

    split = [one for one in world.told() if one.name == "split"]
    assert [one.names for one in split] == [("1.0",)]


def test_a_backfill_that_is_done_is_told_and_an_idle_one_once_a_day(world: World) -> None:
    world.source.hold("app", ONE, "1.0")
    world.run(lane="backfill")
    world.run(lane="backfill")
    world.run(lane="backfill")
    world.source.hold("app", TWO, "1.0")
    world.run(lane="backfill")

    assert world.names() == ["backfill_done"] * 3
    assert [one.more["count"] for one in world.told()] == [1, 0, 1]


def test_damage_is_told_when_it_is_found_and_when_it_is_repaired(world: World) -> None:
    world.source.hold("app", ONE, "1.0")
    world.run()
    world.verify()
    assert world.told() == []

    world.eu.hold("app", TWO, "1.0")  # moved by hand
    world.verify()
    world.verify()
    assert world.names() == ["damage"]
    assert world.told()[0].names == ("1.0",)

    repair = replace(world.spec, kind="repair", verification=Verification(), refs=(("1.0", "1.0"),))
    assert world.run(repair).report.state == "done"
    assert world.names() == ["damage", "repaired"]
    world.eu.hold("app", TWO, "1.0")
    world.verify()
    assert world.names() == ["damage", "repaired", "damage"]


def test_a_verification_that_could_not_look_has_failed_and_found_no_damage(world: World) -> None:
    world.source.hold("app", ONE, "1.0")
    world.run()
    world.eu.on_request = _nothing
    world.verify()
    assert world.names() == ["failed"]


def test_only_what_was_found_wrong_is_damage(world: World) -> None:
    """Missing is a kind of damage, MissingCredential a kind of failure."""
    run = world.ledger.create_run(replace(world.spec, kind="verify"), "release")
    world.ledger._redis.hset(world.ledger.keys.failures(run), "MissingCredential\nno token", "1\n1.0")
    world.ledger.fail_run(run, "", "")
    (one,) = world.told()
    assert (one.name, one.more["reason"], one.names) == ("failed", "no token", ("1.0",))


def test_a_verification_is_no_backfill_although_it_is_in_that_lane(world: World) -> None:
    world.source.hold("app", ONE, "1.0")
    world.run()
    world.run(replace(world.spec, kind="verify", verification=Verification()), lane="backfill")
    assert world.told() == []


def test_a_registry_that_goes_down_and_comes_back_is_told_twice_however_often_it_is_probed(
    world: World,
) -> None:
    now = world.ledger.now()
    for ago_s, up in enumerate((True, False, False, True, True, False, False, False)):
        error = "" if up else "a.example: no answer"
        one = Measurement("us", "a.example", now + ago_s, up, error=error)
        world.ledger.probes.record(one, f"probe {ago_s}")
    assert world.names() == ["registry_down", "registry_back", "registry_down"]
    assert world.told()[0].more == {"registry": "a.example", "region": "us", "reason": "a.example: no answer"}


def test_a_region_without_workers_is_told_until_it_has_one_as_often_as_it_is_seen(world: World) -> None:
    events, told = world.ledger.events, world.ledger.keys.told("no_workers", "eu")
    assert events.no_workers("eu", ["app", "base"])
    world.ledger._redis.expire(told, 60)
    assert not events.no_workers("eu", ["app", "base", "more"])
    assert world.ledger._redis.ttl(told) > 60, "as long as somebody says so"
    events.has_workers("eu")
    assert events.no_workers("eu", ["app"])
    assert [one.mirrors for one in world.told()] == [("app", "base"), ("app",)]


def test_a_budget_that_is_used_up_is_told_once_in_its_window(world: World) -> None:
    client = world.ledger._redis
    now = [1000.0]
    budgets = Budgets(client, world.ledger.keys, lambda: now[0])
    budgets.answered(
        Answered("hub.example", ADDRESS, "", None, 0.0, may_count=True, limits=RateLimits(10, 0, 21600))
    )
    for token in "abc":
        assert budgets.admit(Wanted("hub.example", "", ADDRESS, token, looked=True)).word == "empty"

    (one,) = world.told()
    assert (one.name, one.mirror) == ("budget", "")
    assert (one.more["registry"], one.more["limit"], one.more["until_s"]) == ("hub.example", 10, 22600)
    assert 0 < client.ttl(world.ledger.keys.told("budget", f"hub.example:{ADDRESS}")) <= 21600


def test_events_are_numbered_and_only_the_last_are_kept(world: World) -> None:
    events = world.ledger.events
    for number in range(MOST_EVENTS + 3):
        events.no_workers(str(number), ["app"])
    kept = events.after("0-0", MOST_EVENTS * 2)
    assert [one.number for one in kept] == list(range(4, MOST_EVENTS + 4))
    assert [one.number for one in events.after(kept[-3].id, 10)] == [MOST_EVENTS + 2, MOST_EVENTS + 3]
