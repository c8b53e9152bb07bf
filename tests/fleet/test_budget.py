"""A real fleet at a registry that allows few pulls (G7)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import cast

import pytest

from mirror.ledger.keys import Client
from mirror.spec import MirrorSpec, Target
from registry.images import build_image
from registry.memory import MemoryRegistry, PullLimits
from tests.support.fleet import Fleet, made
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

ADDRESS = "203.0.113.7"
REGIONS = ("us", "eu")


@dataclass(frozen=True, slots=True)
class Few:
    """A fleet of two regions, a source that allows few pulls, another that does not count, a target."""

    fleet: Fleet
    limits: PullLimits
    hub: MemoryRegistry
    free: MemoryRegistry
    target: MemoryRegistry

    def spec(self, source: MemoryRegistry, name: str) -> MirrorSpec:
        targets = tuple(Target(f"{self.target.host}/{region}/{name}", region) for region in REGIONS)
        return MirrorSpec(name, f"{source.host}/{name}", targets, referrers=False)

    def gets(self) -> list[str]:
        """The pulls that reached the hub."""
        asked = (one for one in self.hub.requests if (one.kind, one.method) == ("manifest", "GET"))
        return [one.path for one in asked]

    def begin_a_window(self, run: str) -> None:
        """The old one is over at the hub, and its time has come in the ledger."""
        self.limits.end_window()
        ledger = self.fleet.ledger
        with self.fleet.valkey.client() as client:
            client.hset(ledger.keys.pulls(self.hub.host, ADDRESS), "until", "1")
            parked = cast("list[bytes]", client.zrange(ledger.keys.parked, 0, -1))
            for member in parked:
                outcomes = ledger.batches.outcomes(member.decode())
                due = {pair: replace(one, at=0.0) for pair, one in outcomes.items() if one.state == "waiting"}
                ledger.batches.record(member.decode(), due, ("waiting",))
                client.zadd(ledger.keys.parked, {member: 1.0}, xx=True)
        assert not ledger.run_report(run).ended


@pytest.fixture
def few() -> Iterator[Few]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        limits = PullLimits(8, address=ADDRESS)
        hub = stack.enter_context(MemoryRegistry(pulls=limits))
        free, target = (stack.enter_context(MemoryRegistry()) for _ in range(2))
        settings = {"SEALIFT_BATCH_TAGS": "2"}
        fleet = stack.enter_context(Fleet(made(folder / "fleet"), REGIONS, settings, concurrency=2))
        yield Few(fleet, limits, hub, free, target)


def test_a_fleet_uses_every_pull_waits_without_slots_and_goes_on_in_the_next_window(few: Few) -> None:
    for number in range(12):
        few.hub.hold("app", build_image({"a": str(number).encode()}), str(number))
    few.free.hold("other", build_image({"b": b"free"}), "1")
    run = few.fleet.start_run(few.spec(few.hub, "app"))

    def has_used_all() -> bool:
        report = few.fleet.ledger.run_report(run)
        return few.limits.used[ADDRESS] == 8 and (report.waits_until_s or 0) > few.fleet.ledger.now() + 60

    until(has_used_all, 60, few.fleet.logs)
    assert not few.limits.refused
    assert few.fleet.run(few.spec(few.free, "other"), timeout_s=20).state == "done", "no slot is held"

    ledger = few.fleet.ledger
    client: Client = few.fleet._client
    until(lambda: not any(b"." in one for one in client.zrange(ledger.keys.open, 0, -1)), 60, few.fleet.logs)
    few.fleet.kill("us")
    few.fleet.start("us")
    few.begin_a_window(run)
    report = few.fleet.wait(run)

    assert report.states == {"updated": 12}
    assert not few.limits.refused
    assert len(few.gets()) == len(set(few.gets())) == 12, "each manifest is read once by the whole fleet"
