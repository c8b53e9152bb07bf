"""What the engine does about faults that pass, and about others that interfere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mirror import decide, land, waits
from mirror.engine import Engine
from mirror.flip import unflip
from mirror.ledger import LedgerError
from mirror.ledger.batches import Resolved
from mirror.spec import MirrorSpec, Target
from registry.images import Image, build_image, random_layer
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.engine import Drive, engine_on, only
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until


class World:
    """A source, and a target in each of two regions, with an engine that waits out outages."""

    def __init__(
        self, engine: Engine, source: MemoryRegistry, us: MemoryRegistry, eu: MemoryRegistry
    ) -> None:
        self.engine, self.source, self.us, self.eu = engine, source, us, eu
        targets = tuple(Target(f"{registry.host}/app", name) for name, registry in (("us", us), ("eu", eu)))
        self.spec = MirrorSpec("app", f"{source.host}/app", targets, referrers=False)

    def drive(self, *tags: str, engine: Engine | None = None, **terms: object) -> Drive:
        spec = only(self.spec, *tags) if tags else self.spec
        return Drive(engine or self.engine, replace(spec, **terms))  # type: ignore[arg-type]  # a test's own words

    def where(self, tag: str) -> list[str | None]:
        return [registry.tag("app", tag) for registry in (self.us, self.eu)]


@pytest.fixture
def world(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(waits, "FIRST_PAUSE_S", 0.0)
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey, outage_s=60.0) as engine,
    ):
        yield World(engine, source, us, eu)


def image(text: str) -> Image:
    return build_image({"app.txt": text.encode()}, layers=[random_layer(20_000)])


def test_a_registry_that_is_down_is_waited_out_in_the_ledger(world: World) -> None:
    world.source.hold("app", image("new"), "1.0")
    world.eu.stop()
    run = world.drive()
    run.resolve()
    run.land()

    assert run.finalize() == ["parked"]
    assert run.tags["1.0"].state == "waiting"
    assert "cannot connect" in run.tags["1.0"].reason
    assert world.us.tag("app", "1.0") is None, "with finalize: all nothing moves meanwhile"

    world.eu.start()
    assert run.to_end().report.states == {"updated": 1}
    assert world.where("1.0") == [image("new").digest] * 2


def test_an_outage_that_lasts_too_long_fails_the_tag_with_its_reason(world: World) -> None:
    world.source.hold("app", image("new"), "1.0")
    world.eu.stop()

    run = world.drive(engine=replace(world.engine, outage_s=0.0)).to_end()

    assert run.report.states == {"failed": 1}
    assert run.tags["1.0"].targets[1].kind == "Unreachable"


def test_a_region_that_is_down_delays_only_its_own_target_where_targets_move_on_their_own(
    world: World,
) -> None:
    world.source.hold("app", image("new"), "1.0")
    world.eu.stop()
    run = world.drive(finalize="each").all()

    assert run.states("1.0") == ["updated", "waiting"]
    assert world.us.tag("app", "1.0") == image("new").digest

    world.eu.start()
    assert run.to_end().states("1.0") == ["updated", "updated"]


def test_a_source_that_is_down_is_waited_for_before_the_first_tag_is_known(world: World) -> None:
    world.source.hold("app", image("new"), "1.0")
    world.source.stop()
    listed, named = world.drive(), world.drive("1.0")
    named.resolve()

    assert (listed.report.state, named.report.state) == ("open", "open")
    assert named.engine.ledger.batches.state(named.batches[0]) == "resolving"

    world.source.start()
    assert named.to_end().report.states == {"updated": 1}


def test_a_registry_that_asks_for_hours_gets_them(world: World) -> None:
    world.source.hold("app", image("new"), "1.0")

    def throttle(method: str, path: str) -> None:
        if method == "POST":
            raise ErrorReply(429, "TOOMANYREQUESTS", "slow down", {"Retry-After": "7200"})

    world.eu.on_request = throttle
    run = world.drive(engine=replace(world.engine, outage_s=0.0))
    run.resolve()
    run.land()
    assert run.finalize() == ["parked"]
    asked = len(world.eu.requests)

    run.to_end(rounds=3)

    assert len(world.eu.requests) == asked, "it is left alone until then"
    assert run.tags["1.0"].state == "waiting"
    waiting = run.engine.ledger.batches.outcomes(run.batches[0])["1.0", run.spec.targets[1].repository]
    assert 7000 < waiting.at - run.engine.ledger.now() <= 7200


def test_a_blob_that_another_worker_brings_for_long_is_waited_for_in_the_ledger(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(land, "LONGEST_BUSY_S", 0.2)
    monkeypatch.setattr(land, "BUSY_RETRY_S", 0.0)
    new = image("new")
    world.source.hold("app", new, "1.0")
    leases = world.engine.ledger.content.leases
    theirs = leases.take(world.eu.host, new.layers[0].descriptor.digest)
    assert theirs
    run = world.drive()
    run.resolve()
    run.land()

    assert run.finalize() == ["parked"]
    assert "another worker has been bringing this blob" in run.tags["1.0"].reason
    assert world.where("1.0") == [None, None]

    leases.release(theirs)
    assert run.to_end().report.states == {"updated": 1}


def test_a_permanent_fault_fails_its_tag_at_once_and_not_its_neighbours(world: World) -> None:
    bad, good = build_image({"bad": b"x"}), image("good")
    world.source.hold("app", bad, "bad")
    world.source.hold("app", good, "good")
    del world.source.blobs[bad.layers[0].descriptor.digest]

    run = world.drive().all()

    assert run.report.states == {"updated": 1, "failed": 1}
    assert run.tags["bad"].targets[0].kind == "NotFound"


def test_a_proof_that_has_grown_old_is_made_again_before_a_tag_moves(
    valkey: ValkeyServer, world: World
) -> None:
    new = image("new")
    world.source.hold("app", new, "1.0")
    engine = replace(world.engine, proof_s=0.2, memory=replace(world.engine.memory, present_s=1))
    run = world.drive(engine=engine)
    run.resolve()
    run.land("us")
    del world.us.blobs[new.layers[0].descriptor.digest]  # a garbage collector came by
    landed = engine.ledger.now()
    until(lambda: engine.ledger.now() > landed + 1.2, 5, "the proof to grow old")
    run.land("eu")

    assert run.finalize() == ["land"]
    run.land("us")
    assert run.finalize() == ["flip"]
    run.flip()
    run.conclude()
    assert world.us.holds_blob("app", new.layers[0].descriptor.digest)
    assert world.where("1.0") == [new.digest] * 2


def test_a_worker_that_slept_through_its_lease_does_not_bring_an_old_tag_back(world: World) -> None:
    old, new = image("old"), image("new")
    world.source.hold("app", old, "1.0")
    older = world.drive("1.0")
    older.resolve()
    older.land()
    older.finalize()
    slept = threading.Event()

    def sleep(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/1.0") and not slept.is_set():
            slept.set()  # the older run is past its last check; now the newer one overtakes it
            lapsed = world.engine.ledger._redis.keys("test:ledger:lease:flip*")
            world.engine.ledger._redis.delete(*lapsed)
            world.source.hold("app", new, "1.0")
            world.drive("1.0").all()

    world.eu.on_request = sleep
    older.flip()
    older.conclude()

    assert slept.is_set()
    assert world.where("1.0") == [new.digest] * 2
    assert "superseded" in older.states("1.0")


def test_a_tag_that_somebody_else_moved_meanwhile_is_not_taken_back(world: World) -> None:
    old, new, theirs = image("old"), image("new"), image("theirs")
    for registry in (world.source, world.us, world.eu):
        registry.hold("app", old, "1.0")
    world.source.hold("app", new, "1.0")

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/1.0"):
            world.us.hold("app", theirs, "1.0")
            raise ErrorReply(400, "TAG_INVALID", "tag is immutable")

    world.eu.on_request = refuse
    run = world.drive("1.0")
    run.resolve()
    run.land()
    run.finalize()
    run.flip("us")
    run.flip("eu")
    run.conclude()

    assert world.us.tag("app", "1.0") == theirs.digest
    assert run.states("1.0") == ["superseded", "failed"]


def test_a_tag_that_somebody_else_has_moved_is_theirs_though_what_it_was_is_gone(world: World) -> None:
    """Some registries lose what no tag names any more, at once."""
    old, new, theirs = image("old"), image("new"), image("theirs")
    for registry in (world.source, world.us, world.eu):
        registry.hold("app", old, "1.0")
    world.source.hold("app", new, "1.0")
    run = world.drive("1.0")
    run.resolve()
    run.land()
    run.finalize()
    run.flip("us")
    world.us.hold("app", theirs, "1.0")
    world.us.on_request = lacking(old.digest)
    world.eu.on_request = refusing_tags
    run.flip("eu")
    run.conclude()

    assert world.us.tag("app", "1.0") == theirs.digest
    assert run.states("1.0") == ["superseded", "failed"]


def lacking(digest: str) -> Callable[[str, str], None]:
    def hear(_: str, path: str) -> None:
        if path.endswith(f"/manifests/{digest}"):
            raise ErrorReply(404, "MANIFEST_UNKNOWN", "it was collected")

    return hear


def test_a_tag_that_reads_back_as_something_else_is_not_called_updated(world: World) -> None:
    new, theirs = image("new"), image("theirs")
    world.source.hold("app", new, "1.0")
    put = threading.Event()

    def overwrite(method: str, path: str) -> None:
        if path.endswith("/manifests/1.0"):
            if method == "PUT":
                put.set()
            elif put.is_set():
                world.eu.hold("app", theirs, "1.0")

    world.eu.on_request = overwrite
    run = world.drive("1.0", engine=replace(world.engine, outage_s=0.0)).to_end()

    assert run.tags["1.0"].targets[1].state == "failed"
    assert "reads back as" in run.tags["1.0"].targets[1].reason


def test_a_tag_that_a_replica_has_not_heard_of_yet_is_read_back_again(world: World) -> None:
    new = image("new")
    world.source.hold("app", new, "1.0")
    put, told = threading.Event(), threading.Event()

    def lag(method: str, path: str) -> None:
        if path.endswith("/manifests/1.0") and method == "PUT":
            put.set()
        elif path.endswith("/manifests/1.0") and put.is_set() and not told.is_set():
            told.set()
            raise ErrorReply(404, "MANIFEST_UNKNOWN", "no replica has it yet")

    world.eu.hold("app", image("old"), "1.0")
    world.eu.on_request = lag
    run = world.drive("1.0").to_end()

    assert told.is_set()
    assert {one.state for one in run.tags["1.0"].targets} == {"updated"}


@pytest.mark.parametrize("before", ["old", ""])
def test_a_move_that_was_made_but_could_not_be_read_back_is_taken_back_with_the_others(
    world: World, before: str
) -> None:
    if before:
        for registry in (world.source, world.us, world.eu):
            registry.hold("app", image(before), "1.0")
    new = image("new")
    world.source.hold("app", new, "1.0")
    put, denied = threading.Event(), threading.Event()

    def deny_the_next_look(method: str, path: str) -> None:
        if path.endswith("/manifests/1.0"):
            if method == "PUT":
                put.set()
            elif method == "HEAD" and put.is_set() and not denied.is_set():
                denied.set()
                raise ErrorReply(403, "DENIED", "not for you")

    world.eu.on_request = deny_the_next_look
    run = world.drive("1.0").all()

    assert denied.is_set()
    assert run.report.states == {"failed": 1}
    assert world.where("1.0") == [image(before).digest if before else None] * 2
    assert "it had moved and" in run.tags["1.0"].targets[1].reason


@pytest.mark.parametrize("theirs", ["newer", "new"])
def test_a_newer_run_keeps_a_tag_from_being_taken_back_only_where_it_wants_it_there(
    world: World, theirs: str
) -> None:
    old, new = image("old"), image("new")
    for registry in (world.source, world.us, world.eu):
        registry.hold("app", old, "1.0")
    world.source.hold("app", new, "1.0")

    def claim_and_refuse(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/1.0"):
            ledger, wanted = world.engine.ledger, image(theirs).manifest.descriptor
            newer = Resolved(
                "1.0", "1.0", wanted, generation=ledger.begin_question([], [])[0], at=ledger.now()
            )
            assert ledger.turns.claim(world.spec.targets[0].repository, newer) == "ours"
            raise ErrorReply(400, "TAG_INVALID", "tag is immutable")

    run = world.drive("1.0")
    run.resolve()
    run.land()
    run.finalize()
    run.flip("us")
    world.eu.on_request = claim_and_refuse
    run.flip("eu")
    run.conclude()

    assert world.us.tag("app", "1.0") == (new if theirs == "new" else old).digest
    assert run.states("1.0") == ["superseded" if theirs == "new" else "failed", "failed"]


@pytest.mark.parametrize("before", ["old", ""])
def test_a_taking_back_that_was_cut_short_before_it_was_written_down_is_owned_up_to(
    world: World, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before:
        for registry in (world.source, world.us, world.eu):
            registry.hold("app", image(before), "1.0")
    world.source.hold("app", image("new"), "1.0")
    run = world.drive("1.0")
    for step in (run.resolve, run.land, run.finalize, lambda: run.flip("us")):
        step()
    world.eu.on_request = refusing_tags
    run.flip("eu")
    ledger, batch = world.engine.ledger.batches, run.batches[0]
    assert decide.conclude(world.engine, batch).step == "return"
    with monkeypatch.context() as killed:
        killed.setattr(ledger, "record", fail_to_write)
        with pytest.raises(LedgerError):
            unflip(world.engine, batch, "us")
    assert world.where("1.0")[0] == (image(before).digest if before else None)

    unflip(world.engine, batch, "us")

    outcome = ledger.outcomes(batch)["1.0", world.spec.targets[0].repository]
    assert (outcome.state, "again" in outcome.reason) == ("returned", not before)


def test_a_tag_that_nobody_could_look_at_is_put_when_the_others_are_rolled_forward(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "ROLL_PAUSE_S", 0.0)
    with (
        MemoryRegistry() as source,
        MemoryRegistry(deletes=False) as us,
        MemoryRegistry(deletes=False) as eu,
        engine_on(valkey) as engine,
    ):
        world = World(engine, source, us, eu)
        source.hold("app", image("new"), "1.0")
        run = world.drive("1.0")
        for step in (run.resolve, run.land, run.finalize, lambda: run.flip("us")):
            step()
        eu.on_request = out_of_order
        run.flip("eu")
        run.conclude()
        assert world.where("1.0") == [image("new").digest, None]

        eu.on_request = None
        run.flip()
        run.conclude()

        assert world.where("1.0") == [image("new").digest] * 2
        assert run.states("1.0") == ["updated", "updated"]


def test_a_tag_that_was_removed_where_its_move_failed_and_rolled_forward_says_so(
    valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users may have seen it come and go."""
    monkeypatch.setattr(decide, "ROLL_PAUSE_S", 0.0)
    with (
        MemoryRegistry() as source,
        MemoryRegistry(deletes=False) as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        world = World(engine, source, us, eu)
        source.hold("app", image("new"), "1.0")
        run = world.drive("1.0")
        for step in (run.resolve, run.land, run.finalize, lambda: run.flip("us")):
            step()
        eu.on_request = closed_after_a_put()
        run.flip("eu")
        assert world.where("1.0") == [image("new").digest] * 2
        eu.on_request = None
        run.conclude()
        assert world.where("1.0") == [image("new").digest, None]
        run.flip()
        run.conclude()

        assert world.where("1.0") == [image("new").digest] * 2
        (batch,) = run.batches
        told = engine.ledger.batches.outcomes(batch)["1.0", world.spec.targets[1].repository]
        assert (told.state, told.reason) == ("updated", "was removed again")


def closed_after_a_put() -> Callable[[str, str], None]:
    """A registry that takes a tag, and tells nobody about it any more."""
    taken = list[str]()

    def hear(method: str, path: str) -> None:
        if path.endswith("/manifests/1.0"):
            if taken:
                raise ErrorReply(403, "DENIED", "closed")
            taken.extend([path] if method == "PUT" else [])

    return hear


def out_of_order(method: str, path: str) -> None:
    raise ErrorReply(503, "UNAVAILABLE", f"no {method} of {path} now")


def refusing_tags(method: str, path: str) -> None:
    if method == "PUT" and path.endswith("/manifests/1.0"):
        raise ErrorReply(400, "TAG_INVALID", "tag is immutable")


def fail_to_write(*_: object, **__: object) -> None:
    raise LedgerError("gone")
