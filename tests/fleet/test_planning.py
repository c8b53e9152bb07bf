"""A plan beside what real workers then did, several at once (issue 5)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import pytest

from registry.images import build_artifact, build_image, build_index, random_layer
from registry.memory import MemoryRegistry, PullLimits
from tests.support.fleet import Fleet, made
from tests.support.planning import asked_of, read_from, written_to
from tests.support.scratch import scratch_folder

TAGS = 60
SETTINGS = {"SEALIFT_BATCH_TAGS": "8", "SEALIFT_PRESENT_TTL_S": "300"}


@dataclass(frozen=True, slots=True)
class Yard:
    """A source that limits pulls and a mirror to two regions with two processes each."""

    fleet: Fleet
    source: MemoryRegistry
    limits: PullLimits
    targets: list[MemoryRegistry]

    def planned(self, *words: str) -> dict[str, Any]:
        done = self.fleet.sealift(*words, "--json")
        assert done.returncode == 0, done.stderr
        (mirror,) = json.loads(done.stdout)["mirrors"]
        assert isinstance(mirror, dict)
        return mirror

    def forget(self) -> None:
        for registry in (self.source, *self.targets):
            registry.forget_requests()


@pytest.fixture
def yard() -> Iterator[Yard]:
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        limits = PullLimits(10_000)
        source = stack.enter_context(MemoryRegistry(pulls=limits))
        targets = [stack.enter_context(MemoryRegistry()) for _ in range(2)]
        fill(source)
        made(folder / "fleet")
        (folder / "fleet" / "sealift.yaml").write_text(
            dedent(f"""\
                mirrors:
                  - name: app
                    source: {source.host}/app
                    targets:
                      - {{region: eu, repository: {targets[0].host}/app}}
                      - {{region: us, repository: {targets[1].host}/app}}
            """)
        )
        fleet = stack.enter_context(Fleet(folder / "fleet", ["eu", "us"], SETTINGS, concurrency=2))
        yield Yard(fleet, source, limits, targets)


def fill(source: MemoryRegistry) -> None:
    """Images and indexes on shared layers, some with an SBOM."""
    base = build_image({"base": b"shared"}, layers=[random_layer(300_000, seed=1)])
    for number in range(TAGS):
        image = build_image({"app.txt": f"version {number}".encode()}, base=base)
        content = build_index([image]) if number % 5 == 0 else image
        source.hold("app", content, f"1.{number}")
        if number % 10 == 0:
            sbom = {"sbom.json": b"{%d}" % number}
            source.hold("app", build_artifact(sbom, artifact_type="application/spdx+json", subject=content))


def requests(plan: dict[str, Any], registry: MemoryRegistry) -> dict[str, int]:
    """What the plan says that it is asked, by "METHOD kind"."""
    found: dict[str, int] = plan["requests"][registry.host]
    return found


def test_a_fleet_asks_and_moves_what_was_planned(yard: Yard) -> None:
    plan = yard.planned("backfill", "app", "--dry-run")
    pulls = sum(yard.limits.used.values())
    assert "planned" in yard.fleet.sealift("runs").stdout
    assert "nothing of it is begun" in yard.fleet.sealift("status", plan["run"]).stdout
    yard.forget()

    done = yard.fleet.sealift("backfill", "--resume", plan["run"], "--json")

    assert json.loads(done.stdout)["runs"][0]["states"] == {"updated": TAGS}, done.stderr
    assert not yard.source.count("tags")
    assert asked_of(yard.source).total() == pytest.approx(sum(requests(plan, yard.source).values()), rel=0.05)
    for target in yard.targets:
        # Blobs aside: which region comes first to a blob, and which then reads it from there, is a race.
        asked, said = asked_of(target), requests(plan, target)
        other = asked.total() - asked["GET", "blob"]
        assert other == pytest.approx(sum(said.values()) - said.get("GET blob", 0), rel=0.05)
        for name, size in written_to(target).items():
            assert plan["bytes_written"][name] == pytest.approx(size, rel=0.01)
    lent = sum(asked_of(target)["GET", "blob"] for target in yard.targets)
    said_lent = sum(requests(plan, target).get("GET blob", 0) for target in yard.targets)
    assert lent == pytest.approx(said_lent, rel=0.05)
    assert plan["bytes_read"][yard.source.host] == pytest.approx(read_from(yard.source), rel=0.01)
    (told,) = plan["pulls"]
    assert told["spent"] == pulls
    assert told["needed"] == pytest.approx(sum(yard.limits.used.values()) - pulls, rel=0.05)


def test_a_plan_that_was_begun_cannot_be_begun_beside_the_same_backfill(yard: Yard) -> None:
    plan = yard.planned("backfill", "app", "--dry-run")
    with yard.targets[0].pause(lambda method, path: method == "PUT" and "/manifests/" in path) as held:
        other = yard.fleet.sealift("backfill", "app", "--no-wait").stdout.strip()
        assert held.reached.wait(30)
        refused = yard.fleet.sealift("backfill", "--resume", plan["run"])

    assert (refused.returncode, f"run {other} is under way on the same terms" in refused.stderr) == (2, True)
    assert "cancelled" in yard.fleet.sealift("cancel", plan["run"]).stdout
    yard.fleet.wait(other)
