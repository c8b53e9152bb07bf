"""Who content is read from: the nearest as probes found it, and any that has it while the source is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from mirror.engine import Engine, Limits
from mirror.ledger.probes import Measurement
from mirror.near import BELIEVED_S, Near, Order, near_first, order
from mirror.places import backed
from mirror.spec import MirrorSpec, ReadFrom, Target
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.endpoint import Endpoint
from registry.images import build_image, random_layer
from registry.memory import Cut, ErrorReply, MemoryRegistry, PullLimits
from tests.support.budget import ALL
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

LIMITS = Limits(copy_threads=3, haul_bytes=10**9, tee_bytes=10**9)
LAYER_BYTES = 400_000
IMAGE = build_image({"app": b"1"}, layers=[random_layer(LAYER_BYTES, seed=9)])
LAYER = max((blob.descriptor for blob in IMAGE.blobs), key=lambda blob: blob.size)
SLOW, FAST, FASTER = 1e6, 1e7, 1e8


@dataclass
class World:
    """A source and the registries of two regions."""

    engine: Engine
    source: MemoryRegistry
    eu: MemoryRegistry
    us: MemoryRegistry
    count: int = 0

    def spec(self, *regions: str, read_from: ReadFrom | None = None, referrers: bool = False) -> MirrorSpec:
        targets = tuple(Target(f"{getattr(self, region).host}/app", region) for region in regions)
        return MirrorSpec("app", f"{self.source.host}/app", targets, referrers=referrers, read_from=read_from)

    def found(self, region: str, registry: MemoryRegistry, speed: float | None) -> None:
        """A probe of that region; None: two in a row that failed, after one that did not."""
        for up in (True,) if speed else (True, False, False):
            self.count += 1
            one = Measurement(
                region, registry.host, self.engine.ledger.now(), up, 0.01, bytes_per_second=speed
            )
            self.engine.ledger.probes.record(one, f"probe {self.count}")
        self.engine.near._known.clear()

    def order(self, region: str, *, read_from: ReadFrom | None = None, is_limited: bool = False) -> Order:
        spec = self.spec("eu", "us", read_from=read_from)
        return order(self.engine.near, spec, region, self.source.host, is_limited=is_limited)

    @property
    def registries(self) -> tuple[MemoryRegistry, ...]:
        return self.source, self.eu, self.us

    def forget_requests(self) -> None:
        for registry in self.registries:
            registry.forget_requests()


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    yield from world_on(valkey, MemoryRegistry())


def world_on(valkey: ValkeyServer, source: MemoryRegistry) -> Iterator[World]:
    with ExitStack() as stack:
        stack.enter_context(source)
        source.hold("app", IMAGE, "1")
        eu, us = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        engine = stack.enter_context(engine_on(valkey, LIMITS, allowance=ALL))
        yield World(replace(engine, outage_s=600.0), source, eu, us)


def blobs(registry: MemoryRegistry) -> int:
    return registry.count("blob", "GET")


def asked_for_it(registry: MemoryRegistry) -> list[str]:
    """How the image's manifest was asked for by its digest; where pulls may count a HEAD comes first."""
    return [one.method for one in registry.requests if one.path.endswith(f"/manifests/{IMAGE.digest}")]


# -- the order ---------------------------------------------------------------------------------------------


def test_where_nothing_is_measured_the_source_is_read_and_the_others_stand_in(world: World) -> None:
    assert world.order("us") == Order((), (world.us.host, world.eu.host))
    assert world.order("us", read_from="targets") == Order((world.us.host, world.eu.host), (), once=True)
    assert world.order("us", is_limited=True).once


def test_only_what_is_nearer_than_the_source_is_read_before_it(world: World) -> None:
    world.found("us", world.source, FAST)
    world.found("us", world.us, FASTER)
    world.found("us", world.eu, SLOW)

    assert world.order("us") == Order((world.us.host,), (world.eu.host,))
    assert world.order("eu") == Order((), (world.eu.host, world.us.host)), "the other region's is its own"


def test_a_source_that_is_limited_is_asked_behind_all_others(world: World) -> None:
    world.found("us", world.source, FASTER)
    world.found("us", world.us, SLOW)
    world.found("us", world.eu, FAST)

    assert world.order("us", is_limited=True) == Order((world.eu.host, world.us.host), (), once=True)


def test_what_is_down_is_asked_last_and_a_source_that_is_down_behind_all(world: World) -> None:
    world.found("us", world.source, None)
    world.found("us", world.us, FAST)
    assert world.order("us") == Order((world.us.host, world.eu.host), ())

    world.found("us", world.us, None)
    assert world.order("us") == Order((world.eu.host,), (world.us.host,))


def test_read_from_source_lets_nobody_else_be_asked(world: World) -> None:
    world.found("us", world.source, None)
    world.found("us", world.us, FASTER)
    assert world.order("us", read_from="source") == Order()


