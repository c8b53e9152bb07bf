"""What is remembered of each tag: when it was moved, by which run, from what to what, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.spec import MirrorSpec, Target
from registry.images import Image, build_image
from registry.memory import ErrorReply, MemoryRegistry
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
    def names(self) -> tuple[str, str]:
        return f"{self.us.host}/app", f"{self.eu.host}/app"

    @property
    def spec(self) -> MirrorSpec:
        us, eu = self.names
        return MirrorSpec("tools", f"{self.source.host}/app", (Target(us, "us"), Target(eu, "eu")))

    def move(self, image: Image, tag: str = "v1") -> str:
        self.source.hold("app", image, tag)
        return Drive(self.engine, self.spec).all().run

    def remembered(self, tag: str = "v1") -> list[tuple[str, str, dict[str, str | None]]]:
        flips = self.engine.ledger.history.of("tools", [tag]).get(tag, [])
        return [(one.run, one.to, dict(one.previous)) for one in flips]


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        yield World(engine, source, us, eu)


def test_each_move_is_remembered_with_what_was_there_before_and_where(world: World) -> None:
    us, eu = world.names
    first = world.move(ONE)
    world.move(ONE)  # nothing moves
    second = world.move(TWO)

    assert world.remembered() == [
        (second, TWO.digest, {us: ONE.digest, eu: ONE.digest}),
        (first, ONE.digest, {us: None, eu: None}),
    ]
    at = [one.at_s for one in world.engine.ledger.history.of("tools", ["v1"])["v1"]]
    now = world.engine.ledger.now()
    assert now - 60 < at[1] <= at[0] <= now


def test_targets_that_were_not_alike_keep_each_its_own_digest(world: World) -> None:
    us, eu = world.names
    world.us.hold("app", THREE, "v1")
    run = world.move(ONE)

    assert world.remembered() == [(run, ONE.digest, {us: THREE.digest, eu: None})]


def test_a_target_that_had_the_digest_already_is_not_among_those_that_moved(world: World) -> None:
    us, _ = world.names
    world.eu.hold("app", ONE, "v1")
    run = world.move(ONE)

    assert world.remembered() == [(run, ONE.digest, {us: None})]


def test_a_tag_that_went_back_was_not_moved(world: World) -> None:
    world.move(ONE)

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/v1"):
            raise ErrorReply(403, "DENIED", "no")

    world.eu.on_request = refuse
    world.move(TWO)

    assert [to for _, to, _ in world.remembered()] == [ONE.digest]


def test_only_the_last_moves_are_kept(world: World, valkey: ValkeyServer) -> None:
    with engine_on(valkey) as engine:
        world.engine = replace(engine, ledger=Ledger(valkey.client(), flips_kept=2))
        runs = [world.move(image) for image in (ONE, TWO, THREE, ONE)]

        assert [run for run, _, _ in world.remembered()] == [runs[3], runs[2]]


def test_of_every_tag_there_is_its_own_history(world: World) -> None:
    world.source.hold("app", ONE, "v2")
    world.move(TWO)

    found = {(one.tag, one.to) for one in world.engine.ledger.history.all("tools")}

    assert found == {("v1", TWO.digest), ("v2", ONE.digest)}
