"""The image sets have the shape that their rows are about."""

from __future__ import annotations

from collections import Counter

from bench.sets import MIB, ImageSet, alike, big, blobs, many_tags, multi_arch, parts, push_all, small_many
from registry.connections import Connections
from registry.credentials import ChainedCredentials
from registry.endpoint import Endpoint
from registry.memory import MemoryRegistry


def digests(images: ImageSet) -> set[str]:
    return {blob.descriptor.digest for one in images.tagged for blob in blobs(one.content)}


def test_consecutive_tags_of_many_small_images_share_four_of_six_layers() -> None:
    images = small_many(repositories=2, tags=3)
    first, second, *_ = (one.content for one in images.tagged)
    layers = [[blob.descriptor.digest for blob in blobs(one)][1:] for one in (first, second)]
    assert [len(one) for one in layers] == [6, 6]
    assert len(set(layers[0]) & set(layers[1])) == 4


def test_every_repository_of_the_small_images_has_the_same_base() -> None:
    images = small_many(repositories=3, tags=1)
    held = Counter(
        digest for one in images.tagged for digest in {b.descriptor.digest for b in blobs(one.content)}
    )
    assert sorted(held.values())[-2:] == [3, 3]


def test_a_twentieth_of_the_small_images_moves_to_something_else() -> None:
    images = small_many(repositories=4, tags=5)
    changed = [
        (one, other) for one, other in zip(images.tagged, images.after, strict=True) if one is not other
    ]
    assert len(changed) == 1
    assert all(one.digest != other.digest for one, other in changed)


def test_sets_are_the_same_at_every_run() -> None:
    assert digests(small_many(2, 2)) == digests(small_many(2, 2))


def test_big_layers_are_as_big_as_asked() -> None:
    images = big(images=1, layers=2, layer_bytes=MIB)
    assert images.content_bytes > 2 * MIB
    assert len(digests(images)) == 3


def test_an_index_has_four_platforms_and_something_that_refers_to_it() -> None:
    images = multi_arch(indexes=2)
    for one in images.tagged:
        assert len(list(parts(one.content))) == 5
        (referrer,) = one.referrers
        assert referrer.manifest.subject
        assert referrer.manifest.subject.digest == one.digest


def test_thousands_of_tags_are_of_few_images_and_mirrored_already() -> None:
    images = many_tags(tags=200, images=50)
    assert images.is_mirrored
    assert len(images.tagged) == 200
    assert len({one.digest for one in images.tagged}) == 50


def test_an_image_is_pushed_once_and_named_as_often_as_it_has_tags() -> None:
    images = many_tags(tags=6, images=2)
    with MemoryRegistry() as registry:
        connections = Connections(lambda host: Endpoint(host, plain_http=True), ChainedCredentials(()))
        push_all(images.tagged, {"bench/many": connections.open(f"{registry.host}/bench/many")})
        repository = connections.open(f"{registry.host}/bench/many")
        found = {one.tag: repository.resolve(one.tag).digest for one in images.tagged}
        connections.close()
    assert found == {one.tag: one.digest for one in images.tagged}
    assert sum(one.kind == "uploads" for one in registry.requests) == 4


def test_images_of_another_name_have_nothing_in_common() -> None:
    assert not digests(alike("bench/one", 2, 2)) & digests(alike("bench/other", 2, 2))
