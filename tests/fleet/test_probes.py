"""Three registries, two regions, one far away: what probes find, and that Sealift's own reads follow it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from mirror.ledger.probes import Reach
from registry.images import Image, build_image, random_layer
from registry.memory import MemoryRegistry
from tests.support import skopeo
from tests.support.fleet import Fleet, made
from tests.support.pushing import ask
from tests.support.regions import FAR, NEAR, Regions
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder
from tests.support.waiting import until
from tests.support.wanlink import Unavailable

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(480), skopeo.needs_skopeo]
PATIENCE_S, LONG_S = 90.0, 180.0
LAYER_BYTES = 3 * 2**20
EVERY = {"every": "10s", "bytes": "2MiB"}


@pytest.fixture
def regions() -> Iterator[Regions]:
    with ExitStack() as stack:
        try:
            yield Regions(
                stack.enter_context(scratch_folder()), stack, {"SEALIFT_OUTAGE_S": "300"}, 2, probe=EVERY
            )
        except Unavailable as reason:
            pytest.skip(f"needs root, and a kernel with network namespaces and TUN: {reason}")


def image(seed: int) -> Image:
    return build_image({"bin/app": bytes([seed])}, layers=[random_layer(LAYER_BYTES, seed=seed)])


def blobs_read(registry: DockerRegistry, name: str) -> set[str]:
    start = f"/v2/{name}/blobs/sha256:"
    found = (one for one in registry.requests() if one.method == "GET" and one.path.startswith(start))
    return {one.path.rpartition("/")[2] for one in found}


def has(registry: DockerRegistry, name: str, content: Image) -> bool:
    return ask(registry.host, "HEAD", f"/v2/{name}/manifests/{content.digest}").status == 200


def ordered(regions: Regions, region: str) -> list[Reach]:
    hosts = [regions.source.host, regions.eu.host, regions.us.host]
    return regions.fleet.ledger.probes.order(region, hosts)


def told(regions: Regions, kind: str) -> set[tuple[str, str]]:
    """From which regions which registries went down or came back."""
    changes = regions.fleet.ledger.probes.changes()
    return {(one.region, one.host) for one in changes if one.kind == kind}


def test_reads_follow_what_probes_find_while_a_registry_is_away_and_when_it_is_back(regions: Regions) -> None:
    fleet, source = regions.fleet, regions.source
    first, late, again = image(1), image(2), image(3)
    everywhere = {(region, source.host) for region in (NEAR, FAR)}
    pids = {region: worker.pid for region, worker in fleet.workers.items()}

    regions.fill("app", {"1": first})
    (run,) = regions.begin(regions.mirror("app"))
    assert fleet.wait(run, LONG_S).states == {"updated": 1}, fleet.logs()

    def all_measured() -> bool:
        return all(one.bytes_per_second for region in (NEAR, FAR) for one in ordered(regions, region))

    until(all_measured, PATIENCE_S, fleet.logs)
    assert ordered(regions, FAR)[0].host == regions.us.host, "it is beside it, the others are far away"
    assert ordered(regions, NEAR)[-1].host == regions.us.host
    assert told(regions, "registry_down") == set()

    # The far region has still to land what it was told of when the source goes away.
    regions.fill("late", {"1": late})
    fleet.workers[FAR].freeze()
    try:
        (run,) = regions.begin(regions.mirror("late"))
        until(
            lambda: ask(regions.eu.host, "HEAD", f"/v2/late/manifests/{late.digest}").status == 200,
            PATIENCE_S,
            fleet.logs,
        )
        source.stop()
        until(lambda: (NEAR, source.host) in told(regions, "registry_down"), PATIENCE_S, fleet.logs)
        regions.eu.forget_requests()
    finally:
        fleet.workers[FAR].thaw()
    assert fleet.wait(run, LONG_S).states == {"updated": 1}, fleet.logs()
    assert blobs_read(regions.eu, "late") >= {blob.descriptor.digest for blob in late.blobs}
    assert skopeo.digest(f"{regions.us.host}/late:1") == late.digest

    until(lambda: told(regions, "registry_down") == everywhere, PATIENCE_S, fleet.logs)
    for region in (NEAR, FAR):
        assert (ordered(regions, region)[-1].host, ordered(regions, region)[-1].standing) == (
            source.host,
            "down",
        )
    lasting = fleet.ledger.probes.incidents()
    assert {(one.region, one.host, one.up_s) for one in lasting} == {(*place, None) for place in everywhere}
    shown = fleet.sealift("probe", "--last", "--json")
    assert shown.returncode == 0, shown.stderr
    rows = json.loads(shown.stdout)["probes"]
    assert {(row["region"], row["host"]) for row in rows if row["standing"] == "down"} == everywhere

    source.restart()
    until(lambda: told(regions, "registry_back") == everywhere, PATIENCE_S, fleet.logs)
    assert {one.standing for region in (NEAR, FAR) for one in ordered(regions, region)} == {"up"}
    assert all(one.up_s for one in fleet.ledger.probes.incidents())
    assert len(fleet.ledger.probes.changes()) == 4, "each is told once from each region"
    regions.fill("again", {"1": again})
    source.forget_requests()
    (run,) = regions.begin(regions.mirror("again"))
    assert fleet.wait(run, LONG_S).states == {"updated": 1}, fleet.logs()
    assert blobs_read(source, "again") >= {blob.descriptor.digest for blob in again.blobs}
    assert {region: worker.pid for region, worker in fleet.workers.items() if worker.running} == pids


@pytest.fixture
def held() -> Iterator[tuple[Fleet, MemoryRegistry]]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        source = stack.enter_context(MemoryRegistry())
        mirror = {"name": "app", "source": f"{source.host}/app", "targets": ["127.0.0.1:9/app"]}
        document = {"mirrors": [mirror], "probe": {"every": "10s"}}
        made(folder / "fleet")
        Path(folder / "fleet" / "sealift.yaml").write_text(yaml.safe_dump(document))
        yield stack.enter_context(Fleet(folder / "fleet", ["local"])), source


def test_a_worker_that_is_killed_in_the_middle_of_a_probe_does_no_harm(
    held: tuple[Fleet, MemoryRegistry],
) -> None:
    fleet, source = held
    with source.pause(lambda _, path: path == "/v2/") as pause:
        assert pause.reached.wait(PATIENCE_S), fleet.logs()
        fleet.kill("local")
    assert fleet.ledger.probes.latest([("local", source.host)])[0].last is None

    fleet.start("local")

    def measured() -> bool:
        return fleet.ledger.probes.latest([("local", source.host)])[0].standing == "up"

    until(measured, PATIENCE_S, fleet.logs)
    assert fleet.ledger.probes.changes() == []
    (hour,) = fleet.ledger.probes.availability([("local", source.host)])
    assert hour.day_share == 1.0
