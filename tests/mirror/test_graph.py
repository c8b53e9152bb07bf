from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

import mirror.graph
from mirror.graph import BUILDKIT_CACHE, GraphError, walk
from registry.descriptor import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
    Descriptor,
    Platform,
    digest_of,
)
from registry.manifest import Manifest

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


class Shelf:
    """Manifests by digest, and which were fetched."""

    def __init__(self) -> None:
        self.manifests: dict[str, Manifest] = {}
        self.fetched: list[str] = []

    def fetch(self, descriptor: Descriptor) -> Manifest:
        self.fetched.append(descriptor.digest)
        return self.manifests[descriptor.digest]

    def image(self, name: str, platform: str = "", *, layers: Iterable[Descriptor] = ()) -> Descriptor:
        """A descriptor of an image with its own config, and ``layers`` or a layer of its own."""
        blobs = [layer.document() for layer in layers or (blob(f"{name} layer"),)]
        config = blob(f"{name} config", OCI_CONFIG).document()
        return self.keep({"mediaType": OCI_MANIFEST, "config": config, "layers": blobs}, platform)

    def index(self, *children: Descriptor, platform: str = "") -> Descriptor:
        document = {"mediaType": OCI_INDEX, "manifests": [child.document() for child in children]}
        return self.keep(document, platform)

    def attestation(self, about: Descriptor) -> Descriptor:
        """As buildkit adds one beside each image."""
        annotations = {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": about.digest,
        }
        image = self.image(f"attestation of {about.digest}", "unknown/unknown")
        return replace(image, annotations=tuple(annotations.items()))

    def keep(self, document: dict[str, Any], platform: str = "") -> Descriptor:
        manifest = Manifest.parse(json.dumps({"schemaVersion": 2, **document}).encode())
        self.manifests[manifest.digest] = manifest
        return replace(manifest.descriptor, platform=Platform.parse(platform) if platform else None)

    def __getitem__(self, descriptor: Descriptor) -> Manifest:
        return self.manifests[descriptor.digest]


def blob(name: str, kind: str = OCI_LAYER_GZIP) -> Descriptor:
    return Descriptor(kind, digest_of(name.encode()), len(name))


def digests(found: Iterable[Descriptor | Manifest]) -> list[str]:
    return [one.digest for one in found]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_an_image_is_its_config_and_layers(shelf: Shelf) -> None:
    root = shelf[shelf.image("app")]

    graph = walk(root, shelf.fetch)

    assert graph.manifests == (root,)
    assert graph.blobs == (blob("app config", OCI_CONFIG), blob("app layer"))
    assert graph.size == root.size + len("app config") + len("app layer")
    assert shelf.fetched == []


def test_children_come_before_parents_and_the_root_last(shelf: Shelf) -> None:
    one, two, three = shelf.image("one"), shelf.image("two"), shelf.image("three")
    inner = shelf.index(two, three)
    outer = shelf.index(one, inner)

    graph = walk(shelf[outer], shelf.fetch)

    assert digests(graph.manifests) == digests([one, two, three, inner, outer])


def test_shared_content_is_fetched_and_listed_once(shelf: Shelf) -> None:
    base = blob("base")
    one, two = shelf.image("one", layers=[base, blob("one")]), shelf.image("two", layers=[base])
    outer = shelf.index(one, shelf.index(one, two), two)

    graph = walk(shelf[outer], shelf.fetch)

    assert len(graph.manifests) == 4
    assert len(shelf.fetched) == len(set(shelf.fetched)) == 3
    assert digests(graph.blobs) == digests([blob("one config"), base, blob("one"), blob("two config")])


def test_only_wished_platforms_are_walked(shelf: Shelf) -> None:
    amd, arm, riscv = (shelf.image(name, f"linux/{name}") for name in ("amd64", "arm64", "riscv64"))
    root = shelf[shelf.index(amd, arm, riscv)]

    graph = walk(root, shelf.fetch, ("linux/amd64", "linux/arm64"))

    assert digests(graph.manifests) == digests([amd, arm, root])
    assert graph.left_out == (riscv,)
    assert riscv.digest not in shelf.fetched
    assert blob("riscv64 layer") not in graph.blobs


@pytest.mark.parametrize(
    ("offered", "wished", "kept"),
    [
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm/v7", "linux/arm/v7", True),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("windows/amd64", "linux/amd64", False),
    ],
)
def test_a_variant_matters_where_it_is_wished_for(
    shelf: Shelf, offered: str, wished: str, *, kept: bool
) -> None:
    child, other = shelf.image("one", offered), shelf.image("other", "linux/s390x")
    root = shelf[shelf.index(child, other)]

    graph = walk(root, shelf.fetch, (wished, "linux/s390x"))

    assert (child.digest in digests(graph.manifests)) == kept


def test_attestations_go_with_their_image(shelf: Shelf) -> None:
    amd, arm = shelf.image("amd", "linux/amd64"), shelf.image("arm", "linux/arm64")
    of_amd, of_arm = shelf.attestation(amd), shelf.attestation(arm)
    root = shelf[shelf.index(of_arm, of_amd, amd, arm)]

    graph = walk(root, shelf.fetch, ("linux/amd64",))

    assert digests(graph.manifests) == digests([of_amd, amd, root])
    assert graph.left_out == (of_arm, arm)


