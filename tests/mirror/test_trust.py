"""``trust_ledger_for``: a target is not asked again for what the ledger has seen there (issue 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from mirror.engine import Engine
from mirror.ledger.batches import Resolved
from mirror.ledger.proofs import Seen
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_MANIFEST, Descriptor
from registry.images import Image, build_image, build_signature, signature_tag
from registry.memory import ErrorReply, Hook, MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

HOUR = 3600
TAGS = ("1.0", "1.1", "1.2")


@dataclass
class World:
    """A source of TAGS and a target in each of two regions, all of which are current."""

    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry

    @property
    def spec(self) -> MirrorSpec:
        targets = tuple(
            Target(f"{one.host}/app", region) for region, one in (("us", self.us), ("eu", self.eu))
        )
        return MirrorSpec("app", f"{self.source.host}/app", targets, trust_s=HOUR)

    def drive(self, **terms: object) -> Drive:
        """A run, counted from its begin."""
        for registry in (self.source, self.us, self.eu):
            registry.forget_requests()
        return Drive(self.engine, replace(self.spec, **terms)).all()  # type: ignore[arg-type]  # a test's own words

    def age(self, registry: MemoryRegistry, tag: str, seconds: float) -> None:
        """As if the target had been asked for the tag so much earlier."""
        redis, key = self.engine.ledger._redis, self.engine.ledger.keys.proved(f"{registry.host}/app")
        digest, at = redis.hget(key, tag).decode().split(" ")
        redis.hset(key, tag, f"{digest} {float(at) - seconds}")


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        for tag in TAGS:
            source.hold("app", image(tag), tag)
        made = World(engine, source, us, eu)
        assert made.drive().report.states == {"updated": len(TAGS)}
        yield made


def image(text: str) -> Image:
    return build_image({"app.txt": text.encode()})


def asked(registry: MemoryRegistry) -> list[str]:
    """``HEAD 1.0`` for each request about a manifest."""
    found = (one for one in registry.requests if one.kind == "manifest")
    return sorted(f"{one.method} {one.path.rsplit('/', 1)[1]}" for one in found)


def test_a_run_again_asks_the_source_for_each_tag_and_no_target_for_anything(world: World) -> None:
    run = world.drive()

    assert run.report.states == {"current": len(TAGS)}
    assert asked(world.source) == [f"HEAD {tag}" for tag in TAGS]
    assert list(world.us.requests) == list(world.eu.requests) == []


def test_a_mirror_that_does_not_trust_the_ledger_asks_every_target(world: World) -> None:
    assert world.drive(trust_s=0).report.states == {"current": len(TAGS)}

    assert asked(world.us) == asked(world.eu) == [f"HEAD {tag}" for tag in TAGS]


def test_what_was_seen_too_long_ago_is_asked_for_and_believed_again(world: World) -> None:
    world.age(world.us, "1.1", HOUR + 1)
    world.age(world.us, "1.2", HOUR - 600)

    world.drive()
    assert (asked(world.us), asked(world.eu)) == (["HEAD 1.1"], [])

    world.age(world.us, "1.1", HOUR - 600)
    world.age(world.us, "1.2", 601)
    world.drive()
    assert asked(world.us) == ["HEAD 1.2"], "being believed proves nothing: its hour began when it was asked"


def test_a_tag_that_has_moved_at_the_source_is_looked_at_and_moved_as_always(world: World) -> None:
    world.source.hold("app", image("new"), "1.1")
    world.us.hold("app", image("by hand"), "1.1")

    run = world.drive()

    assert run.report.states == {"current": 2, "updated": 1}
    assert run.tags["1.1"].targets[0].previous == image("by hand").digest, "what it was is journalled"
    assert world.us.tag("app", "1.1") == world.eu.tag("app", "1.1") == image("new").digest
    assert {words.split(" ")[1] for words in asked(world.us)} <= {"1.1", image("new").digest}


def test_a_tag_is_asked_for_where_it_was_never_seen(world: World) -> None:
    world.source.hold("app", image("more"), "2.0")
    world.us.hold("app", image("more"), "2.0")

    run = world.drive()

    assert run.states("2.0") == ["current", "updated"]
    assert world.drive().report.states == {"current": 4}
    assert list(world.us.requests) == list(world.eu.requests) == [], "now it was"


def test_a_run_that_meant_to_move_a_tag_has_it_asked_for(world: World) -> None:
    """It may have been killed after its PUT, and the source may have gone back to what it was."""
    claim(world, image("new").digest)
    world.us.hold("app", image("new"), "1.1")

    assert world.drive().tags["1.1"].targets[0].state != "current"
    assert "HEAD 1.1" in asked(world.us)


def test_a_move_that_was_taken_back_is_not_taken_for_made(world: World) -> None:
    world.source.hold("app", image("new"), "1.1")
    world.eu.on_request = denying("PUT", "/manifests/1.1")
    run = world.drive()
    outcomes = world.engine.ledger.batches.outcomes(run.batches[0])
    assert outcomes["1.1", f"{world.us.host}/app"].state == "returned"
    world.eu.on_request = None

    again = world.drive()

    assert again.states("1.1") == ["updated", "updated"]
    assert world.us.tag("app", "1.1") == image("new").digest


def test_what_was_seen_before_a_claim_or_under_another_one_proves_nothing(world: World) -> None:
    ledger, name = world.engine.ledger, f"{world.us.host}/app"
    old, new = image("1.1").digest, image("new").digest

    def is_proved(*seen: Seen) -> bool:
        pipe = ledger.together()
        ledger.proofs.keep(name, seen, HOUR, pipe)
        pipe.execute()
        return ledger.proofs.known(name, {"1.1": seen[0][1]}, 0.0) == {"1.1"}

    before = ledger.now()
    claim(world, new)
    assert not is_proved(("1.1", old, ledger.now())), "a run is about to move it"
    assert not is_proved(("1.1", new, before)), "it had not moved it yet"
    assert is_proved(("1.1", new, ledger.now()))

    seen = ledger.now()
    with ledger.turns.take_back(name, "1.1"):
        pass
    assert not is_proved(("1.1", new, seen)), "it went back since"


def test_a_signature_that_could_not_be_put_is_tried_again(world: World) -> None:
    signed, signature = image("1.1"), build_signature(image("1.1"))
    world.source.hold("app", signature, signature_tag(signed.digest))
    world.age(world.us, "1.1", HOUR + 1)
    world.us.on_request = denying("PUT", f"/manifests/{signature_tag(signed.digest)}")
    assert world.drive().states("1.1")[0] == "failed"
    world.us.on_request = None

    world.drive()

    assert world.us.tag("app", signature_tag(signed.digest)) == signature.digest
    world.drive()
    assert list(world.us.requests) == []


def claim(world: World, digest: str) -> None:
    """As a run does that is about to move 1.1 in ``us``."""
    ledger, at = world.engine.ledger, Descriptor(OCI_MANIFEST, digest, 1)
    generation, now, *_ = ledger.begin_question((), ())
    one = Resolved("1.1", "1.1", at, generation=generation, at=now)
    assert ledger.turns.claim(f"{world.us.host}/app", one) == "ours"


def denying(method: str, end: str) -> Hook:
    def deny(asked_method: str, path: str) -> None:
        if asked_method == method and path.endswith(end):
            raise ErrorReply(403, "DENIED", "not this one")

    return deny
