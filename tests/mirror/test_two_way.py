"""Two-way mirrors: repositories that are pushed at on any side, and are kept equal without losing a push."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mirror import decide
from mirror.decide import HAD_MOVED
from mirror.engine import Engine
from mirror.ledger import Ledger, LedgerError
from mirror.ledger.batches import Outcomes
from mirror.ledger.conflicts import Conflict
from mirror.rollback import rollback_of
from mirror.spec import TARGETS, Kind, MirrorSpec, Target, Verification
from mirror.stage import Stage
from registry.deletion import tombstone
from registry.images import (
    Image,
    Index,
    build_artifact,
    build_image,
    build_index,
    build_signature,
    signature_tag,
)
from registry.memory import ErrorReply, MemoryRegistry
from registry.memory_wire import Cut
from tests.support.engine import Drive, engine_on, only
from tests.support.valkey import ValkeyServer
from workers.cli.exits import Exit
from workers.cli.summary import exit_code

ONE, TWO, THREE, FOUR = (build_image({"app": text}) for text in (b"one", b"two", b"three", b"four"))
EARLY, LATE = (
    build_index([image], annotations={"org.opencontainers.image.created": f"{year}-01-01T00:00:00Z"})
    for image, year in ((TWO, 2025), (THREE, 2026))
)


@dataclass
class World:
    engine: Engine
    sides: list[MemoryRegistry]
    spec: MirrorSpec
    repository: str

    @property
    def names(self) -> list[str]:
        return [target.repository for target in self.spec.targets]

    def push(self, side: int, image: Image | Index, tag: str = "v1") -> None:
        self.sides[side].hold(self.repository, image, tag)

    def delete(self, side: int, tag: str = "v1") -> None:
        self.sides[side].untag(self.repository, tag)

    def run(self, **terms: Any) -> Drive:
        return Drive(self.engine, replace(self.spec, **terms)).all()

    def at(self, tag: str = "v1") -> list[str | None]:
        return [side.tag(self.repository, tag) for side in self.sides]

    def agreed(self, tag: str = "v1") -> str | None:
        return self.engine.ledger.conflicts.known(self.spec, [tag])[tag].base

    def conflicts(self) -> dict[str, Conflict]:
        return {one.tag: one for one in self.engine.ledger.conflicts.open("app")}

    def settled(self) -> list[Conflict]:
        return list(self.engine.ledger.conflicts.settled("app"))

    def writes(self) -> list[str]:
        """What was written since the last question."""
        found = [
            f"{one.method} {one.path}"
            for side in self.sides
            for one in side.requests
            if one.method not in {"GET", "HEAD"}
        ]
        for side in self.sides:
            side.forget_requests()
        return found


@dataclass
class Place:
    """What the tests of this file share: starting it takes longer than any of them."""

    server: ValkeyServer
    engine: Engine
    sides: list[MemoryRegistry]
    worlds: int = 0


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        server = stack.enter_context(ValkeyServer(tmp_path_factory.mktemp("valkey")))
        sides = [stack.enter_context(MemoryRegistry()) for _ in range(3)]
        yield Place(server, stack.enter_context(engine_on(server)), sides)


@pytest.fixture
def world(place: Place) -> World:
    place.worlds += 1
    with place.server.client() as client:
        client.flushall()
    for side in place.sides:
        side.on_request = None
        side.forget_requests()
    regions = ("us", "eu", "eu")
    targets = tuple(
        Target(f"{side.host}/app{place.worlds}", region)
        for side, region in zip(place.sides, regions, strict=True)
    )
    spec = MirrorSpec("app", TARGETS, targets, kind="two_way", two_way=True)
    return World(place.engine, place.sides, spec, f"app{place.worlds}")


def everywhere(image: Image | Index) -> list[str | None]:
    return [image.digest] * 3


# -- without conflict ----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [0, 1, 2])
def test_a_push_on_any_side_is_brought_to_the_others(world: World, side: int) -> None:
    world.push(side, ONE)
    drive = world.run()

    assert drive.report.state == "done"
    assert world.at() == everywhere(ONE)
    assert world.agreed() == ONE.digest


def test_what_is_equal_everywhere_is_agreed_on_and_nothing_is_written(world: World) -> None:
    for side in range(3):
        world.push(side, ONE)
    world.writes()
    drive = world.run()

    assert drive.states("v1") == ["current"] * 3
    assert world.agreed() == ONE.digest
    assert world.writes() == []


def test_pushes_on_several_sides_after_each_other_all_arrive(world: World) -> None:
    for side, image in ((0, ONE), (1, TWO), (2, THREE), (0, ONE), (1, FOUR)):
        world.push(side, image)
        world.run()
        assert world.at() == everywhere(image)


def test_pushes_of_different_tags_on_different_sides_cross(world: World) -> None:
    world.push(0, ONE, "v1")
    world.push(1, TWO, "v2")
    world.run()

    assert world.at("v1") == everywhere(ONE)
    assert world.at("v2") == everywhere(TWO)


def test_a_tag_that_was_brought_is_no_push_and_a_quiet_pair_writes_nothing(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.writes()
    for _ in range(2):
        drive = world.run()
        assert drive.states("v1") == ["current"] * 3
    assert world.writes() == []
    assert world.conflicts() == {}


def test_a_tag_may_go_back_to_what_it_was(world: World) -> None:
    for side, image in ((0, ONE), (0, TWO), (1, ONE)):
        world.push(side, image)
        world.run()

    assert world.at() == everywhere(ONE)


def test_the_same_pair_under_two_names_in_both_orders_comes_to_rest(world: World) -> None:
    mirrored = replace(world.spec, name="ppa", targets=world.spec.targets[::-1])
    for side, image in ((0, ONE), (1, TWO), (2, THREE)):
        world.push(side, image)
        world.run()
        Drive(world.engine, mirrored).all()
        world.writes()
        world.run()
        Drive(world.engine, mirrored).all()
        assert world.at() == everywhere(image)
        assert world.writes() == []


def test_a_side_without_the_repository_has_none_of_the_tags(world: World) -> None:
    world.push(1, ONE)
    assert world.repository not in world.sides[0].repositories
    world.run()

    assert world.at() == everywhere(ONE)


def test_a_side_that_cannot_be_listed_fails_the_run_instead_of_having_no_tags(world: World) -> None:
    world.push(0, ONE)

    def closed(_: str, __: str) -> None:
        raise ErrorReply(401, "UNAUTHORIZED", "who are you")

    world.sides[2].on_request = closed
    report = world.run().report

    assert report.state == "failed"
    assert world.sides[2].host in report.error
    assert world.at()[:2] == [ONE.digest, None]


def test_nothing_is_decided_without_a_side_that_cannot_be_asked(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.push(0, TWO)

    def away(method: str, path: str) -> None:
        if method == "HEAD" and "/manifests/" in path:
            raise ErrorReply(503, "UNAVAILABLE")

    world.sides[2].on_request = away
    drive = world.run()
    world.sides[2].on_request = None

    assert drive.report.state == "failed"
    assert world.sides[2].host in drive.tags["v1"].reason
    assert world.at() == [TWO.digest, ONE.digest, ONE.digest]


def test_signatures_travel_from_the_side_that_has_them(world: World) -> None:
    signature = build_artifact({"text": b"signed"}, artifact_type="application/vnd.test")
    name = f"{ONE.digest.replace(':', '-')}.sig"
    world.push(1, ONE)
    world.push(1, signature, name)
    world.run()

    assert world.at() == everywhere(ONE)
    assert world.at(name) == [signature.digest] * 3


# -- conflicts --------------------------------------------------------------------------------------------


def test_sides_that_moved_apart_are_left_alone_and_on_record(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.push(0, ONE)
    world.run()
    world.push(0, TWO)
    world.push(1, THREE)
    world.writes()
    with caplog.at_level(logging.WARNING, "mirror"):
        drive = world.run()
        world.run()

    assert drive.report.state == "done"
    assert drive.states("v1") == ["held"] * 3
    assert world.at() == [TWO.digest, THREE.digest, ONE.digest]
    assert world.writes() == []
    found = world.conflicts()["v1"]
    assert (found.kind, found.base) == ("conflict", ONE.digest)
    assert list(found.sides.values()) == [TWO.digest, THREE.digest, ONE.digest]
    assert [record.message for record in caplog.records] == [f"tag v1 is left alone: {found.reason}"]


def test_since_when_there_is_a_conflict_is_kept_for_as_long_as_it_is_the_same(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    world.run()
    first = world.conflicts()["v1"]
    world.run()
    assert world.conflicts()["v1"].since_s == first.since_s
    world.push(1, THREE)
    world.run()
    assert world.conflicts()["v1"].since_s > first.since_s


def test_at_the_first_meeting_equal_tags_are_agreed_on_missing_ones_copied_differing_ones_held(
    world: World,
) -> None:
    for side in range(3):
        world.push(side, ONE, "equal")
    world.push(1, TWO, "missing")
    world.push(0, ONE, "differing")
    world.push(2, TWO, "differing")
    world.run()

    assert world.agreed("equal") == ONE.digest
    assert world.at("missing") == everywhere(TWO)
    assert world.at("differing") == [ONE.digest, None, TWO.digest]
    assert list(world.conflicts()) == ["differing"]
    assert world.agreed("differing") is None


def test_a_ledger_that_has_forgotten_what_was_agreed_overwrites_nothing(world: World, place: Place) -> None:
    world.push(0, ONE)
    world.run()
    world.push(0, TWO)
    with place.server.client() as client:
        client.delete(world.engine.ledger.keys.agreed("app"))
    world.run()

    assert world.at() == [TWO.digest, ONE.digest, ONE.digest]
    assert "v1" in world.conflicts()


def test_a_conflict_that_has_gone_by_itself_is_closed_and_stays_on_record(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    world.run()
    world.push(1, ONE)
    world.run()

    assert world.at() == everywhere(ONE)
    assert world.conflicts() == {}
    (past,) = world.settled()
    assert (past.rule, past.took) == ("equal", ONE.digest)


def test_a_new_side_that_differs_is_a_conflict_for_its_tag_alone(world: World) -> None:
    pair = replace(world.spec, targets=world.spec.targets[:2])
    world.push(0, ONE, "v1")
    world.push(0, ONE, "v2")
    Drive(world.engine, pair).all()
    world.push(2, TWO, "v1")
    world.run()

    assert list(world.conflicts()) == ["v1"]
    assert world.at("v2") == everywhere(ONE)
    assert world.at("v1") == [ONE.digest, ONE.digest, TWO.digest]


def test_a_person_decides_by_naming_a_side(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.push(0, TWO)
    world.push(1, THREE)
    world.run()
    Drive(world.engine, replace(only(world.spec, "v1"), take=world.names[1])).all()

    assert world.at() == everywhere(THREE)
    assert world.conflicts() == {}
    (past,) = world.settled()
    assert (past.rule, past.took) == ("resolve", THREE.digest)
    assert list(past.sides.values()) == [TWO.digest, THREE.digest, ONE.digest]
    assert world.run().states("v1") == ["current"] * 3


def test_the_preferred_side_wins_and_what_lost_is_on_record(world: World) -> None:
    terms = {"rule": "prefer", "prefer": world.names[1]}
    world.push(0, ONE)
    world.push(1, TWO)
    world.run(**terms)

    assert world.at() == everywhere(TWO)
    (past,) = world.settled()
    assert (past.rule, past.sides[world.names[0]]) == ("prefer", ONE.digest)


def test_the_image_that_was_made_last_wins(world: World) -> None:
    world.push(0, LATE)
    world.push(1, EARLY)
    world.run(rule="newest")

    assert world.at() == everywhere(LATE)
    assert [past.rule for past in world.settled()] == ["newest"]


def test_an_immutable_tag_never_moves_not_even_by_a_rule(world: World) -> None:
    terms: dict[str, Any] = {"immutable": ("v*",), "rule": "newest"}
    for tag in ("v1", "latest"):
        world.push(0, ONE, tag)
    world.run(**terms)
    for tag in ("v1", "latest"):
        world.push(0, EARLY, tag)
        world.push(1, LATE, tag)
    world.run(**terms)

    assert world.at() == [EARLY.digest, LATE.digest, ONE.digest]
    assert world.conflicts()["v1"].kind == "immutable"
    assert world.at("latest") == everywhere(LATE)


# -- deletions -----------------------------------------------------------------------------------------------


def test_a_deletion_is_noticed_and_neither_undone_nor_carried_over(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.delete(1)
    world.run()

    assert world.at() == [ONE.digest, None, ONE.digest]
    assert world.conflicts()["v1"].kind == "deleted"


def test_a_deletion_is_undone_where_a_person_says_so(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.delete(1)
    world.run()
    world.run(refs=(("v1", "v1"),), take=world.names[0])

    assert world.at() == everywhere(ONE)
    assert world.conflicts() == {}


def test_a_tag_that_all_sides_have_deleted_is_forgotten_and_may_come_again(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.delete(1)
    world.run()
    for side in (0, 2):
        world.delete(side)
    drive = world.run()

    assert drive.states("v1") == ["current"] * 3
    assert world.agreed() is None
    assert world.conflicts() == {}
    world.push(2, TWO)
    world.run()
    assert world.at() == everywhere(TWO)


def test_a_push_to_a_tag_that_another_side_deleted_is_a_conflict(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.delete(1)
    world.push(2, TWO)
    world.run()

    assert world.at() == [ONE.digest, None, TWO.digest]
    assert world.conflicts()["v1"].kind == "conflict"


def test_a_named_tag_that_no_side_has_fails_by_name(world: World) -> None:
    drive = Drive(world.engine, only(world.spec, "v9")).all()

    assert drive.tags["v9"].reason == "no side has such a tag"
    assert drive.report.state == "failed"


# -- somebody is faster --------------------------------------------------------------------------------


def begun(world: World) -> Drive:
    """A run that is about to bring TWO from the first side to the others, which have ONE."""
    world.push(0, ONE)
    world.run()
    world.push(0, TWO)
    drive = Drive(world.engine, world.spec)
    drive.resolve()
    return drive


@pytest.mark.parametrize("side", [0, 1])
def test_a_push_between_looking_and_landing_holds_the_others_back(world: World, side: int) -> None:
    drive = begun(world)
    world.push(side, THREE)
    world.writes()
    drive.land()
    drive.finalize()
    drive.flip()
    drive.conclude()

    assert world.at()[side] == THREE.digest
    assert world.at()[2] == ONE.digest
    assert not [one for one in world.writes() if one.endswith("/v1")], "none went there and back"
    assert drive.states("v1")[side] == "held"
    assert "somebody moved the tag" in drive.tags["v1"].reason
    assert world.conflicts()["v1"].sides[world.names[side]] == THREE.digest


def test_a_push_between_landing_and_moving_is_kept_and_the_others_go_back(world: World) -> None:
    drive = begun(world)
    drive.land()
    drive.finalize()
    drive.flip("us")
    world.push(1, THREE)
    drive.flip("eu")
    assert drive.conclude() == ["return"]

    assert world.at() == [TWO.digest, THREE.digest, ONE.digest]
    assert drive.states("v1") == ["current", "held", "held"]
    assert "went back to" in drive.tags["v1"].targets[2].reason
    assert world.conflicts()["v1"].kind == "moved"
    assert world.agreed() == ONE.digest


def pushing_at_the_second_look(world: World, image: Image) -> Callable[[str, str], None]:
    """The second side is pushed at when it is asked for the tag once more."""
    looks = 0

    def hear(method: str, path: str) -> None:
        nonlocal looks
        looks += method == "HEAD" and path.endswith("/manifests/v1")
        if looks == 2:
            looks += 1
            world.push(1, image)

    return hear


def test_a_push_in_the_last_round_trip_before_the_move_is_kept(world: World) -> None:
    """After the journal has looked, and before the turn looks again."""
    drive = begun(world)
    drive.land()
    drive.finalize()
    world.sides[1].on_request = pushing_at_the_second_look(world, THREE)
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert world.at() == [TWO.digest, THREE.digest, ONE.digest]
    assert drive.states("v1") == ["current", "held", "held"]


def pushing_at_the_first_put(world: World, side: int) -> Callable[[str, str], None]:
    """A registry that takes no tag the first time, and has been pushed at by the second."""
    tried = list[str]()

    def hear(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/v1") and not tried:
            tried.append(path)
            world.push(side, THREE)
            raise ErrorReply(503, "UNAVAILABLE", "not now")

    return hear


def test_a_push_between_two_attempts_at_the_move_is_kept(world: World) -> None:
    drive = begun(world)
    drive.land()
    drive.finalize()
    world.sides[1].on_request = pushing_at_the_first_put(world, 1)
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert world.at() == [TWO.digest, THREE.digest, ONE.digest]
    assert drive.states("v1") == ["current", "held", "held"]


def test_a_push_between_two_attempts_at_taking_back_is_kept(world: World) -> None:
    drive = begun(world)
    drive.land()
    drive.finalize()
    world.push(2, FOUR)
    drive.flip()
    assert world.at() == [TWO.digest, TWO.digest, FOUR.digest]
    world.sides[1].on_request = pushing_at_the_first_put(world, 1)
    drive.conclude()
    world.sides[1].on_request = None

    assert world.at() == [TWO.digest, THREE.digest, FOUR.digest]
    assert drive.states("v1") == ["current", "superseded", "held"]


def test_a_deletion_before_the_move_is_kept(world: World) -> None:
    drive = begun(world)
    drive.land()
    drive.finalize()
    world.delete(1)
    drive.flip()
    drive.conclude()

    assert world.at() == [TWO.digest, None, ONE.digest]
    assert "somebody deleted the tag" in drive.tags["v1"].reason


def test_a_run_that_was_overtaken_does_not_undo_what_came_after(world: World) -> None:
    """What it has seen is there again, and means something else."""
    drive = begun(world)
    drive.land()
    drive.finalize()
    world.push(1, TWO)
    world.push(2, TWO)
    world.run()
    world.push(1, ONE)
    drive.flip()
    drive.conclude()

    assert world.at() == [TWO.digest, ONE.digest, TWO.digest]
    assert drive.states("v1") == ["current", "superseded", "superseded"]
    world.run()
    assert world.at() == everywhere(ONE)


def test_a_push_to_a_tag_that_was_at_rest_is_left_to_the_next_run(world: World) -> None:
    world.push(0, ONE)
    world.run()
    drive = Drive(world.engine, world.spec)
    drive.resolve()
    world.push(1, TWO)
    for step in (drive.land, drive.finalize, drive.flip, drive.conclude):
        step()

    assert drive.states("v1") == ["current", "superseded", "current"]
    assert world.conflicts() == {}
    world.run()
    assert world.at() == everywhere(TWO)


def test_a_move_that_failed_and_was_taken_back_is_no_push(world: World) -> None:
    drive = begun(world)

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/v1"):
            raise ErrorReply(403, "DENIED", "no")

    world.sides[2].on_request = refuse
    for step in (drive.land, drive.finalize, drive.flip, drive.conclude):
        step()
    world.sides[2].on_request = None
    assert world.at() == [TWO.digest, ONE.digest, ONE.digest]
    world.run()

    assert world.at() == everywhere(TWO)
    assert world.conflicts() == {}


def test_each_step_may_run_twice(world: World) -> None:
    drive = begun(world)
    for step in (drive.resolve, drive.land, drive.finalize, drive.flip, drive.conclude):
        step()
        step()

    assert world.at() == everywhere(TWO)
    assert world.agreed() == TWO.digest


def test_verifying_compares_every_side_with_what_it_is_to_be_and_moves_nothing(world: World) -> None:
    world.push(0, ONE)
    world.push(0, TWO, "v2")
    world.run()
    world.push(2, THREE)
    world.delete(1, "v2")
    world.writes()

    run = world.run(kind="verify", verification=Verification()).report

    assert [(one.verified, one.behind, one.held) for one in run.found] == [(0, 1, 1), (0, 1, 1), (1, 0, 1)]
    assert not any(one.missing or one.different or one.damaged or one.unchecked for one in run.found)
    assert run.states == {"failed": 1, "held": 1}
    assert exit_code([run]) == Exit.FAILED
    assert (world.writes(), world.conflicts()) == ([], {})


def test_what_only_one_side_was_given_is_behind_in_the_others_and_a_sync_is_all_it_takes(
    world: World,
) -> None:
    world.push(0, ONE)
    world.run()
    world.push(1, TWO)
    world.push(2, THREE, "new")

    run = world.run(kind="verify", verification=Verification())

    assert [target.kind for target in run.tags["v1"].targets] == ["Behind", "", "Behind"]
    late = f"{world.names[0]}:v1: is still at {ONE.digest}; {TWO.digest} is not copied yet"
    new = f"{world.names[0]}:new: has no such tag yet; {THREE.digest} is not copied yet"
    assert (run.tags["v1"].targets[0].reason, run.tags["new"].targets[0].reason) == (late, new)
    told = world.engine.ledger.gauges.read().told.of("verify")
    assert {one.labels["result"] for one in told} == {"verified", "behind"}

    world.run()
    after = world.run(kind="verify", verification=Verification()).report
    assert (after.state, exit_code([after])) == ("done", Exit.DONE)


def test_a_deep_pass_over_all_sides_has_an_end_and_the_next_run_begins_another(world: World) -> None:
    world.push(0, ONE)
    world.run()
    first, second = (
        world.run(kind="verify", verification=Verification(deep=True)).report.deep for _ in range(2)
    )

    assert first is not None
    assert second is not None
    assert (first.is_over, first.read, first.tags) == (True, 3, 3)
    assert second.began_s > first.began_s
    assert second.bytes == first.bytes > 0


def test_a_side_that_counts_who_reads_is_not_read_to_verify_the_others(world: World) -> None:
    child = build_image({"app": b"child"})
    world.push(0, build_index([child]))
    world.run()
    world.sides[0]._store.remove_manifest(world.repository, child.digest)
    forgotten = Ledger(world.engine.ledger._redis, "test:")
    forgotten._redis.delete(*(forgotten.keys.manifest(one) for one in (child.digest, str(world.at()[0]))))
    counting = world.sides[1].host
    world.engine = replace(world.engine, ledger=forgotten, counts_pulls=lambda host: host == counting)
    for side in world.sides:
        side.forget_requests()

    run = world.run(kind="verify", verification=Verification()).report

    assert [one.damaged for one in run.found] == [1, 0, 0]
    asked = [one.path for one in world.sides[1].requests if one.method == "GET" and "/manifests/" in one.path]
    assert asked == []


def test_a_tag_that_only_waits_for_a_decision_fails_a_verification(world: World) -> None:
    for side, image in enumerate((ONE, TWO, ONE)):
        world.push(side, image)

    run = world.run(kind="verify", verification=Verification()).report

    assert [one.held for one in run.found] == [1, 1, 1]
    assert (run.state, exit_code([run])) == ("done", Exit.FAILED)


# -- pinned --------------------------------------------------------------------------------------------


def pinned(world: World) -> None:
    """At ONE, to which it was rolled back."""
    for image in (ONE, TWO):
        world.push(0, image)
        world.run()
    Drive(world.engine, rollback_of(world.spec, {"v1": ONE.digest}, pin=True)).all()
    assert world.at() == everywhere(ONE)


def test_a_pinned_tag_stays_and_nobody_has_to_decide_about_it(world: World) -> None:
    pinned(world)
    world.push(0, THREE)

    run = world.run().report

    assert (run.state, run.states, exit_code([run])) == ("done", {"pinned": 1}, Exit.DONE)
    assert world.at() == [THREE.digest, ONE.digest, ONE.digest]
    assert world.conflicts() == {}

    world.engine.ledger.pins.drop("app", ["v1"])
    world.run()
    assert world.at() == everywhere(THREE), "what was pushed meanwhile was not lost"


def test_a_pinned_tag_whose_sides_moved_apart_is_no_conflict(world: World) -> None:
    pinned(world)
    world.push(0, THREE)
    world.push(1, FOUR)

    assert world.run().report.states == {"pinned": 1}
    assert world.conflicts() == {}


def test_a_pinned_tag_is_verified_and_repaired_at_its_pin(world: World) -> None:
    pinned(world)
    world.push(0, THREE)
    world.delete(2)

    run = world.run(kind="verify", verification=Verification())
    assert [one.kind for one in run.tags["v1"].targets] == ["Different", "", "Missing"]

    assert world.run(kind="repair", verification=Verification()).report.states == {"updated": 1}
    assert world.at() == everywhere(ONE)
    assert world.agreed() == ONE.digest
    assert world.run(kind="verify", verification=Verification()).report.states == {"current": 1}


def test_repairing_brings_sides_what_they_have_lost(world: World) -> None:
    world.push(0, ONE)
    world.run()
    lost = ONE.manifest.blobs[-1].digest
    for side in world.sides[1:]:
        side._store.remove_blob(world.repository, lost)

    assert world.run(kind="verify", verification=Verification()).report.state == "failed"
    assert world.run(kind="repair", verification=Verification()).report.states == {"updated": 1}

    assert all(side.holds_blob(world.repository, lost) for side in world.sides)
    assert world.at() == everywhere(ONE)


@pytest.mark.parametrize("kind", ["rollback", "repair"])
def test_what_a_rollback_or_a_repair_moved_is_what_all_agree_on(world: World, kind: Kind) -> None:
    world.push(0, ONE)
    world.run()
    world.push(0, TWO)
    world.run()
    if kind == "rollback":
        run = Drive(world.engine, rollback_of(world.spec, {"v1": ONE.digest}, pin=False)).all()
    else:
        world.push(0, ONE)
        run = world.run(kind="repair", verification=Verification())
    assert (run.report.states, world.agreed()) == ({"updated": 1}, ONE.digest)

    world.push(0, TWO)
    world.run()

    assert (world.at(), world.conflicts()) == (everywhere(TWO), {})


def test_a_signature_that_a_side_has_already_is_not_overwritten(world: World) -> None:
    first, second = build_signature(ONE), TWO
    tag = signature_tag(ONE.digest)
    world.push(0, ONE)
    world.push(0, first, tag)
    world.run()
    world.writes()
    world.run()
    assert world.writes() == []

    world.push(1, second, tag)
    world.run()

    assert world.at(tag) == [first.digest, second.digest, first.digest]


def test_a_side_that_is_just_deleting_a_tag_has_not_been_pushed_at(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.sides[1].plant(world.repository, "v1", tombstone(world.names[1], "v1"))
    world.run(rule="prefer", prefer=world.names[1])

    assert world.at()[0] == ONE.digest
    assert world.conflicts()["v1"].sides[world.names[1]] is None


# -- what was read is not what is there any more -------------------------------------------------------


def to_the_end(drive: Drive) -> None:
    for step in (drive.land, drive.finalize, drive.flip, drive.conclude):
        step()


def test_a_run_that_was_parked_writes_no_older_agreement(world: World) -> None:
    for image in (ONE, TWO):
        for side in range(3):
            world.push(side, image)
        drive = Drive(world.engine, world.spec)
        drive.resolve()
        drive.land()
        if image is ONE:
            drive.finalize()
    world.run()
    world.push(0, THREE)
    world.run()
    drive.finalize()

    assert drive.report.state == "done"
    assert world.agreed() == THREE.digest


def test_a_run_that_was_parked_opens_no_conflict_that_was_closed_since(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    world.run()
    drive = Drive(world.engine, world.spec)
    drive.resolve()
    Drive(world.engine, replace(only(world.spec, "v1"), take=world.names[1])).all()
    to_the_end(drive)

    assert drive.report.ended
    assert world.conflicts() == {}
    assert world.agreed() == TWO.digest
    assert len(world.settled()) == 1


def test_a_run_that_was_parked_opens_no_conflict_that_never_was_on_record(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    drive = Drive(world.engine, world.spec)
    drive.resolve()
    world.push(1, ONE)
    world.run()
    to_the_end(drive)

    assert world.conflicts() == {}
    assert world.agreed() == ONE.digest


def test_a_conflict_is_closed_once_by_runs_that_saw_its_end_together(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    world.run()
    world.push(1, ONE)
    drive = Drive(world.engine, world.spec)
    drive.resolve()
    world.run()
    to_the_end(drive)

    assert [one.rule for one in world.settled()] == ["equal"]


def test_what_has_lost_is_on_record_although_another_run_concluded_first(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.push(0, TWO)
    world.push(1, THREE)
    spec = replace(world.spec, rule="prefer", prefer=world.names[0])
    drive = Drive(world.engine, spec)
    for step in (drive.resolve, drive.land, drive.finalize, drive.flip):
        step()
    Drive(world.engine, spec).all()
    drive.conclude()

    assert world.agreed() == TWO.digest
    assert [(one.rule, one.sides[world.names[1]]) for one in world.settled()] == [("prefer", THREE.digest)]


def test_a_rollback_that_was_parked_writes_no_older_agreement(world: World) -> None:
    for image in (ONE, TWO):
        world.push(0, image)
        world.run()
    drive = Drive(world.engine, rollback_of(world.spec, {"v1": ONE.digest}, pin=False))
    for step in (drive.resolve, drive.land, drive.finalize, drive.flip):
        step()
    world.push(1, THREE)
    world.run()
    Drive(world.engine, replace(only(world.spec, "v1"), take=world.names[1])).all()
    drive.conclude()

    assert world.at() == everywhere(THREE)
    assert world.agreed() == THREE.digest


# -- what a decision may have replaced -----------------------------------------------------------------


DENIED, AWAY = ErrorReply(403, "DENIED", "no"), ErrorReply(503, "UNAVAILABLE", "not now")


def decided(world: World, *pushed: Image) -> Drive:
    """A run that is about to move the sides to what was pushed at the first one, which is preferred."""
    world.push(0, ONE)
    world.run()
    for side, image in enumerate(pushed):
        world.push(side, image)
    world.spec = replace(world.spec, rule="prefer", prefer=world.names[0])
    drive = Drive(world.engine, world.spec)
    for step in (drive.resolve, drive.land, drive.finalize):
        step()
    return drive


def killed_after_its_puts(drive: Drive, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of its flip the ledger has what was written before the first PUT."""

    def die(*_: object, **__: object) -> None:
        raise LedgerError("killed")

    with monkeypatch.context() as killed:
        killed.setattr(Stage, "end", die)
        with pytest.raises(LedgerError):
            drive.flip("eu")


