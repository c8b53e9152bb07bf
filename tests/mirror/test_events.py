"""What is worth telling is written down with the change of state that it is about: once, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest

from config.notification import EventName
from mirror import decide
from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.ledger.budgets import Answered, Budgets, Wanted
from mirror.ledger.event_scripts import KEEP_S, MOST_EVENTS, MOST_MARKS, MOST_NAMES, REMIND_S
from mirror.ledger.events import Event, Name
from mirror.ledger.measured import Measurement
from mirror.ledger.sources import MOST_NAMED, Entry
from mirror.spec import ALL_TARGETS, EVERYWHERE, TARGETS, Lane, MirrorSpec, Target, Verification
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

    def pushed(self, tag: str) -> Drive:
        """As a webhook has it run."""
        return self.run(replace(self.spec, refs=((tag, tag),)))

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


def _not(*tags: str) -> Callable[[str, str], None]:
    """A target where nobody can move these."""

    def check(method: str, path: str) -> None:
        if path.rpartition("/")[2] in tags:
            _no_tags(method, path)

    return check


def end(ledger: Ledger, run: str) -> None:
    """It has found nothing to do."""
    ledger.add_batches(run, "", "1", [], listed=True)
    assert ledger.run_report(run).state == "done"


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
    assert world.names() == ["failed", "recovered", "failed"], "it was well in between"
    assert world.told()[1].more["runs"] == 2

    world.source.hold("app", TWO, "2.0")
    world.run()
    assert world.names()[3:] == ["failed"], "one more tag fails: that is news"
    assert world.told()[3].more["count"] == 2


def test_many_runs_of_a_tag_each_that_fail_alike_are_told_once_and_again_after_a_day(world: World) -> None:
    """As a busy webhook has them while a registry refuses."""
    world.eu.on_request = _no_tags
    for number in range(5):
        world.source.hold("app", ONE, f"1.{number}")
        world.pushed(f"1.{number}")
    (one,) = world.told()
    assert (one.name, one.more["runs"], one.names) == ("failed", 1, ("1.0",))

    failing = world.ledger.keys.failing("app")
    before = int(world.ledger._redis.hget(failing, "at") or 0)
    world.ledger._redis.hset(failing, "at", before - REMIND_S)
    world.pushed("1.4")
    world.pushed("1.4")
    assert [(one.name, one.more["runs"]) for one in world.told()] == [("failed", 1), ("failed", 5)]
    assert 0 < world.ledger._redis.ttl(failing) <= KEEP_S


def test_a_failure_for_another_reason_is_told_while_the_first_lasts(world: World) -> None:
    for kind in ("Denied", "Unauthorized", "Denied", "Unauthorized"):
        run = world.ledger.create_run(world.spec, "release")
        assert world.ledger.fail_run(run, f"{kind} it is", kind)
    assert [one.more["reason"] for one in world.told()] == ["Denied it is", "Unauthorized it is"]


def test_a_tag_that_goes_well_does_not_end_what_another_has_begun(world: World) -> None:
    for tag in ("bad", "good", "worse"):
        world.source.hold("app", ONE, tag)
    world.eu.on_request = _not("bad", "worse")
    for tag in ("bad", "good", "worse", "good", "bad", "good"):
        world.pushed(tag)
    assert world.names() == ["failed"]

    world.eu.on_request = None
    world.pushed("worse")
    assert world.names() == ["failed"]
    world.pushed("bad")
    assert world.names() == ["failed", "recovered"]
    assert (world.told()[1].more["runs"], world.told()[1].mirror) == (3, "app")
    world.run()
    assert len(world.told()) == 2


def test_the_tags_that_failed_in_a_run_end_that_and_so_does_a_run_of_all(world: World) -> None:
    for tag in ("bad", "good"):
        world.source.hold("app", ONE, tag)
    world.eu.on_request = _not("bad")
    world.run()
    world.eu.on_request = None
    world.pushed("bad")
    assert world.names() == ["failed", "recovered"]

    world.source.hold("app", TWO, "bad")
    world.eu.on_request = _not("bad")
    world.run()
    world.eu.on_request = None
    world.run()
    assert world.names() == ["failed", "recovered"] * 2


def test_where_the_source_cannot_be_listed_only_a_run_of_all_says_that_it_is_well(world: World) -> None:
    world.source.hold("app", ONE, "1.0")
    run = world.ledger.create_run(world.spec, "release")
    world.ledger.fail_run(run, "it cannot be listed", "Denied")
    world.pushed("1.0")
    assert world.names() == ["failed"]
    world.run()
    assert world.names() == ["failed", "recovered"]


def test_tags_that_failed_beyond_all_counting_are_the_whole_mirror(world: World) -> None:
    for number in range(MOST_MARKS + 20):
        spec = replace(world.spec, refs=((f"v{number}", f"v{number}"),))
        world.ledger.fail_run(world.ledger.create_run(spec, "release"), "no", "Denied")
    assert len(world.told()) == 1
    assert world.ledger._redis.hlen(world.ledger.keys.failing("app")) < MOST_MARKS + 20


def test_one_repository_of_a_wildcard_is_told_of_by_the_mirrors_name(world: World) -> None:
    """A receiver's globs are about mirrors, and all repositories of one are one notice."""
    targets = (Target(f"{world.eu.host}/*"),)
    spec = replace(world.spec, name="all", source=f"{world.source.host}/*", targets=targets)
    for repository in ("team/app", "team/base"):
        world.source.hold(repository, ONE, "v1")
        one = spec.of(f"{world.source.host}/{repository}")
        world.ledger.fail_run(world.ledger.create_run(one, "release"), "no", "Denied")
    (told,) = world.told()
    assert (told.name, told.mirror) == ("failed", "all")
    for repository in ("team/app", "team/base"):
        world.run(spec.of(f"{world.source.host}/{repository}"))
    assert world.names() == ["failed", "recovered"]


