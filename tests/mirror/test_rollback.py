"""Rollback: tags go back together, to content that the targets have, and stay there if that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest

from mirror.engine import Engine
from mirror.ledger.history import Flip
from mirror.rollback import NoWayBack, digest_before, digest_named, rollback_of
from mirror.spec import MirrorSpec, Target, Verification
from registry.images import Image, Index, build_artifact, build_image, build_index
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
    def spec(self) -> MirrorSpec:
        targets = Target(f"{self.us.host}/app", "us"), Target(f"{self.eu.host}/app", "eu")
        return MirrorSpec("app", f"{self.source.host}/app", targets)

    def sync(self, image: Image | Index | None = None, *tags: str) -> Drive:
        for tag in tags or ("v1",):
            if image is not None:
                self.source.hold("app", image, tag)
        return Drive(self.engine, self.spec).all()

    def rollback(self, *images: tuple[str, Image | Index], pin: bool = False) -> Drive:
        digests = {tag: image.digest for tag, image in images}
        return Drive(self.engine, rollback_of(self.spec, digests, pin=pin)).all()

    def tags(self, tag: str = "v1") -> list[str | None]:
        return [registry.tag("app", tag) for registry in (self.us, self.eu)]

    def lose(self, registry: MemoryRegistry, *images: Image | Index) -> None:
        """As a garbage collection would, behind everybody's back; the ledger has seen it some time ago."""
        for image in images:
            self.engine.open_repository(f"{registry.host}/app").delete_manifest(image.digest)
            for blob in image.blobs if isinstance(image, Image) else ():
                del registry.blobs[blob.descriptor.digest]
                self.engine.ledger.content.forget(registry.host, "app", [blob.descriptor.digest])
            self.engine.ledger.content.forget(registry.host, "app", [image.digest])

    def pinned(self) -> list[tuple[str, str]]:
        return [(one.tag, one.digest) for one in self.engine.ledger.pins.all()]


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        yield World(engine, source, us, eu)