def test_children_without_platform_are_kept(shelf: Shelf) -> None:
    amd, arm = shelf.image("amd", "linux/amd64"), shelf.image("arm", "linux/arm64")
    artifact, unknown = shelf.image("artifact"), shelf.image("unknown", "unknown/unknown")
    nested = shelf.index(arm)
    root = shelf[shelf.index(amd, artifact, unknown, nested)]

    graph = walk(root, shelf.fetch, ("linux/amd64",))

    assert digests(graph.manifests) == digests([amd, artifact, unknown, nested, root])
    assert graph.left_out == (arm,)


def test_an_index_without_a_wished_platform_says_what_it_has(shelf: Shelf) -> None:
    root = shelf[shelf.index(shelf.image("arm", "linux/arm64/v8"), shelf.image("amd", "linux/amd64"))]

    with pytest.raises(GraphError, match="no image for linux/riscv64; there is linux/amd64, linux/arm64/v8"):
        walk(root, shelf.fetch, ("linux/riscv64",))


def test_an_index_that_names_no_platform_at_all_is_kept_whole(shelf: Shelf) -> None:
    root = shelf[shelf.index(shelf.image("one"), shelf.image("two"))]

    assert len(walk(root, shelf.fetch, ("linux/amd64",)).manifests) == 3


def test_a_single_image_is_kept_whatever_platforms_are_wished_for(shelf: Shelf) -> None:
    root = shelf[shelf.image("app")]

    assert walk(root, shelf.fetch, ("linux/riscv64",)) == walk(root, shelf.fetch)


def test_a_malformed_platform_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ValueError, match="not a platform"):
        walk(shelf[shelf.image("app")], shelf.fetch, ("linux",))


@pytest.mark.parametrize(
    "layer",
    [
        blob("windows", FOREIGN),
        blob("layer", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        replace(blob("elsewhere"), urls=("https://cdn.example/layer",)),
    ],
)
def test_foreign_layers_are_named_and_not_to_be_copied(shelf: Shelf, layer: Descriptor) -> None:
    root = shelf[shelf.image("app", layers=[layer, blob("own")])]

    graph = walk(root, shelf.fetch)

    assert graph.foreign == (layer,)
    assert digests(graph.blobs) == digests([blob("app config"), blob("own")])


def test_a_layer_that_is_foreign_in_one_image_and_own_in_another_is_copied(shelf: Shelf) -> None:
    own, foreign = blob("same"), blob("same", FOREIGN)
    root = shelf[shelf.index(shelf.image("one", layers=[foreign]), shelf.image("two", layers=[own]))]

    graph = walk(root, shelf.fetch)

    assert graph.foreign == ()
    assert own in graph.blobs


def test_a_build_cache_lists_layers_in_its_index(shelf: Shelf) -> None:
    layer, config = blob("layer"), blob("cache", BUILDKIT_CACHE)
    root = shelf[shelf.index(layer, config)]

    graph = walk(root, shelf.fetch)

    assert graph.manifests == (root,)
    assert graph.blobs == (layer, config)


@pytest.mark.parametrize(
    "kind", ["application/x-thing", "application/vnd.docker.distribution.manifest.v1+json"]
)
def test_a_child_of_unknown_kind_is_refused_by_name(shelf: Shelf, kind: str) -> None:
    root = shelf[shelf.index(blob("thing", kind))]

    with pytest.raises(GraphError, match=f"of unknown kind '{kind}'".replace("+", r"\+")):
        walk(root, shelf.fetch)


@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ({"size": 7}, "promises size 7, it has"),
        ({"digest": digest_of(b"other")}, "promises digest"),
        ({"media_type": OCI_INDEX}, "promises media type"),
    ],
)
def test_a_child_that_is_not_what_its_index_promises_is_refused(
    shelf: Shelf, lie: dict[str, Any], said: str
) -> None:
    child = shelf.image("app")
    promised = replace(child, **lie)
    shelf.manifests[promised.digest] = shelf[child]
    root = shelf[shelf.index(promised)]

    with pytest.raises(GraphError, match=said):
        walk(root, shelf.fetch)


def nested(shelf: Shelf, depth: int) -> Manifest:
    descriptor = shelf.image("app")
    for _ in range(depth):
        descriptor = shelf.index(descriptor)
    return shelf[descriptor]


def test_indexes_nest_four_deep_and_no_deeper(shelf: Shelf) -> None:
    assert len(walk(nested(shelf, 4), shelf.fetch).manifests) == 5

    with pytest.raises(GraphError, match="nested more than 4 deep"):
        walk(nested(shelf, 5), shelf.fetch)


def test_an_index_in_itself_is_refused(shelf: Shelf) -> None:
    root = shelf[shelf.index(shelf.image("app"))]
    forged = replace(root, children=(root.descriptor,))

    with pytest.raises(GraphError, match="is its own descendant"):
        walk(forged, lambda _: forged)


def test_a_graph_of_too_many_manifests_is_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror.graph, "MAX_MANIFESTS", 3)
    root = shelf[shelf.index(*(shelf.image(str(number)) for number in range(3)))]

    with pytest.raises(GraphError, match="more than 3 manifests"):
        walk(root, shelf.fetch)


def test_a_graph_of_too_many_bytes_is_refused(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror.graph, "MAX_BYTES", 100)

    with pytest.raises(GraphError, match="MiB of them"):
        walk(shelf[shelf.image("app")], shelf.fetch)
