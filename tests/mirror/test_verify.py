"""Whether targets hold what the tags promise: what is asked for it, what is found, and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mirror import deep as deep_reading
from mirror import land as landing
from mirror.engine import Cancelled, Engine, Limits
from mirror.ledger import Ledger, verified
from mirror.ledger.passes import Pass, Passes
from mirror.ledger.verified import BEHIND, DAMAGED, DIFFERENT, MISSING
from mirror.report import DeepReport, ExtraReport, FoundReport
from mirror.spec import MirrorSpec, Target, Verification
from registry.images import (
    LINUX_ARM64,
    Image,
    Index,
    build_artifact,
    build_image,
    build_index,
    build_signature,
    random_layer,
    signature_tag,
)
from registry.memory import ErrorReply, MemoryRegistry
from registry.referrers import fallback_tag
from tests.support.engine import Drive, engine_on, only
from tests.support.pushing import ask
from tests.support.valkey import ValkeyServer
from workers.cli.exits import Exit
from workers.cli.summary import exit_code

LAYER = random_layer(5000, 1)
AMD64 = build_image({}, layers=[random_layer(4000, 2)])
ARM64 = build_image({}, layers=[LAYER], platform=LINUX_ARM64)
INDEX = build_index([AMD64, ARM64])
ONE, TWO, LATER = (build_image({"app": text}) for text in (b"one", b"two", b"later"))
SIGNATURE = build_signature(INDEX)


@dataclass
class World:
    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry
    valkey: ValkeyServer

    @property
    def registries(self) -> tuple[MemoryRegistry, ...]:
        return self.source, self.us, self.eu

    @property
    def spec(self) -> MirrorSpec:
        targets = (Target(f"{self.us.host}/app", "us"), Target(f"{self.eu.host}/app", "eu"))
        return MirrorSpec("tools", f"{self.source.host}/app", targets)

    def mirror(self) -> None:
        report = Drive(self.engine, self.spec).all().report
        assert report.state == "done", report
        for registry in self.registries:
            registry.forget_requests()

    def verify(self, spec: MirrorSpec | None = None, how: Verification | None = None) -> Drive:
        spec = replace(spec or self.spec, kind="verify", verification=how or Verification())
        return Drive(self.engine, spec).to_end()

    def found(self, run: Drive, at: MemoryRegistry | None = None) -> FoundReport:
        name = f"{(at or self.eu).host}/app"
        return next(one for one in run.report.found if one.repository == name)

    def said(self, run: Drive, tag: str, at: MemoryRegistry | None = None) -> tuple[str, str]:
        """(kind, reason) without the place that it begins with."""
        name = f"{(at or self.eu).host}/app"
        target = next(one for one in run.tags[tag].targets if one.repository == name)
        return target.kind, target.reason.removeprefix(f"{name}:{tag}: ")


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        source.hold("app", INDEX, "v1")
        source.hold("app", ONE, "v2")
        world = World(engine, source, us, eu, valkey)
        world.mirror()
        yield world


def remove(registry: MemoryRegistry, tag_or_digest: str) -> None:
    assert ask(registry.host, "DELETE", f"/v2/app/manifests/{tag_or_digest}").status == 202


def forget_cached(world: World, *images: Image | Index) -> None:
    """As after some hours: what this process and the fleet had read is to be read again."""
    ledger = world.engine.ledger
    with world.valkey.client() as client:
        client.delete(*(ledger.keys.manifest(image.digest) for image in images))
    world.engine = replace(world.engine, ledger=Ledger(world.valkey.client(), "test:"))


def blob_of(image: Image) -> str:
    return image.manifest.blobs[-1].digest


def test_what_is_whole_is_verified_and_counted_for_each_target(world: World) -> None:
    run = world.verify()

    assert run.report.state == "done"
    assert run.report.states == {"current": 2}
    assert [(one.verified, one.missing, one.damaged, one.extra) for one in run.report.found] == [
        (2, 0, 0, 0)
    ] * 2


def test_it_asks_by_heads_and_reads_no_tag_and_writes_nothing(world: World) -> None:
    world.verify()

    for registry in world.registries:
        asked = [(one.method, one.path) for one in registry.requests]
        assert not [one for one in asked if one[0] not in {"HEAD", "GET"}], asked
        gets = {path.partition("?")[0] for method, path in asked if method == "GET"}
        assert not [path for path in gets if "/blobs/" in path or "/manifests/v" in path], gets
    heads = [one.path for one in world.eu.requests if one.method == "HEAD"]
    assert len(heads) == len(set(heads)), "each part is asked for once"
    assert any(blob_of(ARM64) in path for path in heads)


def test_of_tags_that_were_never_mirrored_no_manifest_is_read(world: World) -> None:
    world.source.hold("tool", ONE, "v1")
    spec = replace(world.spec, source=f"{world.source.host}/tool", targets=(Target(f"{world.us.host}/tool"),))
    run = world.verify(spec)

    assert run.tags["v1"].targets[0].kind == MISSING
    assert not [one for one in world.source.requests if one.method == "GET" and "/manifests/" in one.path]


def test_it_believes_the_registry_and_not_the_ledger(world: World) -> None:
    spec = replace(world.spec, trust_s=3600)
    Drive(world.engine, spec).all()
    del world.eu.blobs[blob_of(ARM64)]
    run = world.verify(spec)

    assert world.said(run, "v1") == (DAMAGED, f"layer {blob_of(ARM64)} of linux/arm64 is gone")
    assert not world.engine.ledger.content.seen(world.eu.host, "app", [blob_of(ARM64)])
    assert not world.engine.ledger.proofs.known(f"{world.eu.host}/app", {"v1": INDEX.digest}, 0.0)
    assert world.said(run, "v1", world.us) == ("", "")
    assert world.found(run).damaged == 1
    assert run.report.state == "failed"


def test_a_child_that_is_gone_is_named_with_its_platform(world: World) -> None:
    remove(world.eu, ARM64.digest)
    run = world.verify()

    assert world.said(run, "v1") == (DAMAGED, f"manifest {ARM64.digest} of linux/arm64 is gone")


def test_a_blob_of_another_size_is_named_with_both(world: World) -> None:
    world.eu.blobs[blob_of(AMD64)] = b"0123456789"
    run = world.verify()

    size = AMD64.manifest.blobs[-1].size
    text = f"layer {blob_of(AMD64)} of linux/amd64 has 10 bytes instead of {size}"
    assert world.said(run, "v1") == (DAMAGED, text)


def test_missing_and_different_tags_are_told_apart_from_damaged_ones(world: World) -> None:
    remove(world.eu, "v2")
    world.us.hold("app", TWO, "v2")
    run = world.verify()

    assert world.said(run, "v2") == (MISSING, "is missing")
    assert world.said(run, "v2", world.us) == (DIFFERENT, f"is at {TWO.digest} instead of {ONE.digest}")
    assert (world.found(run).missing, world.found(run, world.us).different) == (1, 1)


def test_a_target_that_is_as_the_mirror_left_it_is_behind_a_source_that_moved(world: World) -> None:
    world.source.hold("app", TWO, "v2")
    world.us.hold("app", LATER, "v2")
    run = world.verify()

    assert world.said(run, "v2") == (BEHIND, f"is still at {ONE.digest}; {TWO.digest} is not copied yet")
    assert world.said(run, "v2", world.us)[0] == DIFFERENT, "nobody but a hand has moved it to that"
    assert (world.found(run).behind, world.found(run).different, run.report.state) == (1, 0, "failed")

    repair(world, "v2")
    assert world.us.tag("app", "v2") == world.eu.tag("app", "v2") == TWO.digest


def test_a_source_that_has_lost_content_does_not_hide_what_a_target_holds(world: World) -> None:
    remove(world.source, ARM64.digest)
    forget_cached(world, INDEX, ARM64)
    run = world.verify()

    assert run.report.state == "done", run.tags


def test_tags_that_only_a_target_has_are_extra_and_nothing_wrong(world: World) -> None:
    world.eu.hold("app", TWO, "old")
    world.eu.hold("app", TWO, signature_tag(INDEX.digest))
    world.eu.hold("app", TWO, "sealift-keep.0.v1")
    run = world.verify()

    found = world.found(run)
    assert (found.extra, found.extras[0].tags) == (1, ("old",))
    assert world.found(run, world.us).extra == 0
    assert run.report.state == "done"


def test_a_target_whose_tags_cannot_be_listed_says_so(world: World) -> None:

    def refuse(method: str, path: str) -> None:
        if "/tags/list" in path:
            raise ErrorReply(403, "DENIED", "no lists")

    world.eu.on_request = refuse
    run = world.verify()

    assert "no lists" in world.found(run).extras[0].error
    assert run.report.states == {"current": 2}


def test_a_signature_that_is_gone_or_moved_is_found(world: World) -> None:
    tag = signature_tag(INDEX.digest)
    world.source.hold("app", SIGNATURE, tag)
    world.mirror()
    assert world.verify().report.state == "done"

    remove(world.eu, tag)
    world.us.hold("app", TWO, tag)
    run = world.verify()

    assert world.said(run, "v1") == (DAMAGED, f"tag {tag} is gone")
    moved = f"tag {tag} is at {TWO.digest} instead of {SIGNATURE.digest}"
    assert world.said(run, "v1", world.us) == (DAMAGED, moved)


def test_a_referrer_that_is_gone_is_found(world: World) -> None:
    sbom = build_artifact({"s": b"bom"}, artifact_type="application/vnd.test", subject=TWO)
    world.source.hold("app", sbom)
    world.source.hold("app", TWO, "v3")
    world.mirror()
    assert world.verify().report.state == "done"

    remove(world.eu, sbom.digest)
    kind, reason = world.said(world.verify(), "v3")

    assert kind == DAMAGED
    assert f"referrer {sbom.digest} is gone" in reason


def test_a_sample_is_of_so_many_tags_and_another_one_in_each_run(world: World) -> None:
    for number in range(40):
        world.source.hold("app", ONE, f"n{number}")
    world.mirror()
    first, second = (world.verify(how=Verification(sample=5)) for _ in range(2))

    assert len(first.tags) == len(second.tags) == 5
    assert set(first.tags) != set(second.tags)


def test_what_was_found_is_in_the_fleets_totals_and_when_it_was_verified(world: World) -> None:
    remove(world.eu, "v2")
    world.verify(only(world.spec, "v1"))
    before = world.engine.ledger.gauges.read().told
    world.verify()
    told = world.engine.ledger.gauges.read().told

    assert not before.of("verified")
    assert [one.labels for one in told.of("verified")] == [{"mirror": "tools"}]
    counted = {(one.labels["registry"], one.labels["result"]): one.value for one in told.of("verify")}
    assert counted[world.eu.host, "missing"] == 1
    assert counted[world.us.host, "verified"] == 3
    assert {one.labels["state"] for one in told.of("tags")} == {"updated"}


def test_where_the_sources_pulls_count_manifests_are_read_at_a_target_by_digest(world: World) -> None:
    forget_cached(world, INDEX, AMD64, ARM64, ONE)
    counting = world.source.host
    world.engine = replace(world.engine, counts_pulls=lambda host: host == counting)
    run = world.verify()

    assert run.report.states == {"current": 2}
    assert not [one for one in world.source.requests if one.method == "GET" and "/manifests/" in one.path]
    read = [one.path for one in world.us.requests if one.method == "GET" and "/manifests/" in one.path]
    assert all("/manifests/sha256:" in path for path in read), read


def test_where_every_pull_counts_nothing_is_said_beyond_the_digests(world: World) -> None:
    forget_cached(world, INDEX, AMD64, ARM64, ONE)
    world.engine = replace(world.engine, counts_pulls=lambda _: True)
    run = world.verify()

    assert run.report.states == {"held": 2}
    assert (run.report.state, world.found(run).unchecked) == ("done", 2)
    assert "only its digest was compared" in run.tags["v1"].reason
    assert not [one for one in world.us.requests if one.method == "GET" and "/manifests/" in one.path]


SBOM = build_artifact({"s": b"bom"}, artifact_type="application/vnd.test", subject=TWO)


@pytest.fixture
def bare(valkey: ValkeyServer) -> Iterator[World]:
    """Registries without the referrers API: that v3 has an SBOM is listed in an index under a tag alone."""
    with (
        MemoryRegistry(referrers=False) as source,
        MemoryRegistry(referrers=False) as us,
        MemoryRegistry(referrers=False) as eu,
        engine_on(valkey) as engine,
    ):
        world = World(engine, source, us, eu, valkey)
        source.hold("app", SBOM)
        source.hold("app", TWO, "v3")
        engine.open_repository(f"{source.host}/app").add_referrer(TWO.digest, SBOM.manifest.descriptor)
        world.mirror()
        yield world


def test_a_list_of_referrers_is_not_read_where_that_would_be_a_pull(bare: World) -> None:
    world = bare
    assert world.verify(only(world.spec, "v3")).report.states == {"current": 1}
    tag = fallback_tag(TWO.digest)
    index = world.eu.tag("app", tag)
    with world.valkey.client() as client:
        client.delete(world.engine.ledger.keys.manifest(str(index)))
    world.engine = replace(world.engine, counts_pulls=lambda host: host == world.eu.host)
    world.engine = replace(world.engine, ledger=Ledger(world.valkey.client(), "test:"))
    world.eu.forget_requests()
    run = world.verify(only(world.spec, "v3"))

    assert run.states("v3") == ["current", "held"]
    says = f"whether referrer {SBOM.digest} is listed can only be known by a pull that counts"
    assert world.said(run, "v3")[1] == says
    assert (world.found(run).unchecked, exit_code([run.report])) == (1, Exit.DONE)
    assert not [one for one in world.eu.requests if one.method == "GET" and "/manifests/" in one.path]


def test_a_registry_that_is_away_leaves_its_tags_unchecked_and_others_verified(world: World) -> None:
    world.eu.stop()
    run = world.verify()

    assert (world.found(run).unchecked, world.found(run, world.us).verified) == (2, 2)
    assert run.report.state == "failed"


def test_of_many_repositories_each_is_verified_and_counted_together(world: World) -> None:
    world.source.hold("tool", ONE, "v1")
    spec = MirrorSpec("all", f"{world.source.host}/*", (Target(f"{world.eu.host}/*"),))
    Drive(world.engine, spec).to_end()
    world.eu.hold("tool", TWO, "old")
    del world.eu.blobs[blob_of(ARM64)]
    run = world.verify(spec)

    (found,) = run.report.found
    assert (found.repository, found.verified, found.damaged) == (f"{world.eu.host}/*", 2, 1)
    assert [(one.repository, one.tags) for one in found.extras] == [(f"{world.eu.host}/tool", ("old",))]
    assert run.tags["app:v1"].state == "failed"
    assert run.report.repositories == 2


def test_of_many_repositories_with_extra_tags_all_are_counted_and_some_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "MOST_REPOSITORIES", 3)
    names = [f"tool{number}" for number in range(7)]
    for name in names:
        world.source.hold(name, ONE, "v1")
        world.eu.hold(name, ONE, "v1")
        world.eu.hold(name, TWO, "old")
        world.eu.hold(name, TWO, "older")
    targets = (Target(f"{world.eu.host}/*"),)
    spec = MirrorSpec("all", f"{world.source.host}/*", targets, repositories=("tool*",))
    run = world.verify(spec)

    (found,) = run.report.found
    assert (found.verified, found.extra, len(found.extras), found.extras_left) == (7, 14, 3, 4)
    assert len(run.report.document()["found"][0]["extras"]) == 3


def test_extra_tags_of_a_run_that_did_not_count_them_are_those_that_are_named(world: World) -> None:
    world.eu.hold("app", TWO, "old")
    run = world.verify()
    with world.valkey.client() as client:
        name = f"{verified.FOUND}{world.eu.host}/app\n"
        counts = [f"{name}{verified.EXTRA}", f"{name}{verified.EXTRAS}"]
        assert client.hdel(world.engine.ledger.keys.run(run.run), *counts) == 2

    found = world.found(run)
    assert (found.extra, found.extras_left, found.extras[0].tags) == (1, 0, ("old",))


def test_extra_tags_that_are_told_twice_are_counted_once_as_they_were_told_last(world: World) -> None:
    spec = replace(world.spec, kind="verify", verification=Verification())
    drive = Drive(world.engine, spec)
    batch, place = drive.batches[-1], f"{world.eu.host}/app"
    for count, tags, error in (
        (2, ("a", "b"), ""),
        (2, ("a", "b"), ""),
        (0, (), "no lists"),
        (1, ("b",), ""),
    ):
        world.engine.ledger.verified.note_extra(
            drive.run, batch, spec, [ExtraReport(place, count, tags, error)]
        )
        found = world.found(drive)
        assert (found.extra, found.extras, found.extras_left) == (
            count,
            (ExtraReport(place, count, tags, error),),
            0,
        )
    world.engine.ledger.verified.note_extra(drive.run, batch, spec, [ExtraReport(place)])
    assert (world.found(drive).extra, world.found(drive).extras) == (0, ())


def test_what_is_wrong_in_one_target_says_nothing_of_another_that_is_away(world: World) -> None:
    world.engine = replace(world.engine, outage_s=600.0)
    remove(world.eu, "v2")
    world.us.stop()
    run = Drive(world.engine, replace(only(world.spec, "v2"), kind="verify"))
    run.resolve()
    run.land()

    assert run.finalize() == ["parked"]
    assert run.states("v2") == ["waiting", "failed"]


# -- repair ---------------------------------------------------------------------------------------------


def repair(world: World, *tags: str, deep: bool = False) -> Drive:
    spec = replace(only(world.spec, *tags), kind="repair", verification=Verification(deep=deep))
    return Drive(world.engine, spec).all()


def test_what_is_gone_is_brought_back_and_healthy_targets_are_left_alone(world: World) -> None:
    del world.eu.blobs[blob_of(ARM64)]
    remove(world.eu, ARM64.digest)
    for registry in world.registries:
        registry.forget_requests()
    run = repair(world, "v1", "v2")

    assert run.states("v1") == ["current", "updated"]
    assert run.states("v2") == ["current", "current"]
    assert f"manifest {ARM64.digest} of linux/arm64 is gone" in run.tags["v1"].targets[1].reason
    assert not [one for one in world.us.requests if one.method not in {"GET", "HEAD"}]
    assert world.verify().report.state == "done"


def test_repairing_a_tag_at_the_digest_it_had_is_no_move_of_it(world: World) -> None:
    before = world.engine.ledger.history.of("tools", ["v1"])
    remove(world.eu, ARM64.digest)
    repair(world, "v1")

    assert world.engine.ledger.history.of("tools", ["v1"]) == before


def test_tags_that_are_missing_or_different_are_put_where_they_should_be(world: World) -> None:
    remove(world.eu, "v2")
    world.us.hold("app", TWO, "v2")
    run = repair(world, "v2")

    assert run.states("v2") == ["updated", "updated"]
    assert world.us.tag("app", "v2") == world.eu.tag("app", "v2") == ONE.digest


def test_what_the_source_has_lost_too_comes_from_another_target(world: World) -> None:
    for registry in (world.source, world.eu):
        del registry.blobs[blob_of(ARM64)]
    run = repair(world, "v1")

    assert run.states("v1") == ["current", "updated"], run.tags
    assert blob_of(ARM64) in world.eu.blobs


def test_a_registry_that_keeps_a_damaged_file_is_named_with_what_to_do(world: World) -> None:
    digest, size = blob_of(AMD64), AMD64.manifest.blobs[-1].size
    world.eu.blobs[digest] = b"?" * size  # like docker-registry, it throws away what is sent in its place
    run = repair(world, "v1", deep=True)

    assert run.states("v1")[1] == "failed"
    said = run.tags["v1"].targets[1].reason
    assert f"layer {digest} of linux/amd64 has other bytes" in said
    assert "have that deleted from its storage" in said

    del world.eu.blobs[digest]
    assert repair(world, "v1", deep=True).states("v1") == ["current", "updated"]


def immutable(method: str, path: str) -> None:
    if method == "PUT" and "/manifests/v" in path:
        raise ErrorReply(400, "TAG_INVALID", "tag is immutable")


def test_a_tag_that_a_target_refused_to_move_a_while_ago_is_not_tried_again_by_a_repair(world: World) -> None:
    world.eu.hold("app", TWO, "v2")
    world.eu.on_request = immutable
    assert repair(world, "v2").states("v2") == ["current", "failed"]
    world.eu.forget_requests()

    again = repair(world, "v2")

    assert again.tags["v2"].targets[1].kind == "TagImmutable"
    assert not [one for one in world.eu.requests if one.method not in {"GET", "HEAD"}]


def test_of_a_tag_that_may_not_move_the_content_is_repaired_all_the_same(world: World) -> None:
    del world.eu.blobs[blob_of(ARM64)]
    world.eu.on_request = immutable

    assert repair(world, "v1").states("v1") == ["current", "updated"]
    assert world.verify().report.state == "done"


# -- bytes ----------------------------------------------------------------------------------------------


def test_bytes_that_were_changed_are_found_by_reading_them(world: World) -> None:
    digest, size = blob_of(AMD64), AMD64.manifest.blobs[-1].size
    world.eu.blobs[digest] = b"?" * size
    assert world.verify().report.state == "done"

    kind, reason = world.said(world.verify(how=Verification(deep=True)), "v1")

    assert kind == DAMAGED
    assert reason.startswith(f"layer {digest} of linux/amd64 has other bytes: its bytes hash to sha256:")


def test_where_damaged_bytes_can_be_replaced_they_are(world: World, tmp_path: Path) -> None:
    layout = Target(f"oci:{tmp_path}/app")
    spec = replace(only(world.spec, "v1"), targets=(layout,))
    Drive(world.engine, spec).all()
    algorithm, _, name = blob_of(AMD64).partition(":")
    (tmp_path / "app/blobs" / algorithm / name).write_bytes(b"short")
    repairs = replace(spec, kind="repair", verification=Verification())

    assert world.verify(spec).report.states == {"failed": 1}
    assert Drive(world.engine, repairs).all().states("v1") == ["updated"]
    assert world.verify(spec).report.states == {"current": 1}


def test_a_damaged_blob_is_not_read_from_where_it_is_damaged(world: World, tmp_path: Path) -> None:
    damaged, whole = (Target(f"oci:{tmp_path}/{name}") for name in ("damaged", "whole"))
    spec = replace(only(world.spec, "v1"), targets=(damaged, whole))
    Drive(world.engine, spec).all()
    algorithm, _, name = blob_of(AMD64).partition(":")
    (tmp_path / "damaged/blobs" / algorithm / name).write_bytes(b"short")
    del world.source.blobs[blob_of(AMD64)]
    run = Drive(world.engine, replace(spec, kind="repair", verification=Verification())).all()

    assert run.states("v1") == ["updated", "current"], run.tags


def reads(registry: MemoryRegistry) -> list[str]:
    return [one.path for one in registry.requests if one.method == "GET" and "/blobs/" in one.path]


def test_a_budget_of_bytes_is_kept_and_the_next_runs_go_on_where_it_ended(world: World) -> None:
    most = 6000
    for _ in range(6):
        world.verify(how=Verification(deep=True, most_bytes=most))
    asked = [path for registry in (world.us, world.eu) for path in reads(registry)]

    blobs = {blob.digest for image in (AMD64, ARM64, ONE) for blob in image.manifest.blobs}
    assert {path.rpartition("/")[2] for path in asked} == blobs
    assert len(asked) < 4 * len(blobs), "read once in a pass, not in every run"


def test_a_pass_that_is_over_begins_anew(world: World) -> None:
    world.verify(how=Verification(deep=True))
    first = len(reads(world.eu))
    world.verify(how=Verification(deep=True))

    assert len(reads(world.eu)) == 2 * first > 0


def deep_runs(world: World, how: Verification, spec: MirrorSpec | None = None, most: int = 40) -> list[Drive]:
    """Runs until one says that the pass is over."""
    runs: list[Drive] = []
    while not runs or not (runs[-1].report.deep and runs[-1].report.deep.is_over):
        assert len(runs) < most, "a pass without end"
        runs.append(world.verify(spec, how))
    return runs


def deep(run: Drive) -> DeepReport:
    assert run.report.deep is not None
    return run.report.deep


def all_bytes(world: World) -> int:
    contents = {one.digest: one.size for image in (AMD64, ARM64, ONE) for one in image.manifest.blobs}
    manifests = {one.digest: one.manifest.size for one in (AMD64, ARM64)}  # a tag's HEAD proves its root
    return 2 * sum((contents | manifests).values())


def test_a_pass_says_when_it_began_how_far_it_is_and_when_it_is_over(world: World) -> None:
    runs = deep_runs(world, Verification(deep=True, most_bytes=6000))

    reports = [deep(run) for run in runs]
    assert len({one.began_s for one in reports}) == 1
    assert [one.tags for one in reports] == [4] * len(runs), "two tags in two targets"
    read = [one.read for one in reports]
    assert read == sorted(read)
    assert (read[0], read[-1]) < (4, 4) or read[0] < read[-1] == 4
    assert sum(one.bytes for one in reports) == all_bytes(world)
    assert deep(world.verify(how=Verification(deep=True))).began_s > reports[-1].began_s


def test_a_layer_larger_than_a_runs_bytes_is_read_whole_and_paid_for_by_the_next_runs(world: World) -> None:
    most = 1500  # the layers have 4,000 and 5,000 bytes
    runs = deep_runs(world, Verification(deep=True, most_bytes=most))

    spent = [deep(run).bytes for run in runs]
    assert sum(spent) == all_bytes(world)
    assert max(spent) > most
    largest = max(blob.size for blob in ARM64.manifest.blobs)
    for number in range(1, len(spent)):
        assert sum(spent[:number]) <= number * most + largest, spent
    assert 0 in spent[1:], "a run that pays and reads nothing"


def test_what_the_last_layer_of_a_pass_took_too_much_the_next_pass_pays(world: World) -> None:
    spec = only(world.spec, "v2")
    how = Verification(deep=True, most_bytes=1)
    deep_runs(world, how, spec, most=10_000)

    assert deep(world.verify(spec, how)).bytes == 0


def begun(world: World) -> tuple[Passes, Pass]:
    """A run of v1 that may read one byte."""
    spec = replace(only(world.spec, "v1"), kind="verify", verification=Verification(deep=True, most_bytes=1))
    passes = world.engine.ledger.verified.passes
    return passes, passes.of(world.engine.ledger.create_run(spec, "release"), spec)


def test_no_run_pays_for_a_large_layer_whose_reader_was_killed(world: World) -> None:
    passes, first = begun(world)
    assert passes.reserve(first, 5000), "and its worker is no more"
    _, second = begun(world)

    assert not passes.reserve(first, 5000)
    assert passes.reserve(second, 5000)


def test_a_run_that_is_cancelled_while_it_reads_gives_back_what_it_did_not_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel(*_: object) -> None:
        raise Cancelled("run")

    monkeypatch.setattr(deep_reading, "_hashed", cancel)
    run = world.verify(only(world.spec, "v1"), Verification(deep=True, most_bytes=10**9))

    assert set(run.states("v1")) == {"cancelled"}
    with world.valkey.client() as client:
        assert client.hget(world.engine.ledger.keys.run(run.run), "read_bytes") == b"0"


def test_what_is_damaged_or_cannot_be_read_keeps_nothing_else_from_being_read(world: World) -> None:
    digest, size = blob_of(AMD64), AMD64.manifest.blobs[-1].size
    world.eu.blobs[digest] = b"?" * size
    broken = blob_of(ARM64)

    def refuse(method: str, path: str) -> None:
        if method == "GET" and broken in path:
            raise ErrorReply(403, "DENIED", "not you")

    world.us.on_request = refuse
    reasons: list[str] = []
    while len(reasons) < 2:  # where a pass finds it last, no run of it says so again
        world.eu.forget_requests()
        runs = deep_runs(world, Verification(deep=True, most_bytes=1500))
        reasons = [world.said(run, "v1")[1] for run in runs if world.said(run, "v1")[0] == DAMAGED]

        assert [deep(run).read for run in runs][-1] == 2, "v2 in both targets"
        assert runs[-1].report.state == "failed"
    assert reasons[-1].endswith("as was found in this pass before; a repair or the next pass reads it again")
    assert len([path for path in reads(world.eu) if digest in path]) == 1


def test_a_repair_is_about_all_that_was_found_wrong_however_little_it_may_read(world: World) -> None:
    for image in (AMD64, ARM64):
        world.eu.blobs[blob_of(image)] = b"?" * image.manifest.blobs[-1].size
    how = Verification(deep=True, most_bytes=1500)
    deep_runs(world, how)
    world.eu.forget_requests()
    run = Drive(world.engine, replace(only(world.spec, "v1"), kind="repair", verification=how)).all()

    assert "have that deleted from its storage" in run.tags["v1"].targets[1].reason
    read = {path.rpartition("/")[2] for path in reads(world.eu)}
    assert read >= {blob_of(AMD64), blob_of(ARM64)}


def test_what_was_deleted_and_brought_again_is_not_called_wrong_any_more(world: World) -> None:
    world.engine = replace(world.engine, limits=Limits(copy_threads=1))
    how = Verification(deep=True, most_bytes=1500)
    world.eu.blobs[blob_of(AMD64)] = b"?" * AMD64.manifest.blobs[-1].size
    run = world.verify(how=how)
    while world.said(run, "v1")[0] != DAMAGED or deep(run).is_over:  # what comes first is luck
        run = world.verify(how=how)

    del world.eu.blobs[blob_of(AMD64)]
    assert repair(world, "v1").states("v1") == ["current", "updated"]

    runs = deep_runs(world, how)
    assert {one.report.state for one in runs} == {"done"}
    assert deep(runs[-1]).began_s == deep(run).began_s


def test_the_same_typed_again_and_a_sample_read_again(world: World) -> None:
    for spec, how in (
        (only(world.spec, "v1"), Verification(deep=True)),
        (world.spec, Verification(deep=True, sample=2)),
    ):
        first, second = (deep(world.verify(spec, how)) for _ in range(2))
        assert first.bytes == second.bytes > 0
        assert (first.is_over, second.is_over) == (True, True)


def test_a_run_of_some_tags_ends_no_pass_of_all(world: World) -> None:
    began = deep(world.verify(how=Verification(deep=True, most_bytes=6000))).began_s
    world.verify(only(world.spec, "v2"), Verification(deep=True))
    world.verify(how=Verification(deep=True, sample=1))

    assert deep(world.verify(how=Verification(deep=True, most_bytes=6000))).began_s == began


def test_two_runs_at_once_are_of_one_pass_and_the_later_one_does_not_begin_another(world: World) -> None:
    spec = replace(world.spec, kind="verify", verification=Verification(deep=True))
    slow = Drive(world.engine, spec)
    slow.resolve()
    slow.land("us")
    fast = world.verify(how=Verification(deep=True))
    slow.to_end()

    assert deep(slow).began_s == deep(fast).began_s
    assert deep(slow).bytes + deep(fast).bytes == all_bytes(world)


def test_a_rate_is_kept_by_waiting(world: World) -> None:
    waited: list[float] = []
    world.engine = replace(world.engine, patience=replace(world.engine.patience, wait=waited.append))
    world.verify(how=Verification(deep=True, bytes_per_s=1000))

    assert max(waited) > 1.0


def test_a_run_that_is_cancelled_while_it_looks_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.hold("app", ONE, "v1")
    world.mirror()

    def stop(_: object) -> None:
        raise Cancelled("run")

    monkeypatch.setattr(landing, "verify", stop)
    run = world.verify()

    assert set(run.states("v1")) == {"cancelled"}
