"""The simulated registries of a backfill: what they hold is reckoned; they refuse what registries do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from bench.scale import figures, keyspace
from bench.scale.keyspace import kind_of
from bench.scale.source import Source
from bench.scale.target import Target
from bench.scale.wire import Answer, Asked
from bench.scale.world import Image, Size, World
from registry.descriptor import OCI_MANIFEST
from registry.manifest import Manifest
from registry.memory_limits import PullLimits
from tests.support.valkey import ValkeyServer

SIZE = Size(tags=1001, repositories=3, tags_per_image=2)
REPOSITORY = "library/app-00001"


@pytest.fixture
def world() -> World:
    return World(SIZE)


def source_of(world: World, pulls: int = 10**6, page_size: int = 100) -> Source:
    return Source(world, PullLimits(pulls, 60, retry_after=True), page_size)


def ask(registry: Source | Target, method: str, url: str, body: bytes = b"", kind: str = "") -> Answer:
    parts = urlsplit(url)
    return registry.serve(Asked(method, parts.path, parts.query, kind, body))


def linked(answer: Answer) -> str:
    """Where the next page is; empty where there is none."""
    return answer.head.partition("Link: <")[2].partition(">")[0]


def pages(registry: Source | Target, url: str, key: str) -> Iterator[list[str]]:
    while url:
        answer = ask(registry, "GET", url)
        yield json.loads(answer.body)[key]
        url = linked(answer)


def push(target: Target, repository: str, image: Image, tag: str) -> Answer:
    for blob in image.blobs:
        begun = ask(target, "POST", f"/v2/{repository}/blobs/uploads/")
        session = begun.head.partition("Location: ")[2].partition("\r\n")[0]
        assert ask(target, "PUT", f"{session}?digest={blob.digest}", blob.content).status == 201
    return ask(target, "PUT", f"/v2/{repository}/manifests/{tag}", image.manifest, OCI_MANIFEST)


def test_all_tags_and_repositories_are_listed_page_by_page_in_lexical_order(world: World) -> None:
    source = source_of(world)
    names = [name for page in pages(source, "/v2/_catalog?n=2", "repositories") for name in page]
    assert names == sorted(names)
    assert len(names) == 3
    tags = [
        [tag for page in pages(source, f"/v2/{name}/tags/list?n=1000", "tags") for tag in page]
        for name in names
    ]
    assert all(found == sorted(set(found)) for found in tags)
    assert sum(map(len, tags)) == 1001
    assert len(list(pages(source, f"/v2/{REPOSITORY}/tags/list", "tags"))) == 4


def test_a_list_goes_on_behind_any_name(world: World) -> None:
    source = source_of(world)
    answer = ask(source, "GET", f"/v2/{REPOSITORY}/tags/list?n=2&last=sha256-")
    assert json.loads(answer.body)["tags"] == [world.tag(0), world.tag(1)]
    assert json.loads(ask(source, "GET", f"/v2/{REPOSITORY}/tags/list?last=z").body)["tags"] == []


def test_every_digest_is_that_of_the_bytes_and_every_image_is_whole(world: World) -> None:
    source = source_of(world)
    answer = ask(source, "GET", f"/v2/{REPOSITORY}/manifests/{world.tag(7)}")
    manifest = Manifest.parse(answer.body, OCI_MANIFEST)
    assert f"Docker-Content-Digest: {manifest.digest}\r\n" in answer.head
    assert ask(source, "GET", f"/v2/{REPOSITORY}/manifests/{manifest.digest}").body == answer.body
    for blob in manifest.blobs:
        content = ask(source, "GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}").body
        assert (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content)) == (blob.digest, blob.size)


def test_tags_share_images_and_images_share_layers(world: World) -> None:
    tags = [world.image(1, world.image_number(tag)).digest for tag in range(4)]
    assert tags[0] == tags[1] != tags[2] == tags[3]
    blobs = [{blob.digest for blob in world.image(1, number).blobs} for number in range(2)]
    assert len(blobs[0] & blobs[1]) == 3


def test_content_that_was_never_told_of_is_found_by_a_search(world: World) -> None:
    told, other = World(SIZE).image(2, 100), World(SIZE).image(1, 0)
    assert world.image_number_of(2, told.digest) == 100
    found = world.blob_of(2, told.blobs[0].digest)
    assert found
    assert found.content == told.blobs[0].content
    assert world.image_number_of(2, other.digest) is None
    assert world.blob_of(2, other.blobs[0].digest) is None


def test_tags_that_moved_are_at_other_images(world: World) -> None:
    before = [world.image(number, 5) for number in (0, 1)]
    world.move(1)
    assert world.image(0, 5).digest != before[0].digest
    assert world.image(1, 5) == before[1]
    assert world.image_number_of(0, before[0].digest) is None


def test_reading_a_manifest_is_a_pull_and_looking_at_it_is_none(world: World) -> None:
    source, url = source_of(world, pulls=2), f"/v2/{REPOSITORY}/manifests/{world.tag(0)}"
    for _ in range(3):
        assert "RateLimit-Remaining: 2;w=60\r\n" in ask(source, "HEAD", url).head
    assert [ask(source, "GET", url).status for _ in range(3)] == [200, 200, 429]
    assert "Retry-After: " in ask(source, "GET", url).head
    assert source.document()["overdrawn"] == 2


def test_a_target_takes_a_manifest_only_where_all_of_it_is_there(world: World) -> None:
    target, image = Target(), world.image(1, 0)
    url = f"/v2/{REPOSITORY}/manifests/latest"
    assert ask(target, "PUT", url, image.manifest, OCI_MANIFEST).status == 400
    push(target, "library/other", image, "latest")
    assert ask(target, "PUT", url, image.manifest, OCI_MANIFEST).status == 400

    assert push(target, REPOSITORY, image, "latest").status == 201
    answer = ask(target, "GET", url)
    assert (answer.status, answer.body) == (200, image.manifest)


def test_a_target_takes_no_blob_whose_bytes_are_others(world: World) -> None:
    target, blob = Target(), world.image(1, 0).blobs[0]
    session = ask(target, "POST", f"/v2/{REPOSITORY}/blobs/uploads/").head
    url = session.partition("Location: ")[2].partition("\r\n")[0]
    assert ask(target, "PUT", f"{url}?digest={blob.digest}", blob.content + b"!").status == 400
    assert ask(target, "HEAD", f"/v2/{REPOSITORY}/blobs/{blob.digest}").status == 404


def test_a_blob_is_mounted_where_another_repository_has_it(world: World) -> None:
    target, blob = Target(), world.image(1, 0).blobs[1]
    push(target, REPOSITORY, world.image(1, 0), "latest")
    query = f"mount={blob.digest}&from={REPOSITORY}"
    assert ask(target, "POST", f"/v2/library/other/blobs/uploads/?{query}").status == 201
    answer = ask(target, "GET", f"/v2/library/other/blobs/{blob.digest}")
    assert answer.body == blob.content


def test_a_target_counts_what_is_put_again(world: World) -> None:
    target, image = Target(), world.image(1, 0)
    for _ in range(2):
        push(target, REPOSITORY, image, "latest")
    push(target, REPOSITORY, world.image(1, 1), "latest")
    assert target.document()["again"] == {"blob": 4 + 3, "tag": 1}


def test_targets_that_hold_what_the_source_has_have_its_digest(world: World) -> None:
    small = World(Size(tags=6, repositories=2))
    target = Target()
    for repository in (1, 0):
        for tag in range(3):
            image = small.image(repository, small.image_number(tag))
            assert target.digest() != source_of(small).digest()
            push(target, small.repository(repository), image, small.tag(tag))
    assert target.digest() == source_of(small).digest()


def test_a_target_that_was_filled_holds_all_that_is_not_new(world: World) -> None:
    size = Size(tags=12, repositories=4, one_new_in=4)
    small, target = World(size), Target()
    target.fill(small)
    assert target.document()["tags"] == 9
    lists = [ask(target, "GET", f"/v2/{small.repository(n)}/tags/list").status for n in range(4)]
    assert lists == [404, 200, 200, 200]
    ask(target, "HEAD", f"/v2/{small.repository(1)}/manifests/{small.tag(0)}")
    assert (target.document()["looks"], target.document()["looks_held"]) == ({}, {"0": 8, "1": 1})
    for tag in range(3):
        push(target, small.repository(0), small.image(0, small.image_number(tag)), small.tag(tag))
    assert target.digest() == source_of(small).digest()


def test_what_was_counted_more_often_than_usual_was_repeated() -> None:
    counts = {"1": 3, "3": 1000, "4": 10, "6": 1}
    assert figures.usual(counts) == 3
    assert figures.beyond(counts, 3) == 10 + 3
    assert figures.usual({}) == 1


def test_older_results_are_read_that_tell_less_of_looks() -> None:
    source: dict[str, Any] = {"looks": {}, "reads": {}, "configs": {}, "layers": {}}
    phase: Any = SimpleNamespace(counts=[source, {"looks": {"1": 9, "2": 4}, "again": {}}])

    assert figures.repeated(phase) == {"looks at target tags": 4}


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (b"sealift:ledger:batch:7c1.0", "batch"),
        (b"sealift:ledger:batch:7c1.0:due:region-0", "batch: due"),
        (b"sealift:ledger:run:7c1", "run"),
        (b"sealift:ledger:run:7c1:progress", "run: progress"),
        (b"sealift:ledger:newest:127.0.0.1:5000/library/app", "newest"),
        (b"sealift:ledger:history:everything/library/app", "history"),
        (b"celery-task-meta-1", "other"),
    ],
)
def test_keys_are_told_apart_by_their_kind(key: bytes, kind: str) -> None:
    assert kind_of(key) == kind


def test_few_keys_are_all_weighed_whichever_comes_first(valkey: ValkeyServer) -> None:
    with valkey.client() as redis:
        redis.set("large", b"x" * 50_000)
        for number in range(9):
            redis.set(f"small-{number}", b"x")
        (found,) = keyspace.kinds(redis)

        assert found.keys == 10
        assert found.bytes == sum(redis.memory_usage(name) or 0 for name in redis.scan_iter())
