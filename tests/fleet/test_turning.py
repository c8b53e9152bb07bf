"""A registry goes away and comes back: whoever reads, and whoever is told, turns to the others, and back."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from mirror.ledger.probes import best_first
from registry.images import Image, build_image, random_layer
from tests.support import skopeo
from tests.support.fleet import Fleet
from tests.support.listening import Listener
from tests.support.ports import LOOPBACK, free_fixed_port
from tests.support.pushing import ask, push
from tests.support.regions import FAR, NEAR, Regions
from tests.support.registries import DockerRegistry
from tests.support.scratch import scratch_folder
from tests.support.waiting import until
from tests.support.wanlink import Unavailable

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(480), skopeo.needs_skopeo]
PATIENCE_S, LONG_S = 90.0, 180.0
BOTH = (NEAR, FAR)
PROBES = {"every": "10s", "bytes": "2MiB", "failures": 1}
SETTINGS = {"SEALIFT_NOTIFY_SETTLE_S": "0", "SEALIFT_OUTAGE_S": "300"}


def image(seed: int) -> Image:
    return build_image({"bin/app": bytes([seed])}, layers=[random_layer(3 * 2**20, seed=seed)])


ONE, TWO, THREE = (image(seed) for seed in (1, 2, 3))


class Town:
    """``eu`` is a target of ``app`` and the source of ``late``: it is the one that goes away."""

    def __init__(self, regions: Regions, listener: Listener, port: int) -> None:
        self.regions, self.listener, self.port = regions, listener, port
        self.source, self.eu, self.us = regions.source, regions.eu, regions.us
        regions.mirror("app")
        elsewhere = [(NEAR, f"{self.source.host}/late"), (FAR, f"{self.us.host}/late")]
        regions.mirror("late", elsewhere, source=self.eu)
        self.served = regions.fleet.serve(port)

    @property
    def fleet(self) -> Fleet:
        return self.regions.fleet

    def sync(self, *names: str) -> None:
        for run in self.regions.begin(*names):
            assert self.fleet.wait(run, LONG_S).states.keys() <= {"updated", "current"}, self.fleet.logs()

    def ordered(self, region: str) -> list[str]:
        """Registries as the region tries them."""
        hosts = (self.source.host, self.eu.host, self.us.host)
        return [one.host for one in best_first(self.fleet.ledger.probes.latest([(region, h) for h in hosts]))]

    def are_measured(self) -> bool:
        probes = self.fleet.ledger.probes
        places = [(region, one.host) for region in BOTH for one in (self.source, self.eu, self.us)]
        return all(one.bytes_per_second for one in probes.latest(places))

    def told(self, kind: str) -> list[str]:
        """The regions that are told of ``eu``, each as often as it is."""
        changes = self.fleet.ledger.probes.changes()
        return sorted(one.region for one in changes if (one.host, one.kind) == (self.eu.host, kind))

    # -- what people and programs see --------------------------------------------------------------

    def shown(self, path: str) -> str:
        reply = ask(f"{LOOPBACK}:{self.port}", "GET", path)
        assert reply.status == 200, reply
        return reply.body.decode()

    def are_all(self, state: str) -> bool:
        """Whether both mirrors are shown so, by the page, the badges and the status."""
        status = json.loads(self.shown("/status.json"))
        badges = [self.shown(f"/badges/{name}.svg") for name in ("app", "late")]
        return {one["state"] for one in status["mirrors"]} == {state} and all(
            f"{state}<" in one for one in badges
        )

    def standings(self) -> dict[str, set[str]]:
        """By registry how the regions see it, as the status has it."""
        found = json.loads(self.shown("/status.json"))["registries"]
        return {one["host"]: {view["standing"] for view in one["views"]} for one in found}

    def feed_has(self, word: str) -> bool:
        """Whether there is an entry for each region."""
        feed = self.shown("/feed.atom")
        titles = [f"<title>{self.eu.host} is {word}, as seen from {region}</title>" for region in BOTH]
        return all(feed.count(title) == 1 for title in titles)

    def notified(self, word: str) -> bool:
        """Whether somebody was sent word of it."""
        return any(f"{self.eu.host}: {word}" in str(one) for one in self.listener.messages)

    # -- what clients are told ---------------------------------------------------------------------

    def file_for(self, region: str, kind: str) -> str:
        done = self.fleet.sealift("clients", "app", "--format", kind, "--region", region)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tried(self, region: str) -> list[str]:
        """The registries that podman and its kin try, in their order."""
        (registry,) = tomllib.loads(self.file_for(region, "containers"))["registry"]
        return [one["location"].partition("/")[0] for one in registry["mirror"]]


@pytest.fixture
def town() -> Iterator[Town]:
    with ExitStack() as stack:
        folder, port = stack.enter_context(scratch_folder()), free_fixed_port()
        listener = stack.enter_context(Listener(free_fixed_port()))
        receiver = {"name": "team", "to": listener.url, "on": ["registry_down", "registry_back"]}
        try:
            regions = Regions(folder, stack, SETTINGS, 2, more={"probe": PROBES, "notify": [receiver]})
        except Unavailable as reason:
            pytest.skip(f"needs root, and a kernel with network namespaces and TUN: {reason}")
        yield Town(regions, listener, port)


def reads(registry: DockerRegistry, name: str, wanted: Image) -> bool:
    """Whether all blobs of the image were read there, by its access log."""
    start = f"/v2/{name}/blobs/"
    asked = {one.path.removeprefix(start) for one in registry.requests() if one.method == "GET"}
    return asked >= {blob.descriptor.digest for blob in wanted.blobs}


def holds(registry: DockerRegistry, name: str, wanted: Image) -> bool:
    return ask(registry.host, "HEAD", f"/v2/{name}/manifests/{wanted.digest}").status == 200


def test_while_a_registry_is_away_all_turn_to_the_others_and_back_to_it_when_it_is_back(town: Town) -> None:
    pids = [(one.pid, one.running) for one in town.fleet.processes]
    begin_well(town)
    turn_away(town)
    turn_back(town)
    assert [(one.pid, one.running) for one in town.fleet.processes] == pids, "nobody restarted anything"


def begin_well(town: Town) -> None:
    """Each region has an order of its own, and nothing is wrong."""
    fleet, eu, us = town.fleet, town.eu, town.us
    town.regions.fill("app", {"1": ONE})
    push(f"{eu.host}/late", ONE, "1")
    town.sync("app", "late")
    until(town.are_measured, PATIENCE_S, fleet.logs)
    assert town.ordered(FAR)[0] == us.host, "it is beside it, the others are far away"
    assert town.ordered(NEAR)[-1] == us.host
    assert town.tried(FAR)[0] == us.host
    tried = town.tried(NEAR)
    assert eu.host in tried
    assert tried[-1] == us.host
    until(lambda: town.are_all("in step"), PATIENCE_S, fleet.logs)
    assert town.told("registry_down") == []


def turn_away(town: Town) -> None:
    """The registry goes away in the middle of a run: the far region has still to land what that is about."""
    fleet, source, eu, us = town.fleet, town.source, town.eu, town.us
    push(f"{eu.host}/late", TWO, "1")
    fleet.workers[FAR].freeze()
    try:
        (run,) = town.regions.begin("late")
        until(lambda: holds(source, "late", TWO), PATIENCE_S, fleet.logs)
        assert reads(eu, "late", TWO)
        source.forget_requests()
        eu.stop()
    finally:
        fleet.workers[FAR].thaw()
    assert fleet.wait(run, LONG_S).states == {"updated": 1}, fleet.logs()
    assert reads(source, "late", TWO)
    assert skopeo.digest(f"{us.host}/late:1") == TWO.digest

    until(lambda: town.told("registry_down") == [*BOTH], PATIENCE_S, fleet.logs)
    assert {town.ordered(region)[-1] for region in BOTH} == {eu.host}
    until(lambda: town.are_all("down"), PATIENCE_S, fleet.logs)
    assert town.standings() == {source.host: {"up"}, us.host: {"up"}, eu.host: {"down"}}
    assert f"{eu.host} cannot be reached" in town.shown("/")
    assert town.feed_has("down")
    until(lambda: town.notified("down"), PATIENCE_S, fleet.logs)
    assert eu.host not in town.tried(FAR)
    pod = town.file_for(NEAR, "kubernetes")
    assert f"# Left out: {eu.host}/app: down as seen from there: " in pod
    assert f"image: {eu.host}" not in pod


def turn_back(town: Town) -> None:
    """The registry is back, and everything is as before."""
    fleet, source, eu, us = town.fleet, town.source, town.eu, town.us
    eu.restart()
    until(lambda: town.told("registry_back") == [*BOTH], PATIENCE_S, fleet.logs)
    until(lambda: town.are_all("in step"), PATIENCE_S, fleet.logs)
    assert town.standings() == {source.host: {"up"}, us.host: {"up"}, eu.host: {"up"}}
    assert town.feed_has("back")
    until(lambda: town.notified("back"), PATIENCE_S, fleet.logs)
    assert eu.host in town.tried(FAR)
    pod = town.file_for(NEAR, "kubernetes")
    assert f"{eu.host}/app" in pod
    assert "# Left out" not in pod
    push(f"{eu.host}/late", THREE, "1")
    eu.forget_requests()
    town.sync("late")
    assert reads(eu, "late", THREE)
    assert town.told("registry_down") == town.told("registry_back") == [*BOTH], "each is told once"
