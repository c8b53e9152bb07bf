"""``keep``: what a tag was stays safe in each target, by keeper tags, and its manifests in the ledger."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import pytest
from redis import Redis

from mirror import keepers
from mirror.engine import Engine
from mirror.ledger import LedgerError
from mirror.ledger.keeps import GONE_S
from mirror.rollback import rollback_of
from mirror.select import Selection, is_keeper_tag, keeper_tag
from mirror.spec import MirrorSpec, Target
from registry.descriptor import Platform
from registry.images import Image, Index, build_image, build_index
from registry.manifest import Manifest
from registry.memory import ErrorReply, MemoryRegistry
from registry.memory_api import Deletes
from tests.conftest import RegistryFactory
from tests.support import skopeo
from tests.support.engine import Drive, engine_on
from tests.support.pushing import push
from tests.support.valkey import ValkeyServer

ARM = Platform("linux", "arm64")


def image(text: str) -> Image:
    return build_image({"app": text.encode()})


def index(text: str) -> Index:
    return build_index([image(text), build_image({"app": f"{text} for arm".encode()}, platform=ARM)])


ONE, TWO, THREE, FOUR, FIVE = (image(text) for text in ("one", "two", "three", "four", "five"))


@dataclass
class World:
    engine: Engine
    client: Redis
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry

    @property
    def spec(self) -> MirrorSpec:
        targets = Target(f"{self.us.host}/app", "us"), Target(f"{self.eu.host}/app", "eu")
        return MirrorSpec("app", f"{self.source.host}/app", targets, keep=2)

    def move(self, content: Image | Index, spec: MirrorSpec | None = None) -> Drive:
        self.source.hold("app", content, "v1")
        return Drive(self.engine, spec or self.spec).all()

    def rollback(self, content: Image | Index) -> Drive:
        return Drive(self.engine, rollback_of(self.spec, {"v1": content.digest}, pin=False)).all()

    def kept(self, registry: MemoryRegistry | None = None) -> dict[str, str]:
        return {
            tag: digest for tag, digest in (registry or self.us).tags("app").items() if is_keeper_tag(tag)
        }

    def lives(self, content: Image | Index) -> int:
        """Seconds that the ledger has the manifests for; -1: as long as they are kept, -2: not at all."""
        return int(self.client.ttl(self.engine.ledger.keys.kept_manifests(content.digest)))


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
        valkey.client() as client,
    ):
        yield World(engine, client, source, us, eu)


def test_each_target_keeps_the_last_images_of_a_tag_and_no_more(world: World) -> None:
    for content in (ONE, TWO, THREE, FOUR):
        world.move(content)

    for registry in (world.us, world.eu):
        assert world.kept(registry) == {
            "sealift-keep.0.v1": THREE.digest,  # where ONE was
            "sealift-keep.1.v1": TWO.digest,
        }
    assert [world.lives(one) for one in (TWO, THREE, FOUR)] == [-1, -1, -2]
    assert 0 < world.lives(ONE) <= GONE_S


def test_a_tag_that_is_new_or_stays_keeps_nothing(world: World) -> None:
    world.move(ONE)
    world.move(ONE)

    assert world.kept() == {}


def test_the_children_of_an_index_are_kept_by_tags_of_their_own(world: World) -> None:
    old = index("old")
    world.move(old)
    world.move(ONE)

    assert world.kept() == {
        "sealift-keep.0.v1": old.digest,
        "sealift-keep.0-0.v1": old.children[0].digest,
        "sealift-keep.0-1.v1": old.children[1].digest,
    }


def test_an_index_of_which_only_one_platform_is_mirrored_is_kept_as_it_is(world: World) -> None:
    old, spec = index("old"), replace(world.spec, platforms=("linux/arm64",))
    world.move(old, spec)
    world.move(ONE, spec)

    assert world.kept() == {"sealift-keep.0.v1": old.digest, "sealift-keep.0-0.v1": old.children[1].digest}


@pytest.mark.parametrize("deletes", [True, "digests"])
def test_a_smaller_keep_frees_what_is_too_much_with_the_next_move(world: World, deletes: Deletes) -> None:
    with MemoryRegistry(deletes=deletes) as world.us:
        for content in (index("old"), ONE, TWO, THREE, FOUR):
            world.move(content, replace(world.spec, keep=4))
        assert len(world.kept()) == 4 + 2

        world.move(FIVE, replace(world.spec, keep=1))
        assert set(world.kept().values()) == {FOUR.digest}
        assert [world.lives(one) >= 0 for one in (index("old"), ONE, TWO, THREE)] == [True] * 4
        assert world.us.tag("app", "v1") == FIVE.digest

        world.move(ONE, replace(world.spec, keep=0))
        assert world.kept() == world.kept(world.eu) == {}
        assert world.client.keys("test:ledger:kept:*") == []


def test_a_run_of_no_fleet_file_takes_no_former_image_away(world: World) -> None:
    for content in (ONE, TWO, THREE):
        world.move(content)
    kept = world.kept()

    world.move(FOUR, replace(world.spec, keep=None))

    assert kept
    assert world.kept() == kept


def test_the_keepers_below_an_index_go_when_its_slot_is_anothers(world: World) -> None:
    spec = replace(world.spec, keep=1)
    for content in (index("one"), ONE, TWO):
        world.move(content, spec)

    assert world.kept() == {"sealift-keep.0.v1": ONE.digest}


def test_keepers_do_not_pile_up(world: World) -> None:
    for number in range(10):
        world.move(index(f"number {number}") if number % 4 else image(f"number {number}"))
        roots = [tag for tag in world.kept() if "-" not in tag.removeprefix("sealift-keep.")]
        assert len(roots) == min(number, 2)
        assert len(world.kept()) <= 2 * 3
    (slots,) = world.engine.ledger.keeps.slots([(f"{world.us.host}/app", "v1")])
    assert len(world.kept()) == sum(1 + one.below for one in slots)


def test_a_registry_that_cannot_delete_reuses_what_is_too_much(world: World) -> None:
    with MemoryRegistry(deletes=False) as world.us:
        for content in (ONE, TWO, THREE, FOUR):
            world.move(content, replace(world.spec, keep=3))
        less = replace(world.spec, keep=1)
        assert world.move(FIVE, less).report.state == "done"
        assert set(world.kept().values()) == {FOUR.digest, THREE.digest, TWO.digest}
        world.move(ONE, less)
        assert set(world.kept().values()) == {FIVE.digest, FOUR.digest, THREE.digest}
        assert set(world.kept(world.eu).values()) == {FIVE.digest}


def test_a_freeing_that_was_cut_short_is_finished_by_the_next_move(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (ONE, TWO, THREE):
        world.move(content)
    less = replace(world.spec, keep=1)

    def killed(*_: object) -> None:
        raise LedgerError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(keepers, "delete_tag", killed)
        with pytest.raises(LedgerError):
            world.move(FOUR, less)
    world.move(FOUR, less)
    world.move(FIVE, less)

    assert set(world.kept().values()) == {FOUR.digest}


def test_where_one_target_is_alone_it_keeps_what_is_there_just_before_the_move(world: World) -> None:
    spec = replace(world.spec, targets=world.spec.targets[:1])
    world.move(ONE, spec)
    world.source.hold("app", THREE, "v1")
    drive = Drive(world.engine, spec)
    drive.resolve()
    drive.land()
    world.us.hold("app", TWO, "v1")  # somebody else, meanwhile
    drive.finalize()
    drive.flip()
    drive.conclude()

    assert drive.states("v1") == ["updated"]
    assert world.kept() == {"sealift-keep.0.v1": TWO.digest}


def test_a_rollback_keeps_what_it_goes_back_to_until_the_tag_is_there(world: World) -> None:
    for content in (ONE, TWO, THREE):
        world.move(content)
    before = world.kept()
    world.rollback(ONE)

    assert set(world.kept().values()) == {ONE.digest, TWO.digest, THREE.digest}
    assert all(world.kept()[tag] == digest for tag, digest in before.items()), "no slot was taken over"
    assert world.us.tag("app", "v1") == ONE.digest


def test_a_flip_that_is_repeated_takes_no_second_slot(world: World) -> None:
    world.move(ONE)
    world.source.hold("app", TWO, "v1")
    drive = Drive(world.engine, world.spec)
    drive.resolve()
    drive.land()
    drive.finalize()
    drive.flip("us")
    world.engine.ledger.batches.reopen(drive.batches[0], ["us"], "flipped")
    drive.flip()
    drive.conclude()

    assert world.kept() == {"sealift-keep.0.v1": ONE.digest}


def test_a_manifest_that_every_registry_has_lost_comes_from_the_ledger(world: World) -> None:
    old = index("old")
    world.move(old)
    world.move(ONE)
    for registry in (world.us, world.eu):
        place = world.engine.open_repository(f"{registry.host}/app")
        for lost in (old, *old.children):
            place.delete_manifest(lost.digest)
            world.engine.ledger.content.forget(registry.host, "app", [lost.digest])
            world.client.delete(world.engine.ledger.keys.manifest(lost.digest))
    other = engine_without_memory(world)

    drive = Drive(other, rollback_of(world.spec, {"v1": old.digest}, pin=False)).all()

    assert drive.states("v1") == ["updated", "updated"], drive.tags
    assert {one.digest for one in old.children} <= set(world.us.manifests("app"))


def engine_without_memory(world: World) -> Engine:
    """Another process of the fleet: this one remembers manifests that it has used."""
    from mirror.ledger import Ledger

    return replace(world.engine, ledger=Ledger(world.client, "test:"))


def test_a_target_that_will_not_keep_lets_nothing_move(world: World) -> None:
    world.move(ONE)

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and "sealift-keep" in path:
            raise ErrorReply(403, "DENIED", "no such tags here")

    world.eu.on_request = refuse
    drive = world.move(TWO)

    assert drive.report.state == "failed"
    assert {world.us.tag("app", "v1"), world.eu.tag("app", "v1")} == {ONE.digest}
    assert "no such tags here" in drive.tags["v1"].reason


def test_what_is_damaged_already_is_not_kept_and_does_not_keep_the_tag_from_moving(world: World) -> None:
    world.move(ONE)
    del world.us.blobs[ONE.layers[0].descriptor.digest]

    assert world.move(TWO).states("v1") == ["updated", "updated"]
    assert (world.kept(world.us), world.kept(world.eu)) == ({}, {"sealift-keep.0.v1": ONE.digest})


def test_keeper_tags_of_the_source_are_not_mirrored(world: World) -> None:
    world.source.hold("app", TWO, "sealift-keep.0.v1")
    world.source.hold("app", TWO, "sealift-keep.12-3.v1")
    world.move(ONE)

    assert set(world.us.tags("app")) == {"v1"}


def test_a_keeper_tag_cannot_be_selected_by_name() -> None:
    with pytest.raises(ValueError, match="a keeper tag of a former image"):
        Selection(include=("sealift-keep.0.v1",))


def test_the_keeper_of_a_long_tag_is_no_longer_than_a_tag_may_be() -> None:
    names = {keeper_tag("x" * 127 + last, 100, 63) for last in "ab"}

    assert len(names) == 2
    assert all(len(name) <= 128 and is_keeper_tag(name) for name in names)
    assert not any(map(is_keeper_tag, ("sealift-keep", "sealift-keep.v1", "a-sealift-keep.0.v1")))


@pytest.mark.parametrize("keep", [2, 1, 0])
def test_slots_that_are_on_record_without_what_is_below_them_are_taken_and_freed(
    world: World, keep: int
) -> None:
    for content in (ONE, TWO, THREE):
        world.move(content)
    for registry in (world.us, world.eu):  # as rows were before keepers had tags for children
        key = world.engine.ledger.keys.kept(f"{registry.host}/app")
        rows = json.loads(cast("bytes", world.client.hget(key, "v1")))
        world.client.hset(key, "v1", json.dumps([row[:2] for row in rows], separators=(",", ":")))
    run = world.move(FOUR, replace(world.spec, keep=keep))

    assert set(run.states("v1")) == {"updated"}
    assert len(world.kept()) == keep


def test_manifests_stay_for_as_long_as_any_tag_keeps_them(world: World) -> None:
    keeps = world.engine.ledger.keeps

    def take(tag: str, content: Image) -> int:
        return keeps.take("us/app", tag, FIVE.digest, 1, [content.manifest])

    take("v1", ONE)
    take("v2", ONE)
    take("v1", TWO)
    assert world.lives(ONE) == -1
    take("v2", TWO)
    assert world.lives(ONE) > 0
    take("v2", ONE)
    assert world.lives(ONE) == -1, "it came back"
    assert [one.digest for one in keeps.manifests(ONE.digest)] == [ONE.digest]


def test_bytes_are_kept_as_they_are(world: World) -> None:
    odd = Manifest.parse(ONE.manifest.content + b"\n  ", ONE.manifest.media_type)
    world.engine.ledger.keeps.take("us/app", "v1", TWO.digest, 1, [odd])

    assert world.engine.ledger.keeps.manifests(odd.digest) == [odd]


@skopeo.needs_skopeo
def test_a_kept_index_outlives_a_real_garbage_collection(
    world: World, registry_factory: RegistryFactory
) -> None:
    target, old = registry_factory(), index("old")
    spec = replace(world.spec, targets=(Target(f"{target.host}/app"),), keep=1)
    unkept = index("unkept")
    for content in (unkept, old, index("new")):
        world.move(content, spec)
    push(f"{target.host}/app", index("never tagged"))
    target.stop()
    collected = subprocess.run(
        ["docker-registry", "garbage-collect", "--delete-untagged", str(target.folder / "config.yml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    target.restart()

    assert f"manifest eligible for deletion: {unkept.digest}" in collected.stdout
    drive = Drive(world.engine, rollback_of(spec, {"v1": old.digest}, pin=False)).all()
    assert drive.states("v1") == ["updated"], drive.tags
    assert skopeo.digest(f"{target.host}/app:v1") == old.digest
    skopeo.skopeo(
        "copy",
        "--all",
        "--src-tls-verify=false",
        f"docker://{target.host}/app:v1",
        f"dir:{target.folder}/copy",
    )
