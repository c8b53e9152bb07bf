"""The engine from listing to flip, against in-memory registries over real HTTP and a real Valkey."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from mirror import decide
from mirror.engine import Engine, Limits
from mirror.land import haul, land
from mirror.ledger import fixed
from mirror.spec import MirrorSpec, Target
from registry.deletion import tombstone
from registry.descriptor import Platform
from registry.images import (
    Image,
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
from tests.support.valkey import ValkeyServer

TAG = "/v2/copy/app/manifests/1.0"
AMD = Platform("linux", "amd64")
ARM = Platform("linux", "arm64")


@dataclass
class World:
    """A source and a target in each of two regions."""

    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry

    @property
    def spec(self) -> MirrorSpec:
        return MirrorSpec(
            "app",
            f"{self.source.host}/team/app",
            (Target(f"{self.us.host}/copy/app", "us"), Target(f"{self.eu.host}/copy/app", "eu")),
        )

    def drive(self, spec: MirrorSpec | None = None) -> Drive:
        return Drive(self.engine, spec or self.spec)

    def where(self, tag: str) -> list[str | None]:
        return [registry.tag("copy/app", tag) for registry in (self.us, self.eu)]


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey, Limits(copy_threads=3, haul_bytes=200_000, tee_bytes=50_000)) as engine,
    ):
        yield World(engine, source, us, eu)


def image(text: str, platform: Platform = AMD) -> Image:
    return build_image({"app.txt": text.encode()}, platform=platform)


def test_every_tag_lands_everywhere_with_its_digest(world: World) -> None:
    both = build_index([image("one"), image("one", ARM)])
    world.source.hold("team/app", both, "1.0")
    world.source.hold("team/app", image("two"), "2.0")

    run = world.drive().all()

    assert (run.report.state, run.report.states) == ("done", {"updated": 2})
    assert world.where("1.0") == [both.digest] * 2
    assert world.where("2.0") == [image("two").digest] * 2
    assert all(registry.open_sessions == 0 for registry in (world.us, world.eu))


def test_an_unchanged_run_costs_one_head_per_tag_and_registry(world: World) -> None:
    for tag in ("1.0", "1.1"):
        world.source.hold("team/app", image(tag), tag)
    spec = only(world.spec, "1.0", "1.1")
    Drive(world.engine, spec).all()
    for registry in (world.source, world.us, world.eu):
        registry.forget_requests()

    run = Drive(world.engine, spec).all()

    assert run.report.states == {"current": 2}
    for registry in (world.source, world.us, world.eu):
        assert sorted((one.method, one.path.rsplit("/", 1)[1]) for one in registry.requests) == [
            ("HEAD", "1.0"),
            ("HEAD", "1.1"),
        ]


def test_no_tag_moves_before_every_region_has_landed(world: World) -> None:
    world.source.hold("team/app", image("new"), "1.0")
    run = world.drive()
    run.resolve()
    run.land("us")

    assert run.finalize() == ["wait"]
    assert world.where("1.0") == [None, None]
    assert world.us.manifests("copy/app")

    run.land("eu")
    assert run.finalize() == ["flip"]
    run.flip()
    run.conclude()
    assert world.where("1.0") == [image("new").digest] * 2


def test_a_tag_that_cannot_land_in_one_target_moves_in_none_and_says_why(world: World) -> None:
    world.source.hold("team/app", image("old"), "1.0")
    world.drive().all()
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _deny_manifests

    run = world.drive().all()

    assert world.where("1.0") == [image("old").digest] * 2
    assert run.report.state == "failed"
    us, eu = run.tags["1.0"].targets
    assert (eu.state, eu.kind) == ("failed", "Refused")
    assert "quota exceeded" in eu.reason
    assert us.state == "failed"
    assert "not moved, because" in us.reason
    assert world.eu.host in us.reason


def test_targets_move_on_their_own_where_the_mirror_says_so(world: World) -> None:
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _deny_manifests
    spec = MirrorSpec("app", world.spec.source, world.spec.targets, finalize="each")

    run = Drive(world.engine, spec).all()

    assert run.states("1.0") == ["updated", "failed"]
    assert world.where("1.0") == [image("new").digest, None]


def test_a_tag_that_fails_fails_alone(world: World) -> None:
    world.source.hold("team/app", image("good"), "good")
    run = Drive(world.engine, only(world.spec, "good", "missing")).all()

    assert run.report.states == {"updated": 1, "failed": 1}
    assert run.tags["missing"].targets[0].kind == "NotFound"
    assert "missing" in run.tags["missing"].reason


def test_a_move_that_fails_half_way_is_taken_back(world: World) -> None:
    world.source.hold("team/app", image("old"), "1.0")
    world.drive().all()
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _immutable_tags

    run = world.drive().all()

    assert world.where("1.0") == [image("old").digest] * 2
    us, eu = run.tags["1.0"].targets
    assert (us.state, eu.state) == ("failed", "failed")
    assert "went back to" in us.reason
    assert "immutable" in eu.reason


def test_a_new_tag_that_fails_half_way_is_removed_again(world: World) -> None:
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _immutable_tags

    run = world.drive().all()

    assert world.where("1.0") == [None, None]
    assert "removed again" in run.tags["1.0"].targets[0].reason


def test_a_new_tag_that_cannot_be_removed_is_rolled_forward_and_then_reported_as_split(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "ROLL_PAUSE_S", 0.0)
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _refused_tags
    with MemoryRegistry(deletes=False) as us:
        target = Target(f"{us.host}/copy/app", "us")
        run = world.drive(MirrorSpec("app", world.spec.source, (target, world.spec.targets[1]))).to_end()

        assert run.report.states == {"failed": 1}
        assert us.tag("copy/app", "1.0") == image("new").digest
        assert "split: it moved here and could not be taken back" in run.tags["1.0"].targets[0].reason
        assert (
            len([one for one in world.eu.requests if one.path.endswith("/manifests/1.0")]) > decide.MAX_ROLLS
        )


def test_a_tag_that_moved_after_all_says_that_it_was_taken_back_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decide, "ROLL_PAUSE_S", 0.0)
    world.source.hold("team/app", image("new"), "1.0")
    refusals = iter([True])

    def refuse_once(method: str, path: str) -> None:
        if (method, path.endswith("/manifests/1.0")) == ("PUT", True) and next(refusals, False):
            raise ErrorReply(403, "DENIED", "quota exceeded")

    world.eu.on_request = refuse_once
    with MemoryRegistry(deletes=False) as stuck:
        targets = (*world.spec.targets, Target(f"{stuck.host}/copy/app", "eu"))
        run = world.drive(replace(world.spec, targets=targets)).to_end()

        assert run.report.states == {"updated": 1}
        assert world.where("1.0") == [image("new").digest] * 2
        assert "was removed again because" in run.tags["1.0"].targets[0].reason


def test_what_may_not_move_is_not_tried_again(world: World) -> None:
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _immutable_tags
    with MemoryRegistry(deletes=False) as us:
        target = Target(f"{us.host}/copy/app", "us")
        run = world.drive(MirrorSpec("app", world.spec.source, (target, world.spec.targets[1]))).to_end()

        assert run.states("1.0") == ["failed", "failed"]
        assert run.tags["1.0"].targets[1].kind == "TagImmutable"
        assert len([one for one in world.eu.requests if one == ("PUT", TAG)]) == 1


def test_a_tag_that_may_not_move_does_not_make_the_others_move_and_go_back_in_every_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.source.hold("team/app", image("old"), "1.0")
    world.drive().all()
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _immutable_tags
    world.drive().all()
    for registry in (world.us, world.eu):
        registry.forget_requests()

    run = world.drive().all()

    assert ("PUT", TAG) not in [*world.us.requests, *world.eu.requests]
    assert run.states("1.0") == ["failed", "failed"]
    assert run.tags["1.0"].targets[1].kind == "TagImmutable"
    assert "tag is immutable" in run.tags["1.0"].targets[0].reason

    monkeypatch.setattr(fixed, "BELIEVED_S", -1)  # its time is over, and the rule is gone
    world.eu.on_request = None
    assert world.drive().all().states("1.0") == ["updated", "updated"]


def test_a_new_tag_goes_back_where_only_digests_can_be_deleted(world: World) -> None:
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _refused_tags
    with MemoryRegistry(deletes="digests") as us:
        us.hold("copy/app", image("new"), "theirs")
        target = Target(f"{us.host}/copy/app", "us")
        run = world.drive(MirrorSpec("app", world.spec.source, (target, world.spec.targets[1]))).all()

        assert us.tags("copy/app") == {"theirs": image("new").digest}
        assert "was removed again" in run.tags["1.0"].targets[0].reason


def test_a_deletion_that_was_cut_in_the_middle_is_finished(world: World) -> None:
    world.source.hold("team/app", image("new"), "1.0")
    world.eu.on_request = _refused_tags
    with MemoryRegistry(deletes="digests") as us:
        target = Target(f"{us.host}/copy/app", "us")
        run = world.drive(MirrorSpec("app", world.spec.source, (target, world.spec.targets[1])))
        for step in (run.resolve, run.land, run.finalize, run.flip):
            step()
        us.plant("copy/app", "1.0", tombstone(target.repository, "1.0"))
        run.conclude()

        assert us.tags("copy/app") == {}
        assert run.states("1.0") == ["failed", "failed"]
        assert "was removed again" in run.tags["1.0"].targets[0].reason


def test_what_a_deletion_has_left_halfway_is_nothing_to_go_back_to(world: World) -> None:
    world.source.hold("team/app", image("new"), "1.0")
    run = world.drive()
    for step in (run.resolve, run.land, run.finalize):
        step()
    marker = tombstone(world.spec.targets[0].repository, "1.0")
    world.us.plant("copy/app", "1.0", marker)
    world.eu.on_request = _refused_tags
    run.flip()
    run.conclude()

    assert world.where("1.0") == [None, None], "the tombstone did not come back"
    assert "was removed again" in run.tags["1.0"].targets[0].reason


def test_a_haul_that_was_noted_by_an_older_version_is_brought(world: World) -> None:
    big = build_image({}, layers=[random_layer(300_000, 1)])
    world.source.hold("team/app", big, "1.0")
    run = world.drive()
    run.resolve()
    (batch,), ledger = run.batches, world.engine.ledger
    for region in ("us", "eu"):
        (digest,) = land(world.engine, batch, region, hauls=True)
        note = ledger.batches.due_document(batch, region, digest)
        assert note is not None
        del note["again"]
        ledger._redis.hset(ledger.keys.due(batch, region), digest, json.dumps(note))
        haul(world.engine, batch, region, digest)
    for step in (run.finalize, run.flip, run.conclude):
        step()

    assert world.where("1.0") == [big.digest] * 2


def test_an_older_run_never_overwrites_a_newer_one(world: World) -> None:
    world.source.hold("team/app", image("old"), "1.0")
    older = world.drive()
    older.resolve()
    world.source.hold("team/app", image("new"), "1.0")
    world.drive().all()

    older.land()
    older.finalize()
    older.flip()
    older.conclude()

    assert older.states("1.0") == ["superseded", "superseded"]
    assert world.where("1.0") == [image("new").digest] * 2


def test_a_run_that_began_later_but_saw_older_content_does_not_bring_it_back(world: World) -> None:
    world.source.hold("team/app", image("old"), "1.0")
    earlier, later = world.drive(), world.drive()
    later.resolve()
    world.source.hold("team/app", image("new"), "1.0")
    for run in (earlier, later):
        run.all()

    assert world.where("1.0") == [image("new").digest] * 2
    assert later.states("1.0") == ["superseded", "superseded"]


def test_two_runs_that_ask_the_source_at_once_end_at_what_it_has(world: World) -> None:
    world.source.hold("team/app", image("old"), "1.0")
    first, second = world.drive(), world.drive()
    first.resolve()  # asked first, and answered with what came later
    second.resolve()
    (batch,) = first.batches
    new = world.source.hold("team/app", image("new"), "1.0")
    answered = replace(first.engine.ledger.batches.resolved(batch)[0], descriptor=new)
    first.engine.ledger._redis.delete(first.engine.ledger.keys.tags(batch))
    first.engine.ledger.batches.set_resolved(batch, [answered])
    first.all()
    second.all()

    assert world.where("1.0") == [image("new").digest] * 2
    assert second.states("1.0") == ["superseded", "superseded"]


def test_a_blob_goes_to_a_registry_once_and_is_mounted_from_then_on(world: World) -> None:
    layer = random_layer(100_000)
    for name in ("a", "b", "c"):
        world.source.hold(f"team/{name}", build_image({"name": name.encode()}, layers=[layer]), "1.0")

    for name in ("a", "b", "c"):
        targets = tuple(Target(f"{registry.host}/copy/{name}", "all") for registry in (world.us, world.eu))
        Drive(world.engine, MirrorSpec(name, f"{world.source.host}/team/{name}", targets)).all()

    path = f"/v2/team/a/blobs/{layer.descriptor.digest}"
    assert [one.path for one in world.source.requests if layer.descriptor.digest in one.path] == [path]
    for registry in (world.us, world.eu):
        assert all(registry.holds_blob(f"copy/{name}", layer.descriptor.digest) for name in "abc")
        sent = [
            one for one in registry.requests if one.method == "PUT" and layer.descriptor.digest in one.path
        ]
        assert len(sent) == 1


def test_large_blobs_travel_as_tasks_of_their_own(world: World) -> None:
    layers = [random_layer(300_000, seed) for seed in range(3)]
    big = build_image({"app": b"x"}, layers=layers)
    world.source.hold("team/app", big, "1.0")

    run = world.drive()
    run.resolve()
    run.land(hauls=True)
    run.finalize()
    run.flip()
    run.conclude()

    assert run.report.state == "done"
    assert world.where("1.0") == [big.digest] * 2
    moved = run.tags["1.0"].targets[0].moved
    assert moved.copied_bytes == sum(blob.descriptor.size for blob in big.blobs)


def test_manifests_wait_for_the_last_haul(world: World) -> None:
    big = build_image({"app": b"x"}, layers=[random_layer(300_000, seed) for seed in range(2)])
    world.source.hold("team/app", big, "1.0")
    run = world.drive()
    run.resolve()
    (batch,) = run.batches

    first, second = land(world.engine, batch, "us", hauls=True)
    haul(world.engine, batch, "us", first)
    assert not world.us.manifests("copy/app")
    haul(world.engine, batch, "us", second)
    assert big.digest in world.us.manifests("copy/app")


def test_a_source_that_lies_about_its_bytes_leaves_no_tag_behind(world: World) -> None:
    lying = build_image({"app": b"true"})
    world.source.hold("team/app", lying, "1.0")
    layer = lying.layers[0].descriptor
    world.source.blobs[layer.digest] = b"!" * layer.size

    run = world.drive().all()

    assert world.where("1.0") == [None, None]
    assert run.tags["1.0"].targets[0].kind == "DigestMismatch"
    assert world.source.host in run.tags["1.0"].reason
    assert world.us.open_sessions == 0


def test_a_registry_that_lost_a_blob_it_was_believed_to_have_is_given_it_again(world: World) -> None:
    layer = random_layer(60_000)
    world.source.hold("team/app", build_image({"a": b"1"}, layers=[layer]), "1.0")
    world.drive().all()
    del world.us.blobs[layer.descriptor.digest]
    second = build_image({"a": b"2"}, layers=[layer])
    world.source.hold("team/app", second, "2.0")

    run = world.drive().all()

    assert run.states("2.0") == ["updated", "updated"]
    assert world.us.holds_blob("copy/app", layer.descriptor.digest)


def test_signatures_and_sboms_travel_with_their_image(world: World) -> None:
    app = build_index([image("one"), image("one", ARM)])
    sbom = build_artifact({"sbom.json": b"{}"}, artifact_type="application/spdx+json", subject=app)
    signed_sbom = build_artifact({"s": b"sig"}, artifact_type="application/sig", subject=sbom)
    world.source.hold("team/app", app, "1.0")
    for artifact in (sbom, signed_sbom):
        world.source.hold("team/app", artifact)
    signature = build_signature(app)
    world.source.hold("team/app", signature, signature_tag(app.digest))

    run = world.drive().all()

    assert run.report.states == {"updated": 1}
    assert world.where(signature_tag(app.digest)) == [signature.digest] * 2
    for registry in (world.us, world.eu):
        assert {sbom.digest, signed_sbom.digest} <= set(registry.manifests("copy/app"))


def test_a_signature_that_comes_later_is_brought_although_the_tag_is_current(world: World) -> None:
    app = image("one")
    world.source.hold("team/app", app, "1.0")
    world.drive().all()
    signature = build_signature(app)
    world.source.hold("team/app", signature, signature_tag(app.digest))

    run = world.drive().all()

    assert run.states("1.0") == ["current", "current"]
    assert world.where(signature_tag(app.digest)) == [signature.digest] * 2


def test_a_signature_that_only_one_target_lacks_is_put_there_alone(world: World) -> None:
    app = image("one")
    signature = build_signature(app)
    world.source.hold("team/app", app, "1.0")
    world.source.hold("team/app", signature, signature_tag(app.digest))
    world.drive().all()
    world.eu.untag("copy/app", signature_tag(app.digest))
    world.us.forget_requests()

    world.drive().all()

    assert world.where(signature_tag(app.digest)) == [signature.digest] * 2
    assert not [one for one in world.us.requests if one.method == "PUT"]


def test_a_quiet_run_reads_no_signature_although_the_fleet_has_forgotten_it(
    world: World, valkey: ValkeyServer
) -> None:
    app, signature = image("one"), build_signature(image("one"))
    world.source.hold("team/app", app, "1.0")
    world.source.hold("team/app", signature, signature_tag(app.digest))
    world.drive().all()
    world.source.forget_requests()
    with valkey.client() as client, engine_on(valkey) as forgetful:
        assert client.delete(forgetful.ledger.keys.manifest(signature.digest)) == 1

        run = Drive(forgetful, world.spec).all()

    assert run.report.states == {"current": 1}
    assert not [one for one in world.source.requests if one.method == "GET" and "/manifests/" in one.path]


def test_a_signature_that_was_replaced_at_the_source_is_replaced_everywhere(world: World) -> None:
    app = image("one")
    world.source.hold("team/app", app, "1.0")
    world.source.hold("team/app", build_signature(app), signature_tag(app.digest))
    world.drive().all()
    second = build_artifact({"s": b"signed twice"}, artifact_type="application/sig")
    world.source.hold("team/app", second, signature_tag(app.digest))

    world.drive().all()

    assert world.where(signature_tag(app.digest)) == [second.digest] * 2


def test_a_referrer_that_a_target_holds_and_does_not_list_is_listed(world: World) -> None:
    app = image("one")
    sbom = build_artifact({"sbom.json": b"{}"}, artifact_type="application/spdx+json", subject=app)
    world.source.hold("team/app", app, "1.0")
    world.source.hold("team/app", sbom)
    with MemoryRegistry(referrers=False) as plain:
        spec = MirrorSpec("app", world.spec.source, (Target(f"{plain.host}/copy/app"),))
        world.drive(spec).all()
        plain.untag("copy/app", fallback_tag(app.digest))

        world.drive(spec).all()

        (listed,) = world.engine.open_repository(f"{plain.host}/copy/app").referrers(app.digest)
        assert listed.digest == sbom.digest


def test_referrers_go_into_the_tag_schema_where_a_target_has_no_api(world: World) -> None:
    app = image("one")
    sbom = build_artifact({"sbom.json": b"{}"}, artifact_type="application/spdx+json", subject=app)
    world.source.hold("team/app", app, "1.0")
    world.source.hold("team/app", sbom)
    with MemoryRegistry(referrers=False) as plain:
        world.drive(MirrorSpec("app", world.spec.source, (Target(f"{plain.host}/copy/app"),))).all()

        (listed,) = world.engine.open_repository(f"{plain.host}/copy/app").referrers(app.digest)
        assert (listed.digest, listed.artifact_type) == (sbom.digest, "application/spdx+json")


def test_a_platform_subset_keeps_the_digest_of_the_index(world: World) -> None:
    amd, arm = image("one"), image("one", ARM)
    both = build_index([amd, arm])
    world.source.hold("team/app", both, "1.0")
    spec = MirrorSpec("app", world.spec.source, world.spec.targets, platforms=("linux/arm64",))

    Drive(world.engine, spec).all()

    assert world.where("1.0") == [both.digest] * 2
    assert arm.digest in world.us.manifests("copy/app")
    assert amd.digest not in world.us.manifests("copy/app")


def test_a_registry_that_refuses_a_sparse_index_fails_that_tag_with_that_reason(world: World) -> None:
    world.source.hold("team/app", build_index([image("one"), image("one", ARM)]), "1.0")
    with MemoryRegistry(sparse_index=False) as strict:
        target = Target(f"{strict.host}/copy/app")
        spec = MirrorSpec("app", world.spec.source, (target,), platforms=("linux/arm64",))
        run = world.drive(spec).all()

        assert run.states("1.0") == ["failed"]
        assert "platforms" in run.tags["1.0"].reason


def test_tags_that_share_a_manifest_never_put_it_twice_at_once(world: World) -> None:
    tags = [f"1.{n}" for n in range(8)]
    for tag in tags:
        world.source.hold("team/app", image("same"), tag)
    watch = Overlaps()
    world.eu.on_request = watch
    spec = replace(world.spec, targets=world.spec.targets[1:])

    run = world.drive(spec).all()

    assert run.report.states == {"updated": 8}
    assert watch.puts >= len(tags)
    assert watch.worst == 1


class Overlaps:
    """Counts manifest PUTs that are under way together; the answer to each is what ends it."""

    def __init__(self) -> None:
        self.puts = self.worst = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, method: str, path: str) -> None:
        if method != "PUT" or "/manifests/" not in path:
            return
        with self._lock:
            self.puts += 1
            self._now += 1
            self.worst = max(self.worst, self._now)
        threading.Event().wait(0.01)  # long enough for another to come in, were it allowed
        with self._lock:
            self._now -= 1


def test_a_cancelled_run_moves_nothing_and_says_so(world: World) -> None:
    world.source.hold("team/app", image("new"), "1.0")
    run = world.drive()
    run.resolve()
    world.engine.ledger.cancel_run(run.run)
    run.land()
    run.finalize()

    assert world.where("1.0") == [None, None]
    assert run.states("1.0") == ["cancelled", "cancelled"]
    assert run.report.state == "cancelled"


def test_a_source_that_cannot_be_listed_fails_the_run_with_the_reason(world: World) -> None:
    run = world.drive(MirrorSpec("nope", f"{world.source.host}/no/such", world.spec.targets))

    assert run.report.state == "failed"
    assert run.report.error_kind == "NotFound"
    assert "no/such" in run.report.error


def test_every_step_may_run_twice(world: World) -> None:
    world.source.hold("team/app", image("one"), "1.0")
    run = world.drive()
    for step in (run.resolve, run.land, run.finalize, run.flip, run.conclude):
        step()
        step()

    assert run.report.states == {"updated": 1}
    assert world.where("1.0") == [image("one").digest] * 2


def _deny_manifests(method: str, path: str) -> None:
    if method == "PUT" and "/manifests/" in path:
        raise ErrorReply(403, "DENIED", "quota exceeded")


def _immutable_tags(method: str, path: str) -> None:
    if method == "PUT" and path.endswith("/manifests/1.0"):
        raise ErrorReply(400, "TAG_INVALID", "tag is immutable")


def _refused_tags(method: str, path: str) -> None:
    if method == "PUT" and path.endswith("/manifests/1.0"):
        raise ErrorReply(400, "MANIFEST_INVALID", "not this one")
