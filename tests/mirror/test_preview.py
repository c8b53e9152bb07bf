from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import cast

import pytest

from mirror.preview import PATIENCE, Preview, TagPreview, TargetPreview, preview
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_CONFIG, OCI_MANIFEST, Descriptor, Platform, digest_of
from registry.errors import Denied, DigestMismatch, NotFound, RegistryError, Unauthorized, Unreachable
from registry.images import Image, Index, build_image, build_index
from registry.manifest import Manifest
from registry.repository import Repository

SOURCE, ONE, TWO = "src.example/app", "one.example/app", "two.example/app"
OLD, NEW = digest_of(b"old"), digest_of(b"new")


@dataclass
class Shelf:
    """A repository's tags; what is only read."""

    name: str
    held: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    fault: RegistryError | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return self.name.partition("/")[0]

    def tags(self, last: str | None = None) -> Iterator[list[str]]:
        assert last is None
        self.asked.append("tags")
        names = sorted(self.held)
        yield names[:2]
        yield names[2:]

    def resolve(self, tag_or_digest: str) -> Descriptor:
        self.asked.append(tag_or_digest)
        if self.fault:
            raise self.fault
        digest = tag_or_digest if tag_or_digest in self.held.values() else self.held.get(tag_or_digest)
        if digest is None:
            raise NotFound(self.host, f"app:{tag_or_digest}", "no such tag", 404)
        return Descriptor(OCI_MANIFEST, digest, 1)

    def manifest(self, tag_or_digest: str) -> Manifest:
        digest = self.held.get(tag_or_digest, tag_or_digest)
        if digest not in self.manifests:
            raise NotFound(self.host, f"app:{tag_or_digest}", "no such manifest", 404)
        return self.manifests[digest]

    def open_blob(
        self, blob: Descriptor, offset: int = 0
    ) -> AbstractContextManager[Iterator[bytes | memoryview]]:
        assert offset == 0
        return nullcontext(iter((self.blobs[blob.digest],)))


def fleet(*shelves: Shelf) -> Callable[[str], Repository]:
    by_name = {shelf.name: shelf for shelf in shelves}
    return lambda name: cast("Repository", by_name[name])


def spec(*include: str, newest: int | None = None) -> MirrorSpec:
    targets = (Target(ONE, "us"), Target(TWO, "eu"))
    return MirrorSpec("app", SOURCE, targets, include or ("*",), newest=newest)


def states(found: Preview) -> dict[str, list[str]]:
    return {tag.tag: [target.state for target in tag.targets] for tag in found.tags}


def test_every_tag_is_compared_with_every_target() -> None:
    source = Shelf(SOURCE, {"1.0": NEW, "2.0": NEW, "latest": NEW})
    one, two = Shelf(ONE, {"1.0": NEW, "2.0": OLD}), Shelf(TWO, {"1.0": NEW, "latest": NEW})

    found = preview(spec(), fleet(source, one, two))

    assert states(found) == {
        "1.0": ["current", "current"],
        "2.0": ["move", "new"],
        "latest": ["new", "current"],
    }
    assert found.counts == {"current": 3, "move": 1, "new": 2}
    assert not found.is_current
    assert found.tags[1] == TagPreview(
        "2.0", "2.0", NEW, (TargetPreview(ONE, "us", "move", OLD), TargetPreview(TWO, "eu", "new"))
    )


def test_dropped_tags_keep_their_rule_and_are_not_looked_at() -> None:
    source = Shelf(SOURCE, {"1.0": NEW, "2.0": NEW, "edge": NEW})

    found = preview(spec("semver:*", newest=1), fleet(source, Shelf(ONE), Shelf(TWO)))

    assert found.dropped == (
        ("1.0", "older than the newest 1 versions"),
        ("edge", "no include pattern matches"),
    )
    assert sorted(source.asked) == ["2.0", "tags"]


def test_exact_tags_are_not_listed_and_a_missing_one_is_said_to_be_missing() -> None:
    source = Shelf(SOURCE, {"1.0": NEW})
    one, two = Shelf(ONE), Shelf(TWO)

    found = preview(spec("1.0", "gone"), fleet(source, one, two))

    assert "tags" not in source.asked
    assert states(found) == {"1.0": ["new", "new"], "gone": ["missing", "missing"]}
    assert found.tags[1].targets[0].reason == "the source has no such tag"
    assert one.asked == ["1.0"]


def test_an_exact_tag_beside_patterns_may_be_missing_too() -> None:
    source = Shelf(SOURCE, {"1.0": NEW})

    found = preview(spec("semver:*", "latest"), fleet(source, Shelf(ONE), Shelf(TWO)))

    assert states(found) == {"1.0": ["new", "new"], "latest": ["missing", "missing"]}


def test_exact_references_may_have_another_name_in_the_targets() -> None:
    source, one, two = Shelf(SOURCE, {"1.0": NEW}), Shelf(ONE, {"prod": NEW}), Shelf(TWO, {"prod": OLD})
    plan = MirrorSpec("app", SOURCE, spec().targets, refs=(("prod", NEW), ("test", "1.0")))

    found = preview(plan, fleet(source, one, two))

    assert [(tag.tag, tag.source, tag.digest) for tag in found.tags] == [
        ("prod", NEW, NEW),
        ("test", "1.0", NEW),
    ]
    assert states(found) == {"prod": ["current", "move"], "test": ["new", "new"]}