def closed(*_: str) -> None:
    raise DENIED


def lost(world: World) -> list[tuple[str, str | None, str | None]]:
    """By the record: which run has replaced what at the second side, and by what; the newest first."""
    return [(one.run, one.sides[world.names[1]], one.took) for one in world.settled()]


@pytest.mark.parametrize("is_concluded", [True, False])
def test_what_a_killed_run_has_replaced_is_on_record_although_a_newer_one_moves_the_tag_on(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_concluded: bool
) -> None:
    first = decided(world, TWO, THREE)
    killed_after_its_puts(first, monkeypatch)
    assert world.at() == everywhere(TWO)
    world.push(0, FOUR)
    second = Drive(world.engine, world.spec)
    for step in (second.resolve, second.land, second.finalize, second.flip):
        step()
    if is_concluded:
        second.conclude()
    first.flip()
    first.conclude()
    second.conclude()

    assert first.states("v1") == ["current", "superseded", "superseded"]
    assert world.at() == everywhere(FOUR)
    assert (first.run, THREE.digest, TWO.digest) in lost(world)


def test_so_it_is_where_the_run_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = decided(world, TWO, THREE)
    killed_after_its_puts(drive, monkeypatch)
    decide.give_up(world.engine, drive.batches[0], "it was sent too often")

    assert world.at() == everywhere(TWO)
    assert lost(world) == [(drive.run, THREE.digest, TWO.digest)]


