"""What clients are told follows what probes measure: another order in each region, and nobody who is down."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from registry.images import build_image, random_layer
from tests.support import skopeo
from tests.support.regions import FAR, NEAR, Regions
from tests.support.scratch import scratch_folder
from tests.support.waiting import until
from tests.support.wanlink import Unavailable

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(480), skopeo.needs_skopeo]
PATIENCE_S, LONG_S = 90.0, 180.0
EVERY = {"every": "10s", "bytes": "2MiB"}


@pytest.fixture
def regions() -> Iterator[Regions]:
    with ExitStack() as stack:
        try:
            yield Regions(stack.enter_context(scratch_folder()), stack, None, 2, probe=EVERY)
        except Unavailable as reason:
            pytest.skip(f"needs root, and a kernel with network namespaces and TUN: {reason}")


def file_for(regions: Regions, region: str) -> str:
    done = regions.fleet.sealift("clients", "app", "--format", "containers", "--region", region)
    assert done.returncode == 0, done.stderr
    return done.stdout


def places(regions: Regions, region: str) -> list[str]:
    """The registries that clients of the region are told to try, in their order."""
    (registry,) = tomllib.loads(file_for(regions, region))["registry"]
    return [one["location"].partition("/")[0] for one in registry.get("mirror", [])]


def test_the_order_is_each_regions_own_and_a_registry_that_is_down_is_left_out_until_it_is_back(
    regions: Regions,
) -> None:
    fleet, probes = regions.fleet, regions.fleet.ledger.probes
    image = build_image({"bin/app": b"1"}, layers=[random_layer(3 * 2**20, seed=1)])
    regions.fill("app", {"1": image})
    (run,) = regions.begin(regions.mirror("app"))
    assert fleet.wait(run, LONG_S).states == {"updated": 1}, fleet.logs()
    hosts = [regions.source.host, regions.eu.host, regions.us.host]

    def standings(host: str) -> set[str]:
        return {probes.latest([(region, host)])[0].standing for region in (NEAR, FAR)}

    def all_measured() -> bool:
        found = probes.latest([(region, host) for region in (NEAR, FAR) for host in hosts])
        return all(one.bytes_per_second for one in found)

    until(all_measured, PATIENCE_S, fleet.logs)
    assert places(regions, FAR)[0] == regions.us.host, "it is beside the clients"
    assert regions.us.host not in places(regions, NEAR)[:1]
    assert set(places(regions, NEAR)) >= {regions.eu.host}

    regions.eu.stop()
    until(lambda: standings(regions.eu.host) == {"down"}, PATIENCE_S, fleet.logs)
    for region in (NEAR, FAR):
        assert regions.eu.host not in places(regions, region)
        assert f"# Left out: {regions.eu.host}/app: down as seen from there: " in file_for(regions, region)

    regions.eu.restart()
    until(lambda: standings(regions.eu.host) == {"up"}, PATIENCE_S, fleet.logs)
    for region in (NEAR, FAR):
        assert regions.eu.host in places(regions, region)