def test_one_target_that_fails_does_not_hide_the_other() -> None:
    source = Shelf(SOURCE, {"1.0": NEW})
    denied = Denied("one.example", "app:1.0", "not yours", 403)

    found = preview(spec(), fleet(source, Shelf(ONE, fault=denied), Shelf(TWO, {"1.0": NEW})))

    assert states(found) == {"1.0": ["error", "current"]}
    assert found.tags[0].targets[0].reason == "one.example/app:1.0: not yours (403)"


def test_a_target_that_cannot_be_opened_is_an_error_of_its_own() -> None:
    source, two = Shelf(SOURCE, {"1.0": NEW}), Shelf(TWO)

    def open_repository(name: str) -> Repository:
        if name == ONE:
            raise Unauthorized(ONE, "", "its password is missing")
        return fleet(source, two)(name)

    assert states(preview(spec(), open_repository)) == {"1.0": ["error", "new"]}


def test_a_target_out_of_reach_is_not_asked_for_every_tag() -> None:
    source = Shelf(SOURCE, {str(number): NEW for number in range(50)})
    one, two = Shelf(ONE, fault=Unreachable("one.example", "", "connection refused")), Shelf(TWO)

    found = preview(spec(), fleet(source, one, two), threads=1)

    assert found.counts == {"error": 50, "new": 50}
    assert len(one.asked) == PATIENCE


def test_a_tag_that_the_source_cannot_tell_is_an_error_in_every_target() -> None:
    source = Shelf(SOURCE, {"1.0": NEW}, fault=Denied("src.example", "app:1.0", "not yours"))

    found = preview(spec(), fleet(source, Shelf(ONE), Shelf(TWO)))

    assert states(found) == {"1.0": ["error", "error"]}
    assert found.tags[0].digest is None
    assert found.tags[0].targets[0].reason == "source: src.example/app:1.0: not yours"


def test_a_source_that_cannot_be_opened_ends_the_preview() -> None:
    def open_repository(name: str) -> Repository:
        raise Unauthorized(name, "", "its password is missing")

    with pytest.raises(Unauthorized):
        preview(spec(), open_repository)


def test_a_preview_is_a_json_document() -> None:
    source = Shelf(SOURCE, {"1.0": NEW, "edge": OLD})

    found = preview(spec("semver:*"), fleet(source, Shelf(ONE, {"1.0": NEW}), Shelf(TWO, {"1.0": NEW})))
    document = json.loads(json.dumps(found.document()))

    assert found.is_current
    assert document["counts"] == {"current": 2}
    assert document["dropped"] == [["edge", "no include pattern matches"]]
    assert document["tags"][0]["targets"][1]["repository"] == TWO


def dated(created: str) -> Image:
    """An image like any other, its config's date set."""
    image = build_image({"date": created.encode()}, platform=Platform("linux", "amd64"))
    config = json.dumps({"created": created}).encode()
    document = json.loads(image.manifest.content)
    document["config"] = Descriptor(OCI_CONFIG, digest_of(config), len(config)).document()
    manifest = Manifest.parse(json.dumps(document).encode())
    return Image(manifest, image.config.of(config, OCI_CONFIG), image.layers, image.platform)


def dated_source() -> Shelf:
    """Tags whose names are in another order than their dates: c, then a, then b; ``undated`` has none."""
    images = {
        tag: dated(f"2024-0{month}-01T00:00:00.123456789Z") for tag, month in {"a": 2, "b": 3, "c": 1}.items()
    }
    images["undated"] = dated("yesterday")
    annotated = build_index(
        [images["c"]], annotations={"org.opencontainers.image.created": "2024-09-01T00:00:00Z"}
    )
    plain = build_index([images["b"]])
    source = Shelf(SOURCE)
    contents: dict[str, Image | Index] = {**images, "annotated": annotated, "index": plain}
    for tag, content in contents.items():
        source.held[tag] = content.digest
        source.manifests[content.digest] = content.manifest
    for image in images.values():
        source.blobs[image.config.descriptor.digest] = b"".join(image.config.open())
    return source


def test_the_newest_by_date_are_found_in_annotations_configs_and_indexes() -> None:
    plan = MirrorSpec("app", SOURCE, (Target(ONE),), newest=3, newest_by="created")

    found = preview(plan, fleet(dated_source(), Shelf(ONE)))

    assert [tag.tag for tag in found.tags] == ["annotated", "b", "index"]


def test_an_image_without_a_date_is_older_than_all_others() -> None:
    plan = MirrorSpec("app", SOURCE, (Target(ONE),), newest=5, newest_by="created")

    assert [tag for tag, _ in preview(plan, fleet(dated_source(), Shelf(ONE))).dropped] == ["undated"]


def test_a_config_that_is_not_what_its_digest_says_is_not_believed() -> None:
    source = dated_source()
    source.blobs = dict.fromkeys(source.blobs, b"{}")
    plan = MirrorSpec("app", SOURCE, (Target(ONE),), newest=1, newest_by="created")

    with pytest.raises(DigestMismatch):
        preview(plan, fleet(source, Shelf(ONE)))
