"""How much is asked of registries: nothing that is known already, nothing whose answer changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mirror import resolve
from mirror.engine import Engine
from mirror.spec import MirrorSpec, Target
from registry.images import Image, build_artifact, build_image
from registry.memory import MemoryRegistry
from registry.referrers import fallback_tag, merged
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer


@dataclass
class Pair:
    """A source that has no referrers API, and a target."""

    engine: Engine
    source: MemoryRegistry
    target: MemoryRegistry

    def drive(self) -> Drive:
        target = Target(f"{self.target.host}/copy/app")
        return Drive(self.engine, MirrorSpec("app", f"{self.source.host}/team/app", (target,)))


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