def test_a_tag_goes_back_everywhere_without_a_word_to_the_source(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    world.source.forget_requests()

    drive = world.rollback(("v1", ONE))

    assert drive.states("v1") == ["updated", "updated"]
    assert world.tags() == [ONE.digest, ONE.digest]
    assert world.source.requests == []
    last = world.engine.ledger.history.last("app", "v1")
    assert last is not None
    assert (last.run, last.to, set(last.previous.values())) == (drive.run, ONE.digest, {TWO.digest})


def test_what_one_target_has_lost_comes_from_the_other(world: World) -> None:
    index = build_index([ONE, THREE])
    world.sync(index)
    world.sync(TWO)
    world.lose(world.eu, index, ONE, THREE)

    drive = world.rollback(("v1", index))

    assert drive.report.state == "done", drive.report.failures
    assert world.tags() == [index.digest, index.digest]
    assert THREE.digest in world.eu.manifests("app")
    assert all(world.eu.holds_blob("app", blob.descriptor.digest) for blob in (*ONE.blobs, *THREE.blobs))


def test_what_is_whole_nowhere_is_refused_by_name_and_moves_nowhere(world: World) -> None:
    world.sync(ONE, "v1", "v2")
    world.sync(TWO, "v1", "v2")
    for registry in (world.us, world.eu):
        world.lose(registry, ONE)

    drive = world.rollback(("v1", ONE), ("v2", THREE))

    assert drive.report.state == "failed"
    assert world.tags() == world.tags("v2") == [TWO.digest, TWO.digest]
    reasons = {tag: one.reason for tag, one in drive.tags.items()}
    assert any(blob.descriptor.digest in reasons["v1"] for blob in ONE.blobs), (
        "its manifest is in the ledger yet"
    )
    assert THREE.digest in reasons["v2"]
    assert all(f"none in {world.eu.host} either" in reason for reason in reasons.values()), reasons


def test_a_layer_that_is_nowhere_any_more_is_named_and_the_tag_moves_nowhere(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    layer = ONE.layers[0].descriptor.digest
    for registry in (world.us, world.eu):
        del registry.blobs[layer]
        world.engine.ledger.content.forget(registry.host, "app", [layer])

    drive = world.rollback(("v1", ONE))

    assert drive.report.state == "failed"
    assert world.tags() == [TWO.digest, TWO.digest]
    assert layer in drive.tags["v1"].reason
    assert drive.tags["v1"].reason.count("either") == 1


def test_a_tag_that_no_target_has_or_had_is_not_made(world: World) -> None:
    world.sync(ONE, "v1.0", "v1.1")

    drive = world.rollback(("v1.00", ONE), ("v1.1", ONE))

    assert (drive.states("v1.00"), drive.states("v1.1")) == (["failed", "failed"], ["current", "current"])
    assert world.tags("v1.00") == [None, None]
    reason = "no target has a tag v1.00, and no move of it is remembered; did you mean v1.0 or v1.1?"
    assert drive.tags["v1.00"].reason == reason


def test_a_tag_of_somebody_elses_moves_and_a_deleted_one_comes_back(world: World) -> None:
    world.sync(ONE)
    world.us.hold("app", TWO, "theirs")
    for registry in (world.us, world.eu):
        world.engine.open_repository(f"{registry.host}/app").delete_manifest("v1")

    drive = world.rollback(("theirs", ONE), ("v1", ONE))

    assert drive.report.state == "done", drive.report.failures
    assert world.tags("theirs") == world.tags() == [ONE.digest, ONE.digest]


def test_where_one_target_refuses_the_others_keep_what_they_have(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/manifests/v1"):
            raise ErrorReply(403, "DENIED", "no")

    world.eu.on_request = refuse
    drive = world.rollback(("v1", ONE), pin=True)

    assert drive.report.state == "failed"
    assert world.tags() == [TWO.digest, TWO.digest]
    assert world.pinned() == [], "a pin of what did not happen would hold the tag for nothing"


class Closed:
    """Workers of two regions that each reach their own registry only, and of control that reach none."""

    def __init__(self, world: World, drive: Drive) -> None:
        self._world, self._drive = world, drive

    def all(self) -> Drive:
        drive, us, eu = self._drive, self._world.us, self._world.eu
        self._while(drive.resolve, us, eu)
        for step in (drive.land, drive.flip):
            self._while(partial(step, "us"), eu)
            self._while(partial(step, "eu"), us)
            self._while(drive.finalize if step == drive.land else drive.conclude, us, eu)
        return drive

    def _while(self, step: Callable[..., object], *closed: MemoryRegistry) -> None:
        def refuse(method: str, path: str) -> None:
            raise ErrorReply(503, "UNAVAILABLE", f"{method} {path}: out of reach")

        for registry in closed:
            registry.on_request = refuse
        step()
        for registry in closed:
            registry.on_request = None


def test_regions_that_reach_only_their_own_registry_go_back_together(world: World) -> None:
    index, signature = build_index([ONE, THREE]), build_artifact({"sig": b"x"}, artifact_type="a/sig")
    name = f"{index.digest.replace(':', '-')}.sig"
    world.sync(index, "v1", "v2")
    world.sync(TWO, "v1", "v2")
    world.us.hold("app", signature, name)  # which nobody can bring to eu
    for manifest in (index, ONE, THREE):
        world.engine.ledger.content._redis.delete(world.engine.ledger.keys.manifest(manifest.digest))

    drive = Closed(world, Drive(world.engine, rollback_of(world.spec, {"v1": index.digest}, pin=False))).all()

    assert drive.states("v1") == ["updated", "updated"], drive.tags
    assert world.tags() == [index.digest, index.digest]
    assert world.tags(name) == [signature.digest, None]


def test_a_target_that_takes_a_signature_later_gets_it_before_its_image(world: World) -> None:
    signature = build_artifact({"sig": b"x"}, artifact_type="application/vnd.dev.cosign")
    name = f"{ONE.digest.replace(':', '-')}.sig"
    world.source.hold("app", signature, name)
    world.sync(ONE)
    world.sync(TWO)
    world.engine.open_repository(f"{world.eu.host}/app").delete_manifest(name)

    def busy(method: str, path: str) -> None:
        if method == "PUT" and path.endswith(".sig"):
            raise ErrorReply(503, "UNAVAILABLE", "try later")

    world.eu.on_request = busy
    drive = world.rollback(("v1", ONE))

    assert drive.report.state == "failed"
    assert world.tags() == [TWO.digest, TWO.digest], "an image without its signature is not what it was"


def test_a_region_that_has_lost_the_image_and_reaches_no_other_fails_it_for_all(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    world.lose(world.eu, ONE)

    drive = Closed(world, Drive(world.engine, rollback_of(world.spec, {"v1": ONE.digest}, pin=False))).all()

    assert world.tags() == [TWO.digest, TWO.digest]
    assert drive.states("v1") == ["failed", "failed"]
    assert world.us.host in drive.tags["v1"].reason, "it is said who could not be asked"


def test_signatures_go_where_they_are_missing(world: World) -> None:
    signature = build_artifact({"sig": b"x"}, artifact_type="application/vnd.dev.cosign")
    name = f"{ONE.digest.replace(':', '-')}.sig"
    world.source.hold("app", signature, name)
    world.sync(ONE)
    world.sync(TWO)
    world.engine.open_repository(f"{world.eu.host}/app").delete_manifest(name)

    world.rollback(("v1", ONE))

    assert world.tags(name) == [signature.digest, signature.digest]


def test_a_pinned_tag_is_held_until_it_is_let_go_and_others_move_on(world: World) -> None:
    world.sync(ONE, "v1", "v2")
    world.sync(TWO, "v1", "v2")
    rollback = world.rollback(("v1", ONE), pin=True)

    held = world.sync(THREE, "v1", "v2")

    assert world.pinned() == [("v1", ONE.digest)]
    assert held.report.state == "done"
    assert (held.states("v1"), held.states("v2")) == (["pinned", "pinned"], ["updated", "updated"])
    reason = held.tags["v1"].reason
    assert reason.startswith(f"pinned at {ONE.digest} since 20")
    assert reason.endswith(f"by rollback {rollback.run}; `sealift unpin app v1` lets it go")
    assert world.tags() == [ONE.digest, ONE.digest]

    assert world.engine.ledger.pins.drop("app", ["v1", "v2"]) == ["v1"]
    assert world.sync().states("v1") == ["updated", "updated"]


def test_a_pinned_tag_that_the_source_agrees_with_is_current(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    world.rollback(("v1", ONE), pin=True)

    assert world.sync(ONE).states("v1") == ["current", "current"]


def test_a_pinned_tag_is_verified_and_repaired_at_its_pin_and_not_at_its_source(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    world.rollback(("v1", ONE), pin=True)
    verify = replace(world.spec, kind="verify", refs=(("v1", "v1"),), verification=Verification())
    assert Drive(world.engine, verify).to_end().report.states == {"current": 1}

    world.eu.hold("app", TWO, "v1")
    found = Drive(world.engine, verify).to_end().tags["v1"].targets
    assert [one.kind for one in found] == ["", "Different"]
    assert found[1].reason.endswith(f"is at {TWO.digest} instead of {ONE.digest}")

    assert Drive(world.engine, replace(verify, kind="repair")).to_end().states("v1") == ["current", "updated"]
    assert world.tags() == [ONE.digest, ONE.digest]
    assert world.pinned() == [("v1", ONE.digest)]


def test_a_pin_that_nobody_can_keep_is_missing_everywhere(world: World) -> None:
    world.sync(ONE)
    world.engine.ledger.pins.put("app", "run", {"v1": THREE.digest})
    verify = replace(world.spec, kind="verify", refs=(("v1", "v1"),), verification=Verification())

    run = Drive(world.engine, verify).to_end()

    assert [one.missing for one in run.report.found] == [1, 1]
    assert "`sealift unpin app v1` lets it go; but " in run.tags["v1"].reason


def test_a_rollback_that_fails_leaves_the_pin_that_there_was(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    world.rollback(("v1", ONE), pin=True)

    failed = world.rollback(("v1", THREE), pin=True)  # which is nowhere

    assert failed.report.state == "failed"
    assert world.pinned() == [("v1", ONE.digest)]


def test_the_pin_of_a_tag_goes_along_with_a_rollback_that_pins_nothing_itself(world: World) -> None:
    for image in (ONE, TWO, THREE):
        world.sync(image, "v1", "v2")
    world.rollback(("v1", ONE), pin=True)

    later = world.rollback(("v1", TWO), ("v2", TWO))

    assert world.pinned() == [("v1", TWO.digest)], "v2 was not pinned"
    assert [pin.run for pin in world.engine.ledger.pins.all()] == [later.run]
    after = world.sync()
    assert (after.states("v1"), after.states("v2")) == (["pinned", "pinned"], ["updated", "updated"])
    assert world.tags() == [TWO.digest, TWO.digest]


def test_the_pin_stays_where_it_was_when_such_a_rollback_fails(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    world.rollback(("v1", ONE), pin=True)

    failed = world.rollback(("v1", THREE))  # which is nowhere

    assert failed.report.state == "failed"
    assert world.pinned() == [("v1", ONE.digest)]


def test_a_pin_holds_from_before_its_rollback_moves_anything(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    rollback = Drive(world.engine, rollback_of(world.spec, {"v1": ONE.digest}, pin=True))
    rollback.resolve()  # here the fleet is killed

    assert world.sync().states("v1") == ["pinned", "pinned"]
    rollback.all()
    assert world.tags() == [ONE.digest, ONE.digest]
    assert world.pinned() == [("v1", ONE.digest)]


def test_a_run_that_asked_before_the_pin_does_not_undo_the_rollback(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    world.source.hold("app", THREE, "v1")
    sync = Drive(world.engine, world.spec)
    sync.resolve()
    sync.land()

    world.rollback(("v1", ONE), pin=True)
    sync.finalize()
    sync.flip()
    sync.conclude()

    assert sync.states("v1") == ["superseded", "superseded"]
    assert world.tags() == [ONE.digest, ONE.digest]


def test_somebody_who_unpins_meanwhile_has_the_last_word(world: World) -> None:
    world.sync(ONE)
    world.sync(TWO)
    rollback = Drive(world.engine, rollback_of(world.spec, {"v1": ONE.digest}, pin=True))
    rollback.resolve()
    world.engine.ledger.pins.drop("app", ["v1"])

    rollback.all()

    assert world.pinned() == []


def test_not_even_in_the_moment_in_which_the_rollback_concludes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.sync(ONE)
    world.sync(TWO)
    pins = world.engine.ledger.pins
    read = pins._rows

    def read_and_let_go(mirror: str, tags: Sequence[str]) -> list[bytes | None]:
        rows = read(mirror, tags)
        pins.drop(mirror, tags)
        return rows

    monkeypatch.setattr(pins, "_rows", read_and_let_go)

    world.rollback(("v1", ONE), pin=True)

    assert world.pinned() == []


# -- which digest ----------------------------------------------------------------------------------


def flip(run: str, to: str, *previous: str | None) -> Flip:
    return Flip("v1", 1.0, run, to, {f"target-{number}": one for number, one in enumerate(previous)})


TARGETS = ("target-0", "target-1")
FLIPS = (
    flip("r4", "sha256:c", None),  # a target that came later
    flip("r3", "sha256:c", "sha256:b", "sha256:b"),
    flip("r2", "sha256:b", "sha256:a", None),
)


@pytest.mark.parametrize(("run", "digest"), [("", "sha256:b"), ("r3", "sha256:b"), ("r2", "sha256:a")])
def test_the_digest_before_a_run_or_before_the_last_move(run: str, digest: str) -> None:
    assert digest_before("v1", FLIPS, TARGETS, run) == digest


@pytest.mark.parametrize(
    ("flips", "run", "says"),
    [
        ((), "", "v1: no move of it is remembered"),
        (FLIPS, "r9", "v1: no move of it by run r9 is remembered"),
        (FLIPS[:1], "", "v1: run r4 only brought it to where it was missing: nothing to go back to"),
        (
            (flip("r1", "sha256:a", None, None),),
            "",
            "v1: it was new with run r1: there is nothing to go back to",
        ),
        ((flip("r1", "c", "a", "b"),), "", "before run r1 it was a in target-0, b in target-1: say which"),
        ((flip("r1", "c", "a"),), "", "before run r1 it was a in target-0, c in target-1: say which"),
    ],
)
def test_a_tag_without_a_way_back_is_named(flips: Sequence[Flip], run: str, says: str) -> None:
    with pytest.raises(NoWayBack, match=says):
        digest_before("v1", flips, TARGETS, run)


def test_a_digest_is_named_in_full_or_by_how_it_begins_in_the_history() -> None:
    other = f"sha256:{'9' * 64}"

    assert digest_named("v1", FLIPS, other) == other
    assert digest_named("v1", FLIPS, "sha256:a") == "sha256:a"
    with pytest.raises(NoWayBack, match="3 digests of its history begin with 'sha256:'"):
        digest_named("v1", FLIPS, "sha256:")
    with pytest.raises(NoWayBack, match="no digest of its history begins with 'sha256:f'"):
        digest_named("v1", FLIPS, "sha256:f")


def test_a_rollback_keeps_the_mirrors_terms_and_moves_all_targets_together(world: World) -> None:
    spec = rollback_of(
        replace(world.spec, finalize="each", platforms=("linux/amd64",), newest=3, trust_s=60),
        {"v1": ONE.digest},
        pin=False,
    )

    assert (spec.finalize, spec.platforms, spec.targets) == ("all", ("linux/amd64",), world.spec.targets)
    assert (spec.newest, spec.trust_s) == (None, 0)