def test_targets_are_read_the_nearest_first(world: World) -> None:
    spec = world.spec("eu", "us")
    names = {region: f"{getattr(world, region).host}/app" for region in ("eu", "us")}
    assert near_first(world.engine.near, spec, "us") == [names["us"], names["eu"]]

    world.found("us", world.us, SLOW)
    world.found("us", world.eu, FAST)

    assert near_first(world.engine.near, spec, "us") == [names["eu"], names["us"]]


def test_the_ledger_is_asked_every_few_seconds_and_not_for_each_blob(world: World) -> None:
    now = [0.0]
    near = Near(world.engine.ledger.probes, clock=lambda: now[0])
    assert near.reaches("us", [world.us.host])[0].last is None

    world.found("us", world.us, FAST)
    assert near.reaches("us", [world.us.host])[0].last is None
    now[0] += BELIEVED_S
    assert near.reaches("us", [world.us.host])[0].last is not None


def test_a_registry_that_this_region_cannot_ask_for_its_own_fault_holds_nobody_up(world: World) -> None:
    """Say, its proxy is set, or its certificate file there, for the workers of its own region alone."""
    wrong = Endpoint(world.us.host, ca_file="/nowhere/ca.pem", proxy="http://127.0.0.1:9")
    connections = Connections({world.us.host: wrong}, ChainedCredentials(()))
    run = Drive(replace(world.engine, open_repository=connections.open), world.spec("eu", "us"))
    run.resolve()

    run.land("eu")

    connections.close()
    assert world.eu.holds_blob("app", LAYER.digest)


# -- what is read ------------------------------------------------------------------------------------------


def test_a_blob_that_a_nearer_registry_holds_is_read_there(world: World) -> None:
    Drive(world.engine, world.spec("eu")).all()
    world.found("us", world.source, SLOW)
    world.found("us", world.eu, FAST)
    world.forget_requests()

    run = Drive(world.engine, world.spec("us", "eu")).all()

    assert run.report.state == "done"
    assert (blobs(world.source), blobs(world.eu)) == (0, len(IMAGE.blobs))
    assert world.us.tag("app", "1") == IMAGE.digest


def test_a_blob_is_read_at_the_source_where_that_is_nearer(world: World) -> None:
    Drive(world.engine, world.spec("eu")).all()
    world.found("us", world.source, FAST)
    world.found("us", world.eu, SLOW)
    world.forget_requests()

    Drive(world.engine, world.spec("us", "eu")).all()

    assert (blobs(world.source), blobs(world.eu)) == (len(IMAGE.blobs), 0)


def landed_in_eu(world: World, *, referrers: bool = False) -> Drive:
    """A run that ``us`` has still to land when the source goes away."""
    run = Drive(world.engine, world.spec("eu", "us", referrers=referrers))
    run.resolve()
    run.land("eu")
    world.source.stop()
    world.forget_requests()
    world.engine.ledger._redis.delete(world.engine.ledger.keys.manifest(IMAGE.digest))  # it has been hours
    world.engine.ledger.content._recent._kept.clear()
    return run


@pytest.mark.parametrize("is_measured", [True, False])
@pytest.mark.parametrize("referrers", [True, False])
def test_a_run_whose_tags_are_resolved_goes_on_from_elsewhere_while_its_source_is_away(
    world: World, *, is_measured: bool, referrers: bool
) -> None:
    run = landed_in_eu(world, referrers=referrers)
    if is_measured:
        world.found("us", world.source, None)

    run.land("us")
    run.finalize()
    run.flip()
    run.conclude()

    assert run.report.state == "done", run.tags
    assert world.us.tag("app", "1") == IMAGE.digest
    assert blobs(world.eu) == len(IMAGE.blobs)
    assert world.eu.count("manifest", "GET") == 1


def test_with_read_from_source_it_waits_instead(world: World) -> None:
    run = Drive(world.engine, world.spec("eu", "us", read_from="source"))
    run.resolve()
    run.land("eu")
    world.source.stop()

    run.land("us")

    assert run.states("1")[1] == "waiting", run.tags
    assert blobs(world.eu) == 0


def test_what_nobody_has_waits_for_the_source_and_names_it(world: World) -> None:
    run = Drive(world.engine, world.spec("eu", "us"))
    run.resolve()
    world.source.stop()

    run.land("us")

    outcome = run.tags["1"].targets[1]
    assert outcome.state == "waiting"
    assert world.source.host in outcome.reason
    for registry in (world.eu, world.us):
        assert len(asked_for_it(registry)) == 1, "nobody is asked twice for what he lacks"


