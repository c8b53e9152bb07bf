"""Watching a run costs the same however many tags it has, and says what lies ahead (issue 5)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mirror.ledger import Ledger
from mirror.ledger.batches import Outcome, Resolved
from mirror.ledger.budgets import Answered, BudgetReport
from mirror.report import Moved, RegionReport, RunReport
from mirror.spec import MirrorSpec, Target
from registry.descriptor import OCI_MANIFEST, Descriptor, digest_of
from registry.ratelimits import RateLimits
from tests.support.valkey import ValkeyServer
from workers.cli import outlook, summary, waiting
from workers.cli.console import Console
from workers.cli.progress import Lines

TARGET = "eu.example/app"
SPEC = MirrorSpec("app", "docker.io/library/app", (Target(TARGET, "eu"),))
AT = Descriptor(OCI_MANIFEST, digest_of(b"m"), 1)
BATCH = 20
REFRESH_COMMANDS = 10
"""Three for a run, five for the budgets of its registries, and two that count them."""


@pytest.fixture
def ledger(valkey: ValkeyServer) -> Iterator[Ledger]:
    with valkey.client() as client:
        yield Ledger(client, "test:")


def run_of(ledger: Ledger, batches: int) -> str:
    """A run under way: of each concluded batch one tag failed, and one batch is left."""
    run = ledger.create_run(SPEC, "backfill")
    names = [[f"{number}.{tag}" for tag in range(BATCH)] for number in range(batches + 1)]
    ledger.add_batches(run, "", "", [[(tag, tag) for tag in tags] for tags in names], listed=True)
    ledger.open_window(run, batches)
    for number, tags in enumerate(names[:-1]):
        batch = f"{run}.{number}"
        ledger.batches.set_resolved(batch, [Resolved(tag, tag, AT) for tag in tags])
        ended = {(tag, TARGET): Outcome("updated") for tag in tags[1:]}
        failed = Outcome("failed", f"{TARGET}:{tags[0]}: denied (403 DENIED)", "Denied")
        ledger.batches.record(batch, {**ended, (tags[0], TARGET): failed})
        ledger.batches.conclude(batch, "resolving", SPEC)
    limits = RateLimits(100, 76, 21600, "203.0.113.7")
    ledger.budgets.answered(
        Answered("docker.io", "203.0.113.7", "", None, 0.0, may_count=False, limits=limits)
    )
    ledger.budgets.pause("eu.example", "", 7200)
    ledger.budgets.pause("elsewhere.example", "", 7200)
    return run


def commands(ledger: Ledger) -> int:
    return int(ledger._redis.info("stats")["total_commands_processed"])


def test_a_refresh_costs_as_many_commands_for_many_tags_as_for_few(ledger: Ledger) -> None:
    costs = []
    for batches in (1, 100):
        look = waiting.Look(ledger, [run_of(ledger, batches)])
        before = commands(ledger)
        (report,), budgets = look()
        costs.append(commands(ledger) - before - 1)
        assert report.states == {"updated": batches * (BATCH - 1), "failed": batches, "pending": BATCH}
        assert [one.host for one in budgets] == ["docker.io", "eu.example"]

        before = commands(ledger)
        look()
        assert commands(ledger) - before - 1 == 3, "the budgets were looked at a moment ago"
    assert costs[0] == costs[1] <= REFRESH_COMMANDS


def test_the_status_of_a_large_run_is_told_from_its_counters(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MOST_READ", BATCH)
    costs, said = [], ""
    for batches in (1, 50):
        run = run_of(ledger, batches)
        report = ledger.run_report(run)
        before = commands(ledger)
        summary.show(Console(), ledger, [report], everything=False)
        costs.append(commands(ledger) - before - 1)
        said = capsys.readouterr().out

    assert costs[0] == costs[1] <= REFRESH_COMMANDS + 4, (
        "and who lives, by the server's clock, and what is left"
    )
    assert "50 tags failed, such as 0.0, 1.0, 2.0, 3.0 and 4.0: eu.example/app:…: denied (403 DENIED)" in said
    assert f"`sealift report {run}` prints each" in said
    assert "docker.io (203.0.113.7): 76 of 100 pulls left; the window ends by " in said
    assert "eu.example is left alone until " in said
    assert "elsewhere.example" not in said
    assert "Under way: 1,000 of 1,020 tags done (950 updated and 50 failed)." in said


def test_the_status_of_a_large_run_as_json_has_counts_and_no_tags_unless_all_are_asked_for(
    ledger: Ledger, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "MOST_READ", BATCH)
    report = ledger.run_report(run_of(ledger, 3))

    summary.show(Console(json=True), ledger, [report], everything=False)
    (counted,) = json.loads(capsys.readouterr().out)["runs"]
    summary.show(Console(json=True), ledger, [report], everything=True)
    (listed,) = json.loads(capsys.readouterr().out)["runs"]

    assert counted["tag_reports"] is None
    assert len(listed["tag_reports"]) == 4 * BATCH
    assert counted["failures"] == [
        {
            "reason": "eu.example/app:…: denied (403 DENIED)",
            "count": 3,
            "kinds": ["Denied"],
            "examples": ["0.0", "1.0", "2.0"],
        }
    ]
    assert {one["host"]: one["remaining"] for one in counted["budgets"]} == {
        "docker.io": 76,
        "eu.example": None,
    }
    assert counted["tags_per_s"] > 0
    assert counted["left_s"] is not None


def test_the_status_of_a_run_names_the_regions_whose_work_waits_for_a_worker(
    ledger: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    report = ledger.run_report(run_of(ledger, 1))
    (region,) = (one.region for one in report.regions)
    line = (
        f"No worker of {region} was heard of in the last minute: what is to be done there waits for one "
        f"(`sealift worker --region {region}`)."
    )

    def said(report: RunReport, *, as_json: bool = False) -> str:
        summary.show(Console(json=as_json), ledger, [report], everything=False)
        return capsys.readouterr().out

    assert line in said(report)
    assert json.loads(said(report, as_json=True))["runs"][0]["regions_without_workers"] == [region]
    assert line not in said(replace(report, is_paused=True)), "it waits for something else"
    assert line not in said(replace(report, state="done", finished_s=report.started_s))
    ledger.workers.beat(region, "worker")
    assert line not in said(report)
    assert json.loads(said(report, as_json=True))["runs"][0]["regions_without_workers"] == []


def test_a_region_that_is_done_waits_for_no_worker(ledger: Ledger) -> None:
    """Most of its tags were current, and its workers are gone: nothing of the run waits for one."""
    places = {"eu": ("eu.example/app", "eu.example/too"), "us": ("us.example/app",)}
    targets = tuple(Target(place, region) for region, named in places.items() for place in named)
    run = ledger.create_run(MirrorSpec("app", "docker.io/library/app", targets), "release")
    ledger.add_batches(run, "", "", [[("1", "1")], [("2", "2")]], listed=True)

    def absent() -> list[str]:
        return outlook.absent(ledger, ledger.run_report(run))

    ledger.workers.beat("ap", "worker")
    ledger.open_window(run, 1)
    assert absent() == ["eu", "us"], "a batch is not begun"
    ledger.open_window(run, 2)
    for index, tag in enumerate(("1", "2")):
        batch = f"{run}.{index}"
        ledger.batches.set_resolved(batch, [Resolved(tag, tag, AT)])
        assert absent() == ["eu", "us"]
        assert ledger.batches.advance(batch, "resolving", "landing")
        ledger.batches.region_done(batch, "eu", "landed")
    assert absent() == ["us"]
    assert ledger.batches.advance(f"{run}.0", "landing", "flipping")
    assert absent() == ["eu", "us"]
    for region in ("eu", "us"):
        ledger.batches.region_done(f"{run}.0", region, "flipped")
    assert absent() == ["us"]
    ledger.batches.region_done(f"{run}.1", "us", "landed")
    assert absent() == []
    ledger._redis.delete(ledger.keys.workers)
    assert absent() == ["eu", "us"], "whoever it is, somebody has to decide"


OPEN = RunReport(
    run="5b14",
    mirror="app",
    lane="backfill",
    state="open",
    source="docker.io/library/app",
    started_s=1000.0,
    finished_s=None,
    listed=True,
    tags=1000,
    states={"updated": 400, "failed": 100, "pending": 500},
    regions=(RegionReport("eu", moved=Moved(copied_bytes=5_000_000)),),
)


def test_the_time_that_is_left_is_that_of_the_rest_at_the_pace_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outlook, "time", lambda: 1100.0)

    assert outlook.pace_line(OPEN) == "So far 5.0 tags/s and 50.0 kB/s; about 1 min 40 s are left."
    assert outlook.pace_line(replace(OPEN, listed=False)) == "So far 5.0 tags/s and 50.0 kB/s."
    assert outlook.left_s(replace(OPEN, is_paused=True), 5.0) is None
    waiting_for = replace(OPEN, waits="docker.io: no more pulls", waits_until_s=8300.0)
    assert outlook.left_s(waiting_for, 5.0) == 7200.0, "no sooner than the next wait is over"


def test_a_log_says_pace_time_left_and_budget_beside_what_is_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("workers.cli.progress.monotonic", lambda: clock[0])
    budget = BudgetReport("docker.io", "203.0.113.7", limit=100, remaining=76, until_s=time.time() + 60)
    with Lines(Console()) as lines:
        lines.update([OPEN], [budget])
        clock[0] = 10.0
        lines.update([replace(OPEN, states={"updated": 450, "failed": 100, "pending": 450})], [budget])

    said = capsys.readouterr().err.splitlines()
    assert said[-1] == (
        "app: 550 of 1,000 tags done (450 updated and 100 failed), 5.0 tags/s, about 1 min 30 s left, "
        "76 of 100 pulls left at docker.io"
    )


def test_a_host_that_is_left_alone_is_said_with_its_time() -> None:
    at = datetime(2040, 5, 6, 14, 5, tzinfo=UTC)
    one = BudgetReport("eu.example", "bob", paused_until_s=at.timestamp())

    assert list(outlook.budget_lines([one])) == ["eu.example (bob) is left alone until 2040-05-06 14:05 UTC."]
