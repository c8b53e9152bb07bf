"""A source that is read once by the whole fleet: four workers, three regions, real registries (issue 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from mirror.spec import MirrorSpec, Target
from registry.images import Image, build_image, random_layer
from tests.support.fleet import Fleet, made
from tests.support.pushing import push
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]
REGIONS = ("us", "eu", "ap")


@dataclass(frozen=True, slots=True)
class Globe:
    """A source, and a registry in each of three regions."""

    fleet: Fleet
    source: DockerRegistry
    targets: dict[str, DockerRegistry]

    def spec(self, name: str, *regions: str) -> MirrorSpec:
        targets = tuple(Target(f"{self.targets[region].host}/{name}", region) for region in regions)
        source = f"{self.source.host}/{name}"
        return MirrorSpec(name.replace("/", "-"), source, targets, referrers=False, read_from="targets")


@pytest.fixture(scope="module")
def globe() -> Iterator[Globe]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, *targets = [
            stack.enter_context(DockerRegistry(made(folder / name))) for name in ("source", *REGIONS)
        ]
        fleet = stack.enter_context(Fleet(made(folder / "fleet"), REGIONS, {"SEALIFT_BATCH_TAGS": "2"}))
        fleet.start("us")
        fleet.await_ready(["us"])
        yield Globe(fleet, source, dict(zip(REGIONS, targets, strict=True)))


def blobs_read(registry: DockerRegistry) -> Counter[str]:
    """How often each blob was asked for."""
    found = (one for one in registry.requests() if one.method == "GET" and "/blobs/sha256:" in one.path)
    return Counter(one.path.rsplit("/", 1)[1] for one in found)


def images(name: str, count: int) -> dict[str, Image]:
    """Tags that share a large layer, and have one each of their own."""
    base = build_image({}, layers=[random_layer(3_000_000, seed=len(name))])
    return {f"1.{n}": build_image({"a": f"{name} {n}".encode() * 5000}, base=base) for n in range(count)}


def blobs_of(pushed: dict[str, Image]) -> set[str]:
    return {blob.descriptor.digest for image in pushed.values() for blob in image.blobs}


def test_four_workers_in_three_regions_read_each_blob_once_at_the_source(globe: Globe) -> None:
    pushed = images("app", 12)
    for tag, image in pushed.items():
        push(f"{globe.source.host}/team/app", image, tag)
    globe.source.forget_requests()

    report = globe.fleet.run(globe.spec("team/app", *REGIONS))

    assert report.states == {"updated": len(pushed)}, globe.fleet.logs()
    blobs = blobs_of(pushed)
    assert blobs_read(globe.source) == dict.fromkeys(blobs, 1)
    assert sum(region.moved.copied_blobs for region in report.regions) == 3 * len(blobs)


def test_a_registry_that_holds_the_blobs_serves_them_and_the_source_sends_no_byte(globe: Globe) -> None:
    pushed = images("later", 4)
    for tag, image in pushed.items():
        push(f"{globe.source.host}/team/later", image, tag)
    spec = globe.spec("team/later", "eu", "us")
    assert globe.fleet.run(replace(spec, targets=spec.targets[:1])).states == {"updated": len(pushed)}
    for registry in (globe.source, globe.targets["eu"]):
        registry.forget_requests()

    assert globe.fleet.run(spec).states == {"updated": len(pushed)}

    assert blobs_read(globe.source) == {}
    assert blobs_read(globe.targets["eu"]) == dict.fromkeys(blobs_of(pushed), 1)