def test_what_the_source_denies_is_not_looked_for_elsewhere(world: World) -> None:
    run = Drive(world.engine, world.spec("eu", "us"))
    run.resolve()

    def gone(method: str, path: str) -> None:
        if method == "GET" and "/manifests/" in path:
            raise ErrorReply(404, "MANIFEST_UNKNOWN", "it was deleted")

    world.source.on_request = gone
    world.forget_requests()

    run.land("us")

    assert run.states("1")[1] == "failed"
    assert asked_for_it(world.source), "it was tried"
    assert asked_for_it(world.eu) == asked_for_it(world.us) == []


def test_a_source_that_breaks_off_in_the_middle_of_a_blob_is_made_up_for(world: World) -> None:
    run = landed_in_eu(world)
    world.source.start()

    def cut(method: str, path: str) -> None:
        if method == "GET" and "/blobs/" in path:
            raise Cut(LAYER_BYTES // 2)

    world.source.on_request = cut

    run.land("us")
    run.finalize()
    run.flip()
    run.conclude()

    assert run.report.state == "done", run.tags
    asked = [one.path for one in world.source.requests if "/blobs/" in one.path]
    assert asked, "it was tried"
    assert len(asked) == len(set(asked)), "no blob twice"
    assert blobs(world.eu) >= 1


def test_each_repository_of_a_registry_stands_in_for_what_it_holds(world: World) -> None:
    spec = world.spec("eu")
    both = tuple(Target(f"{world.us.host}/{name}", "us") for name in ("app", "empty"))
    source = world.engine.open_repository(spec.source)
    world.us.hold("app", IMAGE, "1")
    world.source.stop()

    for targets in (both, both[::-1]):
        found = backed(world.engine, replace(spec, targets=(*spec.targets, *targets)), "eu", source)
        assert found.manifest(IMAGE.digest).digest == IMAGE.digest


def spoiled(size: int) -> bytes:
    return b"x" * size


def test_a_stand_in_that_sends_other_bytes_does_no_harm(world: World) -> None:
    run = landed_in_eu(world)
    world.eu.blobs[LAYER.digest] = spoiled(LAYER.size)

    run.land("us")

    outcome = run.tags["1"].targets[1]
    assert outcome.state == "waiting"
    assert outcome.reason.startswith(f"{world.source.host}/"), "the source may have the right ones"
    assert not world.us.holds_blob("app", LAYER.digest)


@pytest.mark.parametrize("tee_bytes", [0, 10**9])
def test_a_stand_in_that_sends_other_bytes_is_named_and_the_next_is_asked(
    world: World, caplog: pytest.LogCaptureFixture, tee_bytes: int
) -> None:
    with MemoryRegistry() as ap, MemoryRegistry() as us_too:
        spec = world.spec("eu", "us")
        targets = (*spec.targets, Target(f"{ap.host}/app", "ap"), Target(f"{us_too.host}/app", "us"))
        engine = replace(world.engine, limits=replace(LIMITS, tee_bytes=tee_bytes))
        run = Drive(engine, replace(spec, targets=targets))
        run.resolve()
        for region in ("eu", "ap"):
            run.land(region)
        world.source.stop()
        world.eu.blobs[LAYER.digest] = spoiled(LAYER.size)
        engine.shunned.add(ap.host)  # it is no sibling that serves it, but one of many that stand in

        run.land("us")

        run.finalize()
        run.flip()
        run.conclude()
        assert run.report.state == "done", run.tags
        for registry in (world.us, us_too):
            assert registry.holds_blob("app", LAYER.digest)
        said = [one.getMessage() for one in caplog.records if one.name == "mirror"]
        assert f"{world.eu.host}/app@{LAYER.digest}: its bytes hash to " in "".join(said)


def test_a_stand_in_that_sends_another_manifest_is_named_and_the_next_is_asked(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    with MemoryRegistry() as ap:
        ap.hold("app", IMAGE, "1")
        spec = world.spec("eu", "us")
        targets = (*spec.targets, Target(f"{ap.host}/app", "ap"))
        source = world.engine.open_repository(spec.source)
        world.source.stop()
        another = build_image({"app": b"2"}).manifest.content
        world.eu.plant("app", IMAGE.digest, replace(IMAGE.manifest, content=another))

        found = backed(world.engine, replace(spec, targets=targets), "eu", source).manifest(IMAGE.digest)

        assert found.digest == IMAGE.digest
        assert asked_for_it(world.eu)
        assert any(world.eu.host in one.getMessage() for one in caplog.records)


def test_a_manifest_that_a_target_is_known_to_hold_costs_a_limited_source_no_pull(
    valkey: ValkeyServer,
) -> None:
    for world in world_on(valkey, MemoryRegistry(pulls=PullLimits(100))):
        run = landed_in_eu(world)
        world.source.start()
        world.forget_requests()

        run.land("us")

        assert world.source.count("manifest", "GET") == 0
        assert world.eu.count("manifest", "GET") == 1
