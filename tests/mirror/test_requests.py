"""How much is asked of registries: nothing that is known already, nothing whose answer changes nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import pytest

from mirror import resolve
from mirror.engine import Engine
from mirror.ledger.content import Memory
from mirror.manifests import Manifests
from mirror.retry import Patience
from mirror.spec import MirrorSpec, Target
from registry.errors import Denied
from registry.images import Image, build_artifact, build_image
from registry.memory import ErrorReply, MemoryRegistry
from registry.referrers import fallback_tag, merged
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until


@dataclass
class Pair:
    """A source that has no referrers API, and a target."""

    engine: Engine
    source: MemoryRegistry
    target: MemoryRegistry

    def drive(self, batch_tags: int = 32) -> Drive:
        target = Target(f"{self.target.host}/copy/app")
        spec = MirrorSpec("app", f"{self.source.host}/team/app", (target,))
        return Drive(self.engine, spec, batch_tags)


@pytest.fixture
def pair(valkey: ValkeyServer) -> Iterator[Pair]:
    with MemoryRegistry(referrers=False) as source, MemoryRegistry() as target, engine_on(valkey) as engine:
        yield Pair(engine, source, target)


def asked(registry: MemoryRegistry, method: str = "") -> list[tuple[str, str]]:
    """What was asked, as (method, last part of the path)."""
    parts = ((one.method, one.path.partition("?")[0].rsplit("/", 1)[1]) for one in registry.requests)
    return [one for one in parts if one[0] == method or not method]


def image(text: str) -> Image:
    return build_image({"app.txt": text.encode()})


def test_a_digest_tag_that_the_listing_does_not_show_is_not_asked_for(pair: Pair) -> None:
    pair.source.hold("team/app", image("one"), "1.0")

    assert pair.drive().all().report.states == {"updated": 1}

    assert not [name for _, name in asked(pair.source) if name.startswith("sha256-")]


def test_a_referrers_tag_that_the_listing_shows_is_followed(pair: Pair) -> None:
    app = image("one")
    sbom = build_artifact({"sbom.json": b"{}"}, artifact_type="application/spdx+json", subject=app)
    pair.source.hold("team/app", app, "1.0")
    pair.source.hold("team/app", sbom)
    listing = merged(None, sbom.manifest.descriptor)
    assert listing
    pair.source.plant("team/app", fallback_tag(app.digest), listing)

    assert pair.drive().all().report.states == {"updated": 1}

    assert sbom.digest in pair.target.manifests("copy/app")
    assert [name for _, name in asked(pair.source) if name.startswith("sha256-")] == [
        fallback_tag(app.digest)
    ]


def test_a_new_tag_is_read_by_one_get_and_a_known_one_is_asked_for_by_head(pair: Pair) -> None:
    pair.source.hold("team/app", image("one"), "1.0")
    pair.drive().all()
    assert [one for one in asked(pair.source) if one[1] == "1.0"] == [("GET", "1.0")]
    assert pair.source.count("manifest", "GET") == 1

    pair.source.forget_requests()
    pair.drive().all()
    assert [one for one in asked(pair.source) if one[1] == "1.0"] == [("HEAD", "1.0")]


def test_where_manifests_are_rationed_a_new_tag_is_asked_for_by_head(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolve, "RATIONED", frozenset({pair.source.host}))
    pair.source.hold("team/app", image("one"), "1.0")

    run = pair.drive()
    run.resolve()

    assert [one for one in asked(pair.source) if one[1] == "1.0"] == [("HEAD", "1.0")]


def test_a_tag_that_goes_to_one_target_costs_one_head_and_one_put_there(pair: Pair) -> None:
    pair.source.hold("team/app", image("one"), "1.0")

    assert pair.drive().all().report.states == {"updated": 1}

    manifests = [one.method for one in pair.target.requests if one.kind == "manifest"]
    assert manifests == ["HEAD", "PUT"]
    assert pair.target.tag("copy/app", "1.0") == image("one").digest


def test_tags_at_one_image_have_its_manifest_put_by_digest_once_in_each_target(pair: Pair) -> None:
    for tag in ("1", "1.0", "latest"):
        pair.source.hold("team/app", image("one"), tag)
    run = pair.drive()
    both = tuple(Target(f"{pair.target.host}/{name}") for name in ("one", "two"))

    assert Drive(pair.engine, replace(run.spec, targets=both)).all().report.states == {"updated": 3}

    puts = [one.path for one in pair.target.requests if (one.kind, one.method) == ("manifest", "PUT")]
    assert sorted(path for path in puts if path.endswith(image("one").digest)) == [
        f"/v2/{name}/manifests/{image('one').digest}" for name in ("one", "two")
    ]
    assert pair.target.tags("two") == dict.fromkeys(("1", "1.0", "latest"), image("one").digest)


def test_the_source_is_asked_once_for_what_is_associated_with_the_image_of_several_tags(pair: Pair) -> None:
    with MemoryRegistry() as source:
        app = image("one")
        sbom = build_artifact({"sbom.json": b"{}"}, artifact_type="application/spdx+json", subject=app)
        for tag in ("1", "1.0", "latest"):
            source.hold("team/app", app, tag)
        source.hold("team/app", sbom)
        spec = replace(pair.drive().spec, source=f"{source.host}/team/app")

        assert Drive(pair.engine, spec).all().report.states == {"updated": 3}

        asked_about = [one.path.rsplit("/", 1)[1] for one in source.requests if one.kind == "referrers"]
        assert asked_about == [app.digest, sbom.digest]
        assert sbom.digest in pair.target.manifests("copy/app")


def test_manifests_are_not_remembered_as_something_to_mount(pair: Pair, valkey: ValkeyServer) -> None:
    app = image("one")
    pair.source.hold("team/app", app, "1.0")

    pair.drive().all()

    keys = pair.engine.ledger.keys
    with valkey.client() as redis:
        assert redis.exists(keys.holder(pair.target.host, app.layers[0].descriptor.digest))
        assert not redis.exists(keys.holder(pair.target.host, app.digest))


def test_content_that_goes_missing_before_the_only_put_is_brought_again(pair: Pair) -> None:
    app = image("one")
    pair.source.hold("team/app", app, "1.0")
    run = pair.drive()
    run.resolve()
    run.land()
    del pair.target.blobs[app.layers[0].descriptor.digest]  # a garbage collector came by
    run.finalize()
    run.flip()
    run.conclude()

    assert run.report.states == {"updated": 1}
    assert pair.target.tag("copy/app", "1.0") == app.digest
    assert pair.target.holds_blob("copy/app", app.layers[0].descriptor.digest)


def test_content_that_goes_missing_everywhere_fails_the_tag_and_says_so(pair: Pair) -> None:
    app = image("one")
    pair.source.hold("team/app", app, "1.0")
    run = pair.drive()
    run.resolve()
    run.land()
    for registry in (pair.target, pair.source):
        del registry.blobs[app.layers[0].descriptor.digest]
    run.finalize()
    run.flip()
    run.conclude()

    assert run.report.states == {"failed": 1}
    assert pair.source.host in run.tags["1.0"].targets[0].reason
    assert pair.target.tag("copy/app", "1.0") is None


def test_an_empty_repository_is_asked_for_no_blob(pair: Pair) -> None:
    pair.source.hold("team/app", image("one"), "1.0")

    assert pair.drive().all().report.states == {"updated": 1}

    assert pair.target.count("blob", "HEAD") == 0
    assert pair.target.count("tags") == 1


def test_a_repository_that_was_empty_when_a_run_came_to_it_is_asked_for_no_blob_by_later_batches(
    pair: Pair,
) -> None:
    for number in range(3):
        pair.source.hold("team/app", image(f"version {number}"), f"1.{number}")
    run = pair.drive(batch_tags=1)

    for batch in list(run.batches):
        run.batches = [batch]
        run.all()

    assert run.report.states == {"updated": 3}
    assert pair.target.count("blob", "HEAD") == 0
    assert pair.target.count("tags") == 1


def test_a_repository_that_holds_tags_is_asked_for_each_blob(pair: Pair) -> None:
    pair.target.hold("copy/app", image("one"), "0.9")
    pair.source.hold("team/app", image("one"), "1.0")

    assert pair.drive().all().report.states == {"updated": 1}

    assert pair.target.count("blob", "HEAD") == 2
    assert pair.target.count("upload") == 0


def test_a_repository_that_we_have_written_to_is_not_taken_for_empty(pair: Pair) -> None:
    pair.source.hold("team/app", image("one"), "1.0")
    pair.drive().all()
    pair.source.hold("team/app", image("two"), "2.0")
    pair.target.forget_requests()

    pair.drive().all()

    assert pair.target.count("tags") == 0


def test_a_blob_that_a_run_cut_short_has_left_is_asked_for_although_there_is_no_tag(pair: Pair) -> None:
    app = image("one")
    pair.source.hold("team/app", app, "1.0")
    pair.target.hold_blob("copy/app", b"".join(app.layers[0].open()))
    content, memory = pair.engine.ledger.content, Memory(present_s=1)
    content.saw(pair.target.host, "copy/app", app.layers[0].descriptor.digest, memory)
    seen = pair.engine.ledger.now()
    until(lambda: pair.engine.ledger.now() > seen + 1.2, 5, "the blob to be believed no more")

    assert pair.drive().all().report.states == {"updated": 1}

    assert pair.target.count("blob", "HEAD") == 1
    assert pair.target.count("upload", "PUT") == 1, "the config only"


def test_a_manifest_that_several_need_at_once_is_read_by_one_of_them(
    valkey: ValkeyServer, pair: Pair
) -> None:
    digest = pair.source.hold("team/app", image("one"), "1.0").digest
    is_read, is_waited_for = threading.Event(), threading.Event()

    def slowly(_: str, path: str) -> None:
        if path.endswith(digest):
            is_read.set()
            is_waited_for.wait(10)

    pair.source.on_request = slowly
    with engine_on(valkey) as other, ThreadPoolExecutor(2) as pool:
        waiting = replace(other, patience=Patience(wait=lambda _: is_waited_for.set()))
        source = f"{pair.source.host}/team/app"
        first = pool.submit(Manifests(pair.engine, pair.engine.open_repository(source)).get, digest)
        assert is_read.wait(10)
        second = pool.submit(Manifests(waiting, waiting.open_repository(source)).get, digest)
        found = {first.result(10).digest, second.result(10).digest}

    assert found == {digest}
    assert [one for one in asked(pair.source) if one[1] == digest] == [("GET", digest)]
    assert not pair.engine.ledger.content.leases.is_held("manifests", digest)


def test_a_manifest_that_could_not_be_read_is_read_by_the_next_who_needs_it(pair: Pair) -> None:
    digest = pair.source.hold("team/app", image("one"), "1.0").digest
    manifests = Manifests(pair.engine, pair.engine.open_repository(f"{pair.source.host}/team/app"))

    def denied(*_: str) -> None:
        raise ErrorReply(403, "DENIED", "not yours")

    pair.source.on_request = denied
    with pytest.raises(Denied):
        manifests.get(digest)
    pair.source.on_request = None

    assert manifests.get(digest).digest == digest