@pytest.mark.parametrize("when", ["before it looks", "after it has looked"])
def test_so_it_is_where_somebody_pushes_before_the_run_goes_on(
    world: World, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = decided(world, TWO, THREE)
    killed_after_its_puts(drive, monkeypatch)
    if when == "before it looks":
        world.push(1, FOUR)
    else:
        world.sides[1].on_request = pushing_at_the_second_look(world, FOUR)
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert world.at() == [TWO.digest, FOUR.digest, ONE.digest]
    assert lost(world) == [(drive.run, THREE.digest, TWO.digest)]


def test_so_it_is_where_the_side_cannot_be_looked_at_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = decided(world, TWO, THREE, TWO)
    killed_after_its_puts(drive, monkeypatch)
    world.sides[1].on_request = closed
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert drive.states("v1") == ["current", "failed", "current"]
    assert lost(world) == [(drive.run, THREE.digest, TWO.digest)]


def test_what_a_run_that_was_overtaken_has_not_moved_is_on_record_once(world: World) -> None:
    first = decided(world, TWO, THREE)
    second = world.run()
    first.flip()
    first.conclude()

    assert first.states("v1") == ["current", "superseded", "superseded"]
    assert [run for run, *_ in lost(world)] == [second.run]


@pytest.mark.parametrize("is_second_attempt", [False, True])
def test_a_run_whose_journal_is_written_and_that_is_overtaken_then_has_replaced_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_second_attempt: bool
) -> None:
    first, promised = decided(world, TWO, THREE), list[Outcomes]()
    confirm = world.engine.ledger.confirm
    if is_second_attempt:
        killed_after_its_puts(first, monkeypatch)
        world.push(1, THREE)
        world.push(2, ONE)

    def overtake(on: Any) -> list[Any]:
        written = confirm(on)
        if not promised:
            promised.append(world.engine.ledger.batches.outcomes(first.batches[0]))
            world.run()
        return written

    monkeypatch.setattr(world.engine.ledger, "confirm", overtake)
    first.flip("eu")
    first.conclude()
    first.flip("us")
    first.conclude()

    assert promised[0]["v1", world.names[1]].may_have_moved
    assert first.states("v1") == ["current", "superseded", "superseded"]
    assert first.run not in [run for run, *_ in lost(world)]


