"""A blob that a registry of the mirror holds is read there before a limited source is asked (issue 5)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from mirror import siblings
from mirror.engine import Engine, Limits, Progress
from mirror.spec import MirrorSpec, ReadFrom, Target
from mirror.stage import Stage
from mirror.transfer import Busy
from registry.images import Image, build_image, random_layer
from registry.memory import Cut, ErrorReply, Hook, MemoryRegistry, PullLimits
from tests.support.budget import ALL
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

LAYER_BYTES = 700_000
LIMITS = Limits(copy_threads=3, haul_bytes=10**9, tee_bytes=10**9)


@dataclass
class World:
    """A source that counts pulls and a registry in each of three regions."""

    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry
    ap: MemoryRegistry

    def spec(self, *regions: str, read_from: ReadFrom | None = None) -> MirrorSpec:
        targets = tuple(Target(f"{getattr(self, region).host}/app", region) for region in regions)
        spec = MirrorSpec("app", f"{self.source.host}/app", targets, referrers=False)
        return replace(spec, read_from=read_from)

    def drive(self, *regions: str, read_from: ReadFrom | None = None) -> Drive:
        return Drive(self.engine, self.spec(*regions, read_from=read_from))

    def lands(self, *regions: str, read_from: ReadFrom | None = None) -> None:
        """A run that goes well; requests are counted from its begin."""
        for registry in (self.source, self.us, self.eu, self.ap):
            registry.forget_requests()
        run = self.drive(*regions, read_from=read_from).all()
        assert run.report.state == "done", run.tags
        for region in regions:
            assert getattr(self, region).tag("app", "1.0") == IMAGE.digest


IMAGE: Image = build_image({"app.txt": b"one"}, layers=[random_layer(LAYER_BYTES, seed=5)])
BLOBS = sorted({blob.descriptor.digest for blob in IMAGE.blobs})
LAYER = next(blob.descriptor for blob in IMAGE.blobs if blob.descriptor.size >= LAYER_BYTES)


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with ExitStack() as stack:
        source = stack.enter_context(MemoryRegistry(pulls=PullLimits(1000)))
        source.hold("app", IMAGE, "1.0")
        targets = [stack.enter_context(MemoryRegistry()) for _ in range(3)]
        yield World(stack.enter_context(engine_on(valkey, LIMITS, allowance=ALL)), source, *targets)


def reads(registry: MemoryRegistry) -> list[str]:
    """The blobs that were read there, each time by its digest."""
    found = (one for one in registry.requests if (one.kind, one.method) == ("blob", "GET"))
    return sorted(one.path.rsplit("/", 1)[1] for one in found)


def test_a_sibling_that_holds_a_blob_serves_it_and_the_source_sends_nothing(world: World) -> None:
    world.lands("eu")
    assert reads(world.source) == BLOBS

    world.lands("us", "eu")

    assert (reads(world.source), reads(world.eu)) == ([], BLOBS)


def test_of_several_regions_one_reads_the_source_and_the_others_read_there(world: World) -> None:
    world.lands("us", "eu", "ap")

    assert reads(world.source) == BLOBS
    assert sorted(reads(world.us) + reads(world.eu) + reads(world.ap)) == sorted(BLOBS * 2)


def test_the_nearest_registry_is_asked_first(world: World) -> None:
    world.lands("eu")
    world.lands("us")
    spec = world.spec("eu", "us", "ap")
    near = replace(spec, targets=(*spec.targets[:1], replace(spec.targets[1], region="ap"), spec.targets[2]))

    assert Drive(world.engine, near).all().report.state == "done"

    assert reads(world.us) == BLOBS, "its own region's"
    assert reads(world.eu) == []


@pytest.mark.parametrize(
    ("pulls", "read_from", "times"), [(True, "source", 2), (False, None, 2), (False, "targets", 1)]
)
def test_a_source_that_gives_without_limit_is_read_by_each_region_unless_the_mirror_says_otherwise(
    valkey: ValkeyServer,
    pulls: bool,  # noqa: FBT001 -- a parameter of the test
    read_from: ReadFrom | None,
    times: int,
) -> None:
    with ExitStack() as stack:
        source = stack.enter_context(MemoryRegistry(pulls=PullLimits(1000) if pulls else None))
        source.hold("app", IMAGE, "1.0")
        targets = [stack.enter_context(MemoryRegistry()) for _ in range(3)]
        engine = stack.enter_context(engine_on(valkey, LIMITS, allowance=ALL))
        World(engine, source, *targets).lands("us", "eu", read_from=read_from)

        assert reads(source) == sorted(BLOBS * times)


def test_while_a_worker_reads_at_the_source_the_others_leave_the_blob_to_it(world: World) -> None:
    spec = world.spec("us", "eu", read_from="targets")
    source, us, eu = (
        world.engine.open_repository(f"{one.host}/app") for one in (world.source, world.us, world.eu)
    )
    run = Drive(world.engine, spec)
    run.resolve()
    carriers = {region: stage_of(run, region).carrier() for region in ("us", "eu")}
    with (
        ThreadPoolExecutor(1) as pool,
        world.source.pause(lambda method, path: method == "GET" and LAYER.digest in path) as held,
    ):
        first = pool.submit(carriers["us"].place, LAYER, source, [us])
        assert held.reached.wait(10)
        with pytest.raises(Busy) as busy:
            carriers["eu"].place(LAYER, source, [eu])
        held.release()
        assert first.result(10)[us.name].how == "copied"

    assert busy.value.place == world.source.host
    assert world.eu.open_sessions == 0
    assert carriers["eu"].place(LAYER, source, [eu])[eu.name].how == "copied"
    assert (reads(world.source), reads(world.us)) == ([LAYER.digest], [LAYER.digest])


def stage_of(run: Drive, region: str) -> Stage:
    return Stage.open(run.engine, run.batches[0], region, Progress(run.engine.ledger, run.batches[0], region))


def test_a_registry_that_cannot_be_read_from_here_is_asked_once_and_then_left_out(world: World) -> None:
    world.lands("eu")
    world.eu.on_request = refusing("GET", 403)

    run = world.drive("us", "eu")
    one_at_a_time = replace(world.engine, limits=replace(LIMITS, copy_threads=1))
    run.engine = one_at_a_time
    world.eu.forget_requests()
    world.source.forget_requests()

    assert run.all().states("1.0") == ["updated", "current"]
    assert reads(world.source) == BLOBS
    assert len(reads(world.eu)) == 1
    assert world.eu.host in world.engine.shunned


def test_a_registry_that_was_left_out_is_asked_again_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("mirror.siblings.time.monotonic", lambda: clock[0])
    shunned = siblings.Shunned()
    assert "eu.example" not in shunned
    shunned.add("eu.example")
    assert "eu.example" in shunned
    clock[0] = siblings.SHUNNED_S
    assert "eu.example" not in shunned


def test_a_blob_that_a_sibling_has_lost_comes_from_the_source_and_is_believed_there_no_more(
    world: World,
) -> None:
    world.lands("eu")
    del world.eu.blobs[LAYER.digest]

    world.lands("us", "eu")

    assert reads(world.source) == [LAYER.digest]
    assert world.eu.host not in world.engine.shunned
    assert world.engine.ledger.content.sight(world.eu.host, "other", LAYER.digest).holder is None


def test_a_sibling_that_breaks_off_is_gone_on_with_at_the_source(world: World) -> None:
    world.lands("eu")
    world.eu.on_request = cutting(LAYER.digest)

    world.lands("us", "eu")

    asked = [one for one in world.source.requests if one.kind == "blob"]
    assert [one.path.rsplit("/", 1)[1] for one in asked] == [LAYER.digest]
    assert world.us.holds_blob("app", LAYER.digest)


def test_wrong_bytes_of_a_sibling_reach_nobody_and_the_source_is_asked(world: World) -> None:
    world.lands("eu")
    right = world.eu.blobs[LAYER.digest]
    world.eu.blobs[LAYER.digest] = b"!" + bytes(right)[1:]

    world.lands("us", "eu")

    assert reads(world.source) == [LAYER.digest]
    assert bytes(world.us.blobs[LAYER.digest]) == bytes(right)


def refusing(method: str, status: int) -> Hook:
    def refuse(asked: str, path: str) -> None:
        if asked == method and "/blobs/" in path:
            raise ErrorReply(status, "DENIED", "not from there")

    return refuse


def cutting(digest: str) -> Hook:
    def cut(method: str, path: str) -> None:
        if method == "GET" and digest in path:
            raise Cut(LAYER_BYTES // 2)

    return cut
