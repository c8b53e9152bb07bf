"""A real fleet at a registry that allows few pulls (G7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from textwrap import dedent
from typing import cast

import pytest

from mirror.ledger.keys import Client
from mirror.spec import MirrorSpec, Target
from registry.images import build_image
from registry.memory import ErrorReply, MemoryRegistry, PullLimits
from tests.support.fleet import Fleet, made
from tests.support.scratch import scratch_folder
from tests.support.waiting import until

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]
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
        with self.fleet.valkey.client() as client:
            client.hset(self.fleet.ledger.keys.pulls(self.hub.host, ADDRESS), "until", "1")
        self.come_due()
        assert not self.fleet.ledger.run_report(run).ended

    def come_due(self) -> None:
        """The clock is moved to where everything that waits is due."""
        ledger = self.fleet.ledger
        with self.fleet.valkey.client() as client:
            parked = cast("list[bytes]", client.zrange(ledger.keys.parked, 0, -1))
            for member in parked:
                outcomes = ledger.batches.outcomes(member.decode())
                due = {pair: replace(one, at=0.0) for pair, one in outcomes.items() if one.state == "waiting"}
                ledger.batches.record(member.decode(), due, ("waiting",))
                client.zadd(ledger.keys.parked, {member: 1.0}, xx=True)

    def settle_down(self) -> None:
        """Nothing is at work any more: every batch that is open waits in the ledger."""
        keys, client = self.fleet.ledger.keys, cast("Client", self.fleet._client)
        until(lambda: not any(b"." in one for one in client.zrange(keys.open, 0, -1)), 60, self.fleet.logs)

    def has_parked_again(self) -> bool:
        """What was due has been tried, and waits for a time that is to come."""
        keys, client = self.fleet.ledger.keys, cast("Client", self.fleet._client)
        parked = client.zrange(keys.parked, 0, -1, withscores=True)
        return bool(parked) and all(until_s > self.fleet.ledger.now() for _, until_s in parked)

    def restart_workers(self) -> None:
        """All of them, killed and started anew: they know nothing."""
        for region in REGIONS:
            self.fleet.kill(region)
        for region in REGIONS:
            self.fleet.start(region)
        self.fleet.await_ready(REGIONS)


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

    few.settle_down()
    few.fleet.kill("us")
    few.fleet.start("us")
    few.begin_a_window(run)
    report = few.fleet.wait(run)

    assert report.states == {"updated": 12}
    assert not few.limits.refused
    assert len(few.gets()) == len(set(few.gets())) == 12, "each manifest is read once by the whole fleet"


def test_two_hours_of_retry_after_outlast_the_workers_and_status_says_until_when(few: Few) -> None:
    few.hub.hold("app", build_image({"a": b"limited"}), "1")
    few.free.hold("other", build_image({"b": b"free"}), "1")
    few.hub.on_request = refusing_for(7200)
    run = few.fleet.start_run(few.spec(few.hub, "app"))

    def waits_for_hours() -> bool:
        return (few.fleet.ledger.run_report(run).waits_until_s or 0) > few.fleet.ledger.now() + 7000

    until(waits_for_hours, 60, few.fleet.logs)
    few.settle_down()
    assert few.fleet.run(few.spec(few.free, "other"), timeout_s=20).state == "done", "other hosts go on"
    said = few.fleet.sealift("status", run).stdout
    when = datetime.fromtimestamp(few.fleet.ledger.run_report(run).waits_until_s or 0, UTC)
    assert f"Waiting until {when:%H:%M} UTC, because {few.hub.host}" in said.replace(f"{when:%Y-%m-%d} ", "")
    assert f"{few.hub.host} is left alone until " in said

    few.hub.on_request = None
    asked = len(few.hub.requests)
    few.restart_workers()
    few.come_due()
    assert not few.has_parked_again()
    until(lambda: few.has_parked_again() or len(few.hub.requests) > asked, 60, few.fleet.logs)
    assert len(few.hub.requests) == asked, "nor do workers ask that have never heard of it"
    assert waits_for_hours()

    with few.fleet.valkey.client() as client:
        assert client.delete(few.fleet.ledger.keys.pause(few.hub.host, "")) == 1

    def goes_on() -> bool:
        few.come_due()  # more than once: what a worker has heard of a pause, it believes for a second
        return few.fleet.ledger.run_report(run).ended

    until(goes_on, 60, few.fleet.logs, interval_s=0.5)
    assert few.fleet.ledger.run_report(run).states == {"updated": 1}


def refusing_for(seconds: int) -> Callable[[str, str], None]:
    def refuse(method: str, path: str) -> None:
        if method in {"GET", "HEAD"} and "/manifests/" in path:
            raise ErrorReply(429, "TOOMANYREQUESTS", "slow down", {"Retry-After": str(seconds)})

    return refuse


def test_two_accounts_share_the_load_of_a_fleet_and_neither_is_overdrawn() -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        limits = PullLimits(6)
        hub = stack.enter_context(
            MemoryRegistry(pulls=limits, username="alice", password="a", others={"bob": "b"})
        )
        target = stack.enter_context(MemoryRegistry())
        for number in range(16):
            hub.hold("app", build_image({"a": str(number).encode()}), str(number))
        made(folder / "fleet")
        (folder / "fleet" / "sealift.yaml").write_text(
            dedent(f"""\
                registries:
                  {hub.host}:
                    accounts:
                      - {{username: alice, password: env:ALICE_PASSWORD}}
                      - {{username: bob, password: env:BOB_PASSWORD}}
            """)
        )
        settings = {"SEALIFT_BATCH_TAGS": "2", "ALICE_PASSWORD": "a", "BOB_PASSWORD": "b"}
        fleet = stack.enter_context(Fleet(folder / "fleet", REGIONS, settings, concurrency=2))
        few = Few(fleet, limits, hub, target, target)
        run = fleet.start_run(few.spec(hub, "app"))

        until(lambda: limits.used.total() == 12, 60, fleet.logs)
        few.settle_down()

        assert limits.used == {"alice": 6, "bob": 6}
        assert not limits.refused
        assert fleet.ledger.run_report(run).waits_until_s
        budgets = {one.source: one.remaining for one in fleet.ledger.budgets.report()}
        assert budgets == {"alice": 0, "bob": 0}