def test_a_run_that_no_fleet_file_has_begins_and_ends_nothing_of_a_mirror_of_its_name(world: World) -> None:
    """``sealift mirror host/app --to …`` is called ``app``, as a mirror may be that does something else."""
    world.source.hold("app", ONE, "1.0")
    typed, place = replace(world.spec, ad_hoc=True), f"{world.us.host}/app"
    world.eu.on_request = _no_tags
    world.run(typed)
    world.run()
    assert [(one.name, one.mirror) for one in world.told()] == [("failed", place), ("failed", "app")]

    world.eu.on_request = None
    world.run(typed)
    assert [(one.name, one.mirror) for one in world.told()[2:]] == [("recovered", place)]
    world.run()
    assert [(one.name, one.mirror) for one in world.told()[3:]] == [("recovered", "app")]


def test_runs_that_were_typed_for_many_repositories_are_known_by_where_they_go() -> None:
    targets = (Target("eu.example/copies/*"), Target("us.example/*"))
    every = MirrorSpec("images", EVERYWHERE, targets, ad_hoc=True)
    assert every.known_as == "eu.example/copies"
    assert every.of("docker.io/library/alpine").known_as == "eu.example/copies"
    assert replace(every, ad_hoc=False).of("docker.io/library/alpine").known_as == "images"


def test_a_list_of_what_failed_ends_that_and_no_more(world: World) -> None:
    """As ``sealift retry`` has it of a wildcard."""
    spec = replace(world.spec, name="all", source=f"{world.source.host}/*", targets=(Target("eu.example/*"),))

    def given(*repositories: str) -> str:
        refs = (("v1", "v1"),)
        entries = [Entry(f"{world.source.host}/{one}", refs) for one in repositories]
        staged = world.ledger.sources.stage(entries)
        return world.ledger.create_run(replace(spec, given=staged.digest), "release", staged)

    for names in (["a", "b"], ["c"]):
        assert world.ledger.fail_run(given(*names), "no", "Denied")
    end(world.ledger, given("a", "b", "d"))
    assert world.names() == ["failed"]
    end(world.ledger, given("c"))
    assert world.names() == ["failed", "recovered"]


def test_a_long_list_that_was_typed_is_well_again_when_all_of_it_went_well(world: World) -> None:
    spec = MirrorSpec("images", EVERYWHERE, (Target("eu.example/*"),), ad_hoc=True)
    entries = [Entry(f"docker.io/app-{number}", (("v1", "v1"),)) for number in range(2 * MOST_NAMED)]

    def again() -> str:
        staged = world.ledger.sources.stage(entries)
        return world.ledger.create_run(replace(spec, given=staged.digest), "backfill", staged)

    assert world.ledger.fail_run(again(), "no", "Denied")
    end(world.ledger, again())
    assert world.names()[:2] == ["failed", "recovered"]


@pytest.mark.parametrize("tags", [MOST_NAMED + 1, 2 * MOST_NAMED])
def test_what_a_long_list_is_about_is_not_taken_for_its_beginning(world: World, tags: int) -> None:
    def run(*names: str) -> str:
        refs = tuple((name, name) for name in names)
        return world.ledger.create_run(replace(world.spec, refs=refs), "release")

    names = [f"v{number}" for number in range(tags)]
    assert world.ledger.fail_run(run(*names), "no", "Denied")
    end(world.ledger, run(*names[:MOST_NAMED]))
    assert world.names() == ["failed"]
    end(world.ledger, world.ledger.create_run(world.spec, "release"))
    assert world.names() == ["failed", "recovered"]


def test_a_verification_or_rollback_that_fails_is_not_taken_for_the_mirrors_runs(world: World) -> None:
    for kind in ("mirror", "verify", "rollback", "mirror", "verify"):
        spec = replace(world.spec, kind=kind)
        world.ledger.fail_run(world.ledger.create_run(spec, "release"), "no", "Denied")
    assert [one.more.get("kind") for one in world.told()] == [None, "verify", "rollback"]


def test_a_conflict_in_one_repository_of_many_says_in_which(world: World) -> None:
    targets = (Target(f"{world.us.host}/*"), Target(f"{world.eu.host}/*"))
    spec = replace(world.two_way, name="both", targets=targets, source=ALL_TARGETS)
    for side, image in ((world.us, ONE), (world.eu, TWO)):
        side.hold("team/app", image, "v1")
    world.run(spec.of(f"{TARGETS}/team/app"))
    (one,) = world.told()
    assert (one.mirror, one.names, one.more["place"]) == ("both", ("team/app:v1",), "both/team/app")


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