def moving_it_all_the_same(
    world: World, *, push: Image = TWO, error: Exception = DENIED
) -> Callable[[str, str], None]:
    """The second side takes the tag and says that it does not; or somebody has pushed there by then."""
    tried = list[str]()

    def hear(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/v1"):
            if not tried:
                tried.append(path)
                world.push(1, push)
            raise error

    return hear


@pytest.mark.parametrize("error", [DENIED, AWAY])
def test_what_a_move_that_failed_has_replaced_is_on_record(world: World, error: ErrorReply) -> None:
    drive = decided(world, TWO, THREE, TWO)
    world.sides[1].on_request = moving_it_all_the_same(world, error=error)
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert world.at() == everywhere(TWO)
    assert drive.states("v1") == ["current", "failed", "current"]
    assert lost(world) == [(drive.run, THREE.digest, TWO.digest)]


def test_so_it_is_where_a_move_may_be_under_way_still(world: World) -> None:
    """Its connection breaks: the registry may yet do what it was told to."""
    drive = decided(world, TWO, THREE, TWO)
    world.sides[1].on_request = moving_it_all_the_same(world, push=THREE, error=Cut())
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert drive.states("v1") == ["current", "failed", "current"]
    assert world.at()[1] == THREE.digest
    assert lost(world) == [(drive.run, THREE.digest, TWO.digest)]


@pytest.mark.parametrize("has_moved", [True, False])
def test_what_is_at_its_place_when_the_others_go_back_was_not_replaced(
    world: World, *, has_moved: bool
) -> None:
    drive = decided(world, TWO, THREE)
    world.sides[1].on_request = moving_it_all_the_same(world, push=TWO if has_moved else THREE, error=Cut())
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert world.at() == [TWO.digest, THREE.digest, ONE.digest]
    assert (HAD_MOVED in drive.tags["v1"].targets[1].reason) == has_moved
    assert lost(world) == []


@pytest.mark.parametrize("error", [DENIED, AWAY])
def test_what_a_registry_has_kept_as_it_says_is_not_on_record_as_replaced(
    world: World, error: ErrorReply
) -> None:
    drive = decided(world, TWO, THREE, TWO)
    world.sides[1].on_request = moving_it_all_the_same(world, push=THREE, error=error)
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert world.at() == [TWO.digest, THREE.digest, TWO.digest]
    assert lost(world) == []


def test_what_was_replaced_before_somebody_pushed_again_is_on_record(world: World) -> None:
    drive = decided(world, TWO, THREE, TWO)
    world.sides[1].on_request = moving_it_all_the_same(world, push=FOUR, error=AWAY)
    drive.flip()
    world.sides[1].on_request = None
    drive.conclude()

    assert world.at() == [TWO.digest, FOUR.digest, TWO.digest]
    assert lost(world) == [(drive.run, THREE.digest, TWO.digest)]
    assert world.conflicts()["v1"].sides[world.names[1]] == FOUR.digest


def test_what_somebody_pushed_before_the_move_has_not_been_replaced(world: World) -> None:
    drive = decided(world, TWO, THREE, TWO)
    world.push(1, FOUR)
    drive.flip()
    drive.conclude()

    assert (world.at()[1], lost(world)) == (FOUR.digest, [])


@pytest.mark.parametrize("then", ["taken back", "pushed at", "split"])
def test_what_was_replaced_and_could_not_be_taken_back_is_on_record(
    world: World, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "MAX_ROLLS", 0)
    drive = decided(world, TWO, THREE)

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/v1"):
            raise ErrorReply(403, "DENIED", "no")

    world.sides[2].on_request = refuse
    drive.flip()
    assert world.at() == [TWO.digest, TWO.digest, ONE.digest]
    if then == "pushed at":
        world.push(1, FOUR)
    if then == "split":
        world.sides[1].on_request = refuse
    drive.conclude()
    for side in world.sides:
        side.on_request = None

    left = {"taken back": THREE, "pushed at": FOUR, "split": TWO}[then]
    assert world.at()[1] == left.digest
    assert lost(world) == ([] if then == "taken back" else [(drive.run, THREE.digest, TWO.digest)])


# -- decided by hand, on what is on record -------------------------------------------------------------


def test_the_side_that_went_back_is_taken_as_it_is_listed(world: World) -> None:
    world.push(0, ONE)
    world.run()
    world.push(0, TWO)
    world.push(1, THREE)
    world.run()
    world.push(0, ONE)
    decided = replace(only(world.spec, "v1"), take=world.names[0])
    early = Drive(world.engine, decided).all()

    assert world.at() == [ONE.digest, THREE.digest, ONE.digest]
    assert "look again, then decide" in early.tags["v1"].reason
    assert list(world.conflicts()["v1"].sides.values()) == world.at()
    Drive(world.engine, decided).all()
    assert world.at() == everywhere(ONE)
    assert world.conflicts() == {}


def test_a_side_that_has_moved_since_is_not_taken(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    world.run()
    world.push(1, THREE)
    drive = Drive(world.engine, replace(only(world.spec, "v1"), take=world.names[1])).all()

    assert world.at() == [ONE.digest, THREE.digest, None]
    assert drive.states("v1") == ["held"] * 3
    short = THREE.digest[:12]
    assert short in drive.tags["v1"].reason


def test_a_side_that_has_no_such_tag_is_not_taken(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    world.run()
    world.push(1, ONE)
    drive = Drive(world.engine, replace(only(world.spec, "v1"), take=world.names[2])).all()

    assert drive.tags["v1"].reason == f"{world.names[2]} has no such tag: take another side"
    assert world.at() == [ONE.digest, ONE.digest, None]


# -- conflicts about what the mirror is not about any more ---------------------------------------------


@pytest.mark.parametrize("include", [("v2*",), ("v2",)])
def test_a_tag_that_left_the_selection_leaves_the_list(world: World, include: tuple[str, ...]) -> None:
    for tag in ("v1", "v2"):
        world.push(0, ONE, tag)
        world.push(1, TWO, tag)
    world.run()
    world.run(include=include)

    assert list(world.conflicts()) == ["v2"]
    assert [(one.tag, one.rule) for one in world.settled()] == [("v1", "unselected")]


def test_a_tag_that_never_was_agreed_on_and_is_gone_everywhere_leaves_the_list(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    world.run()
    world.delete(0)
    world.delete(1)
    world.run()

    assert world.conflicts() == {}
    assert [one.rule for one in world.settled()] == ["equal"]


def test_a_run_of_other_tags_closes_nothing(world: World) -> None:
    world.push(0, ONE)
    world.push(1, TWO)
    world.run()
    Drive(world.engine, only(world.spec, "v2")).all()

    assert list(world.conflicts()) == ["v1"]
