"""Two regions 40 ms apart: a far one, one that is cut off, one that is drained, one that is added."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from zlib import crc32

import pytest

from registry.images import Image, build_image, random_layer
from tests.support import skopeo
from tests.support.pushing import ask
from tests.support.regions import FAR, NEAR, Regions
from tests.support.scratch import scratch_folder
from tests.support.waiting import until
from tests.support.wanlink import Unavailable

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(480), skopeo.needs_skopeo]
PATIENCE_S, LONG_S = 90.0, 180.0
WAITS = "No worker of {} was heard of in the last minute: what is to be done there waits for one"


@pytest.fixture(scope="module")
def regions() -> Iterator[Regions]:
    with ExitStack() as stack:
        try:
            yield Regions(stack.enter_context(scratch_folder()), stack, far_workers=2)
        except Unavailable as reason:
            pytest.skip(f"needs root, and a kernel with network namespaces and TUN: {reason}")


def images(name: str, tags: int = 2) -> dict[str, Image]:
    return {
        f"1.{number}": build_image(
            {name: bytes([number])}, layers=[random_layer(2**16, seed=crc32(name.encode()) + number)]
        )
        for number in range(tags)
    }


def contents(tags: dict[str, Image]) -> list[str]:
    return [image.digest for image in tags.values()]


def digests(host: str, name: str, tags: dict[str, Image]) -> dict[str, str | None]:
    """What a registry has under these tags, by skopeo."""
    references = {tag: f"{host}/{name}:{tag}" for tag in tags}
    return {tag: skopeo.digest(at) if skopeo.exists(at) else None for tag, at in references.items()}


def has(host: str, name: str, references: Iterable[str]) -> bool:
    """Whether a registry has all of these; asked often, so without starting a program each time."""
    paths = (f"/v2/{name}/manifests/{reference}" for reference in references)
    return all(ask(host, "HEAD", path).status == 200 for path in paths)


def status(regions: Regions, run: str) -> str:
    return regions.fleet.sealift("status", run).stdout


def test_a_worker_far_from_redis_and_the_source_does_its_work(regions: Regions) -> None:
    tags = images("far", tags=6)
    regions.fill("far", tags)
    (run,) = regions.begin(regions.mirror("far"))

    assert regions.fleet.wait(run).states == {"updated": len(tags)}, regions.fleet.logs()
    for host in regions.hosts.values():
        assert digests(host, "far", tags) == {tag: image.digest for tag, image in tags.items()}


def test_a_region_that_is_cut_off_holds_back_what_must_move_together_and_finishes_when_it_is_back(
    regions: Regions,
) -> None:
    fleet, tags = regions.fleet, images("cut")
    for name in ("together", "alone"):
        regions.fill(name, tags)
    names = (regions.mirror("together"), regions.mirror("alone", finalize="each"))
    regions.us.process.freeze()  # so that it is in the middle of the work when it is cut off
    try:
        runs = dict(zip(names, regions.begin(*names), strict=True))
        until(lambda: regions.in_hand(FAR) == len(runs), PATIENCE_S, fleet.logs)
        regions.link.switch("cut")
    finally:
        regions.us.process.thaw()

    eu = regions.eu.host
    until(lambda: has(eu, "together", contents(tags)), PATIENCE_S, fleet.logs)
    until(lambda: has(eu, "alone", tags), PATIENCE_S, fleet.logs)
    assert set(digests(eu, "together", tags).values()) == {None}, "nothing moves before all have everything"
    assert not fleet.ledger.run_report(runs["alone"]).ended
    a_minute_passes(regions)
    assert WAITS.format(FAR) in status(regions, runs["together"])
    assert WAITS.format(FAR) in status(regions, runs["alone"])

    regions.link.switch("through")
    for name, run in runs.items():
        assert fleet.wait(run, LONG_S).states == {"updated": len(tags)}, fleet.logs()
        for host in regions.hosts.values():
            assert digests(host, name, tags) == {tag: image.digest for tag, image in tags.items()}


def test_what_a_worker_had_in_hand_for_all_regions_when_it_was_cut_off_is_done_by_others(
    regions: Regions,
) -> None:
    fleet, tags = regions.fleet, images("control")
    regions.fill("control", tags)
    regions.fleet.kill(NEAR)  # so that it is a far one that takes it
    regions.source.process.freeze()
    try:
        (run,) = regions.begin(regions.mirror("control", [(NEAR, f"{regions.eu.host}/control")]))
        until(lambda: regions.in_hand(FAR, "enumerate"), PATIENCE_S, fleet.logs)
        regions.link.switch("cut")
    finally:
        regions.source.process.thaw()
    try:
        fleet.start(NEAR)
        assert fleet.wait(run, LONG_S).states == {"updated": len(tags)}, fleet.logs()
    finally:
        regions.link.switch("through")


def a_minute_passes(regions: Regions) -> None:
    """In which nothing is heard of workers that are cut off: what they last said is a minute older."""
    ledger = regions.fleet.ledger
    for member in ledger._redis.zrange(ledger.keys.workers, 0, -1):
        if member.startswith(f"{FAR}\n".encode()):
            ledger._redis.zincrby(ledger.keys.workers, -60, member)


def test_the_work_of_a_region_that_is_drained_waits_for_its_next_worker(regions: Regions) -> None:
    fleet, tags = regions.fleet, images("drained")
    regions.fill("drained", tags)
    first, last = regions.far_workers
    first.signal(signal.SIGTERM)
    until(lambda: not first.running, PATIENCE_S, first.tail)
    assert fleet.ledger.workers.live_regions() == {NEAR, FAR}, "one is left"
    last.signal(signal.SIGTERM)
    until(lambda: not last.running, PATIENCE_S, last.tail)

    (run,) = regions.begin(regions.mirror("drained"))
    until(lambda: WAITS.format(FAR) in status(regions, run), PATIENCE_S, fleet.logs)
    until(lambda: has(regions.eu.host, "drained", contents(tags)), PATIENCE_S, fleet.logs)
    assert set(digests(regions.eu.host, "drained", tags).values()) == {None}

    regions.start_far()
    assert fleet.wait(run).states == {"updated": len(tags)}, fleet.logs()
    assert (first.exit_code, last.exit_code) == (0, 0)


def test_a_region_is_added_while_the_others_work_on(regions: Regions) -> None:
    fleet, tags = regions.fleet, images("added")
    regions.fill("added", tags)
    targets = [(NEAR, f"{regions.eu.host}/added"), ("ap", f"{regions.source.host}/ap/added")]
    (run,) = regions.begin(regions.mirror("added", targets))
    until(lambda: WAITS.format("ap") in status(regions, run), PATIENCE_S, fleet.logs)

    fleet.start("ap")
    assert fleet.wait(run).states == {"updated": len(tags)}, fleet.logs()
    for region, repository in targets:
        host, _, name = repository.partition("/")
        assert digests(host, name, tags) == {tag: image.digest for tag, image in tags.items()}, region
