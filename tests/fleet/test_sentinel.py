"""A Redis whose primary is killed in mid-run: real Sentinels, real workers, skopeo as the judge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event, Lock

import pytest

from mirror.spec import MirrorSpec, Target
from registry.images import Image, build_image, random_layer
from registry.memory import MemoryRegistry
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.pushing import push
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder
from tests.support.sentinels import FailingOver

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(300)]

REPOSITORY = "team/app"
TAGS = 12
RUN_TIMEOUT_S = 150
PASSWORD, SENTINEL_PASSWORD = "hunter2-of-redis", "hunter2-of-sentinel"


@dataclass
class Station:
    """A fleet of two regions on a Redis that fails over; ``eu`` has two targets, one a real registry."""

    redis: FailingOver
    fleet: Fleet
    source: DockerRegistry
    us: MemoryRegistry
    eu: MemoryRegistry
    disk: DockerRegistry
    early: list[str] = field(default_factory=list)
    """Tags that moved while another target missed something of them."""
    moved: list[str] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    @property
    def targets(self) -> tuple[Target, ...]:
        places = (("us", self.us), ("eu", self.eu), ("eu", self.disk))
        return tuple(Target(f"{place.host}/{REPOSITORY}", region) for region, place in places)

    def publish(self, generation: int) -> dict[str, Image]:
        """New images under the same tags."""
        images = {
            f"1.{number}": build_image(
                {"n": bytes([number, generation])}, layers=[random_layer(2**17, 100 * generation + number)]
            )
            for number in range(TAGS)
        }
        for tag, image in images.items():
            push(f"{self.source.host}/{REPOSITORY}", image, tag)
        return images

    def watch(self, images: dict[str, Image], after: int, reached: Event) -> None:
        """Look at the other targets whenever a tag moves; ``reached`` once ``after`` of them have."""

        def look(other: MemoryRegistry, method: str, path: str) -> None:
            tag = path.rpartition("/manifests/")[2]
            if method == "PUT" and tag in images:
                with self._lock:
                    self.moved.append(tag)
                    if not _holds(other, images[tag]):
                        self.early.append(tag)
                    if len(self.moved) >= after:
                        reached.set()

        self.us.on_request = lambda method, path: look(self.eu, method, path)
        self.eu.on_request = lambda method, path: look(self.us, method, path)


def _holds(registry: MemoryRegistry, image: Image) -> bool:
    manifest = registry.manifests(REPOSITORY).get(image.digest)
    blobs = [image.config, *image.layers]
    return manifest is not None and all(
        registry.holds_blob(REPOSITORY, one.descriptor.digest) for one in blobs
    )


@pytest.fixture
def station() -> Iterator[Station]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source, disk = (
            stack.enter_context(DockerRegistry(made(folder / name))) for name in ("source", "disk")
        )
        us, eu = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        redis = stack.enter_context(FailingOver(folder / "redis", PASSWORD, SENTINEL_PASSWORD))
        settings = {"SEALIFT_BATCH_TAGS": "2", "SEALIFT_COPY_THREADS": "2", "SEALIFT_STALL_S": "5"}
        fleet = stack.enter_context(Fleet(made(folder / "fleet"), ["us", "eu"], settings, server=redis))
        yield Station(redis, fleet, source, us, eu, disk)


def test_a_primary_that_is_killed_in_mid_run_loses_nothing_and_nobody_has_to_help(station: Station) -> None:
    fleet = station.fleet
    spec = MirrorSpec("app", f"{station.source.host}/{REPOSITORY}", station.targets)
    station.publish(1)
    assert fleet.run(spec, timeout_s=RUN_TIMEOUT_S).states == {"updated": TAGS}
    images, reached = station.publish(2), Event()
    station.watch(images, 3, reached)

    run = fleet.start_run(spec)
    assert reached.wait(60), fleet.logs()
    killed = station.redis.kill_primary()
    station.redis.await_takeover(killed)
    report = fleet.wait(run, RUN_TIMEOUT_S)

    assert report.states == {"updated": TAGS}, fleet.tags(run)
    assert station.early == []
    for tag, image in images.items():
        for target in station.targets:
            assert skopeo.digest(f"{target.repository}:{tag}") == image.digest
    assert all(worker.running for worker in fleet.workers.values())

    killed.restart()  # as a replica of the one that took over
    assert fleet.run(spec, timeout_s=RUN_TIMEOUT_S).states == {"current": TAGS}
    logs = "".join(process.text() for process in fleet.processes)
    assert PASSWORD not in logs
    assert SENTINEL_PASSWORD not in logs
