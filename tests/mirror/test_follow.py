"""Deletions in two-way mirrors that are carried over: only what all had, and only if every guard agrees."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mirror.engine import Engine
from mirror.follow import follow
from mirror.ledger.conflicts import Conflict
from mirror.spec import TARGETS, MirrorSpec, Target
from registry.deletion import tombstone
from registry.images import build_image
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.engine import Drive, engine_on, only
from tests.support.valkey import ValkeyServer

ONE, TWO = (build_image({"app": text}) for text in (b"one", b"two"))
REGIONS = ("us", "eu", "eu")
GONE = [None] * 3
CONFIG = b'{"architecture":"unknown","os":"unknown","rootfs":{"type":"layers","diff_ids":[]}}'


@dataclass
class World:
    """Three sides in two regions that agree on ``v1``, ``v2`` and ``v3``."""

    engine: Engine
    sides: list[MemoryRegistry]
    spec: MirrorSpec

    @property
    def names(self) -> list[str]:
        return [target.repository for target in self.spec.targets]

    def push(self, side: int, image: Any = ONE, tag: str = "v1") -> None:
        self.sides[side].hold("app", image, tag)

    def delete(self, side: int, tag: str = "v1") -> None:
        self.sides[side].untag("app", tag)

    def at(self, tag: str = "v1") -> list[str | None]:
        return [side.tag("app", tag) for side in self.sides]

    def run(self, **terms: Any) -> Drive:
        drive = Drive(self.engine, replace(self.spec, **terms)).all()
        self.finish(drive)
        return drive

    def finish(self, drive: Drive, *regions: str) -> None:
        for region in self.engine.ledger.gone.regions_to_do(drive.run, regions or drive.spec.regions):
            follow(self.engine, drive.run, region)

    def about(self, drive: Drive, tag: str = "v1") -> dict[int, tuple[str, str]]:
        """By side: what the run says of its deletion there, and why."""
        found = [one for one in self.engine.ledger.gone.deletions(drive.run) if one.tag == tag]
        return {self.names.index(one.target): (one.state, one.reason) for one in found}

    def agreed(self, tag: str = "v1") -> str | None:
        return self.engine.ledger.conflicts.known(self.spec, [tag])[tag].base

    def conflicts(self) -> dict[str, Conflict]:
        return {one.tag: one for one in self.engine.ledger.conflicts.open("app")}

    def missed(self) -> set[str]:
        return {tag for tag, _ in self.engine.ledger.conflicts.deleted.of("app")}


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with ExitStack() as stack:
        engine = stack.enter_context(engine_on(valkey))
        ways: Any = (True, True, "digests")
        sides = [stack.enter_context(MemoryRegistry(deletes=way)) for way in ways]
        names = [f"{side.host}/app" for side in sides]
        targets = tuple(Target(name, region) for name, region in zip(names, REGIONS, strict=True))
        spec = MirrorSpec("app", TARGETS, targets, kind="two_way", two_way=True, delete="mirror")
        world = World(engine, sides, replace(spec, delete_after_s=0, delete_share=50))
        for tag in ("v1", "v2", "v3"):
            world.push(0, tag=tag)
        world.run()
        yield world


@pytest.mark.parametrize("side", [0, 1, 2])
def test_what_one_side_deleted_goes_from_the_others_with_the_run_after_the_one_that_saw_it(
    world: World, side: int
) -> None:
    world.delete(side)
    first = world.run()

    assert first.report.state == "done"
    assert first.states("v1") == ["current"] * 3
    assert {state for state, _ in world.about(first).values()} == {"waiting"}
    assert world.conflicts() == {}
    second = world.run()

    assert second.report.state == "done"
    assert world.about(second) == {other: ("deleted", "") for other in range(3) if other != side}
    assert world.at() == GONE
    assert (world.agreed(), world.missed()) == (None, set())
    assert world.at("v2") == [ONE.digest] * 3


def test_then_nothing_is_left_to_do_and_the_tag_may_come_again(world: World) -> None:
    world.delete(1)
    for _ in range(2):
        world.run()
    for side in world.sides:
        side.forget_requests()
    world.run()
    assert {one.method for side in world.sides for one in side.requests} <= {"GET", "HEAD"}
    world.push(2)
    world.run()

    assert world.at() == [ONE.digest] * 3


def test_nothing_is_deleted_before_its_time(world: World) -> None:
    world.delete(0)
    for _ in range(2):
        world.run(delete_after_s=3600)
    drive = world.run(delete_after_s=3600)

    assert {state for state, _ in world.about(drive).values()} == {"waiting"}
    assert world.at() == [None, ONE.digest, ONE.digest]


def test_without_propagate_a_deletion_stays_a_conflict_and_its_time_is_counted_anew(world: World) -> None:
    world.delete(0)
    world.run()
    world.run(delete="never")

    assert world.conflicts()["v1"].kind == "deleted"
    assert world.missed() == set()
    drive = world.run()
    assert {state for state, _ in world.about(drive).values()} == {"waiting"}
    assert world.conflicts() == {}
    assert [one.rule for one in world.engine.ledger.conflicts.settled("app")] == ["propagate"]


def test_a_deletion_beside_a_push_is_a_conflict(world: World) -> None:
    world.delete(0)
    world.push(1, TWO)
    for _ in range(3):
        world.run()

    assert world.at() == [None, TWO.digest, ONE.digest]
    assert world.conflicts()["v1"].kind == "conflict"


def test_a_push_between_the_look_and_the_deletion_is_kept(world: World) -> None:
    world.delete(0)
    world.run()
    drive = Drive(world.engine, world.spec).all()
    world.push(1, TWO)
    world.finish(drive)

    said = world.about(drive)
    assert [said[1][0], said[2][0]] == ["kept", "kept"]
    assert said[1][1].startswith("somebody else has moved it, to")
    assert said[2][1].startswith("somebody else has moved it, in")
    assert world.at() == [None, TWO.digest, ONE.digest]


def test_only_what_this_run_saw_deleted_goes(world: World) -> None:
    world.delete(0)
    world.run()
    world.push(1, TWO)
    drive = Drive(world.engine, world.spec).all()
    world.push(1)
    world.finish(drive)

    assert world.about(drive) == {}
    assert world.at() == [None, ONE.digest, ONE.digest]


def test_the_same_digest_pushed_again_where_it_was_deleted_brings_the_tag_back(world: World) -> None:
    world.delete(0)
    world.run()
    drive = Drive(world.engine, world.spec).all()
    world.push(0)
    world.finish(drive)

    assert set(world.about(drive).values()) == {("kept", f"{world.names[0]} has it again")}
    world.run()
    assert world.at() == [ONE.digest] * 3
    assert world.missed() == set()


def refusing(method: str, _: str) -> None:
    if method == "DELETE":
        raise ErrorReply(403, "DENIED", "no")


def half_followed(world: World) -> None:
    """Deleted on the first side, and by a run on the second; the third would not have it."""
    world.delete(0)
    world.run()
    world.sides[2].on_request = refusing
    drive = world.run()
    world.sides[2].on_request = None
    assert world.at() == [None, None, ONE.digest]
    assert drive.report.state == "failed"


def test_the_same_digest_pushed_again_where_it_was_deleted_is_brought_to_where_we_deleted_it(
    world: World,
) -> None:
    half_followed(world)
    world.push(0)
    world.run()

    assert world.at() == [ONE.digest] * 3


def test_the_same_digest_pushed_again_where_we_deleted_it_is_a_conflict_with_the_deletion(
    world: World,
) -> None:
    half_followed(world)
    world.push(1)
    for _ in range(2):
        world.run()

    assert world.at() == [None, ONE.digest, ONE.digest]
    assert world.conflicts()["v1"].kind == "conflict"


def test_what_is_back_on_one_side_and_moved_on_another_is_a_conflict(world: World) -> None:
    world.delete(0)
    world.run()
    world.push(0)
    world.push(1, TWO)
    world.run()

    assert world.at() == [ONE.digest, TWO.digest, ONE.digest]
    assert world.conflicts()["v1"].kind == "conflict"


def test_what_could_not_be_deleted_is_tried_again_by_the_next_run(world: World) -> None:
    world.delete(0)
    world.run()
    world.sides[2].on_request = refusing
    failed = world.run()
    world.sides[2].on_request = None
    assert world.about(failed)[2][0] == "failed"
    world.run()

    assert world.at() == GONE
    assert world.agreed() is None


def test_a_registry_that_cannot_delete_is_named(valkey: ValkeyServer) -> None:
    with MemoryRegistry() as one, MemoryRegistry(deletes=False) as two, engine_on(valkey) as engine:
        targets = Target(f"{one.host}/app"), Target(f"{two.host}/app")
        spec = MirrorSpec("app", TARGETS, targets, kind="two_way", two_way=True, delete="mirror")
        world = World(engine, [one, two], replace(spec, delete_after_s=0, delete_share=100))
        for tag in ("v1", "v2"):
            world.push(0, tag=tag)
        world.run()
        world.delete(0)
        world.run()
        drive = world.run()

        assert world.about(drive)[1][0] == "failed"
        assert "the registry does not delete by this API" in world.about(drive)[1][1]
        assert world.at() == [None, ONE.digest], "and it is not brought back"


def test_a_side_that_lists_nothing_has_deleted_nothing(world: World) -> None:
    for tag in ("v1", "v2", "v3"):
        world.delete(0, tag)
    for _ in range(2):
        world.run()
    drive = world.run()

    assert world.about(drive) == {}
    assert world.at() == [None, ONE.digest, ONE.digest]
    assert {one.kind for one in world.conflicts().values()} == {"deleted"}, "somebody is told"


def test_a_side_that_does_not_answer_has_deleted_nothing(world: World) -> None:
    world.delete(1)
    world.run()

    def dead(_method: str, _path: str) -> None:
        raise ErrorReply(503, "UNAVAILABLE", "not now")

    world.sides[0].on_request = dead
    drive = Drive(world.engine, world.spec)
    world.finish(drive)
    world.sides[0].on_request = None

    assert drive.report.state == "failed"
    assert world.at() == [ONE.digest, None, ONE.digest]


def test_too_many_at_once_stay_and_the_run_says_why(world: World) -> None:
    for tag in ("v1", "v2"):
        world.delete(0, tag)
    world.run()
    drive = world.run(delete_share=34)

    assert [state for state, _ in world.about(drive).values()] == ["kept", "kept"]
    assert "2 of 3 tags that all sides had are deleted on one" in world.about(drive)[1][1]
    assert world.at() == [None, ONE.digest, ONE.digest]


def test_a_pinned_tag_stays(world: World) -> None:
    world.delete(0)
    world.run()
    world.engine.ledger.pins.put("app", "earlier", {"v1": ONE.digest})
    world.run()

    assert world.at() == [None, ONE.digest, ONE.digest]


def test_an_immutable_tag_is_left_to_a_person(world: World) -> None:
    world.delete(0)
    for _ in range(3):
        world.run(immutable=("v*",))

    assert world.conflicts()["v1"].kind == "deleted"
    assert world.at() == [None, ONE.digest, ONE.digest]


def test_a_run_of_named_tags_deletes_nothing(world: World) -> None:
    world.delete(0)
    world.run()
    drive = Drive(world.engine, only(world.spec, "v1")).all()
    world.finish(drive)

    assert drive.report.state == "done"
    assert world.at() == [None, ONE.digest, ONE.digest]


def test_a_tag_that_left_the_selection_is_not_deleted_as_soon_as_it_comes_back(world: World) -> None:
    world.delete(0)
    world.run()
    world.run(exclude=("v1",))
    drive = world.run()

    assert {state for state, _ in world.about(drive).values()} == {"waiting"}
    assert world.at() == [None, ONE.digest, ONE.digest]


def test_a_tombstone_on_a_side_is_a_deletion(world: World) -> None:
    name = world.names[0]
    marker = tombstone(name, "v1")
    side = world.engine.open_repository(name)
    upload = side.start_upload(marker.blobs[0])
    assert upload is not None
    side.finish_upload(upload, marker.blobs[0], (CONFIG,))
    side.put_manifest("v1", marker)
    for _ in range(2):
        world.run()

    assert world.at() == GONE
    assert world.agreed() is None


def test_whoever_repeats_a_deletion_finds_what_was_done(world: World) -> None:
    world.delete(0)
    world.run()
    drive = Drive(world.engine, world.spec).all()
    world.finish(drive, "us")
    world.finish(drive, "eu")
    for region in drive.spec.regions:
        follow(world.engine, drive.run, region)

    assert drive.report.deletions == {"deleted": 2}
    assert world.at() == GONE
