"""The sweeper's decisions: what it sends on, what it leaves alone, when it ends a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from config.fleet import Fleet
from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.ledger.batches import Outcome, Resolved
from mirror.ledger.verified import DAMAGED
from mirror.spec import MirrorSpec, Target, Verification
from registry.descriptor import OCI_MANIFEST, Descriptor, digest_of
from tasks import canvas, pruning, sweep
from tasks.steps import AT_WORK
from tests.support.engine import engine_on
from tests.support.valkey import ValkeyServer

SPEC = MirrorSpec("app", "src.example/app", (Target("us.example/app", "us"), Target("eu.example/app", "eu")))
ALONE = MirrorSpec("app", "src.example/app", (Target("us.example/app", "us"),))
AT = Descriptor(OCI_MANIFEST, digest_of(b"m"), 1)


@dataclass
class Sweeper:
    """The task with its messages caught."""

    engine: Engine
    sent: list[tuple[str, ...]] = field(default_factory=list)
    lists: list[tuple[str, str]] = field(default_factory=list)
    queued: dict[str, list[bytes]] = field(default_factory=dict)
    """Messages by queue."""

    @property
    def ledger(self) -> Ledger:
        return self.engine.ledger

    def sweep(self) -> list[tuple[str, ...]]:
        self.sent.clear()
        sweep.sweep_task(0)
        return list(self.sent)

    def mirror(self, _: Ledger, batch: str, *, first: bool) -> None:
        self.sent.append(("mirror", batch, *(["first"] if first else [])))

    def batch(self, state: str = "resolving", spec: MirrorSpec = SPEC) -> str:
        run = self.ledger.create_run(spec, "release")
        self.ledger.add_batches(run, "", "", [[("1.0", "1.0")]], listed=True)
        (batch,) = self.ledger.open_window(run, 1)
        if state != "resolving":
            self.ledger.batches.set_resolved(batch, [Resolved("1.0", "1.0", AT)])
            assert self.ledger.batches.advance(batch, "resolving", state)  # type: ignore[arg-type]  # a BatchState
        return batch


@pytest.fixture
def sweeper(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sweeper]:
    with engine_on(valkey) as engine:
        made = Sweeper(engine)
        settings = SimpleNamespace(stall_s=45.0, window_batches=16)
        rt = SimpleNamespace(
            ledger=engine.ledger,
            engine=engine,
            settings=settings,
            fleet=Fleet(),
            messages=lambda queue: made.queued.get(queue, []),
        )
        monkeypatch.setattr(sweep, "runtime", lambda: rt)
        for sends in (sweep._SEND_DECISION, sweep._SEND_TO_REGION):
            for state in list(sends):
                monkeypatch.setitem(sends, state, _catch(made, state))
        monkeypatch.setattr(canvas, "send_mirror", made.mirror)
        monkeypatch.setattr(canvas, "send_prune", lambda _, *ids: made.sent.append(("prune", *ids)))
        monkeypatch.setattr(canvas, "send_enumerate", lambda _, run: made.lists.append(("list", run)))
        yield made


DELETING = replace(SPEC, delete="mirror", delete_after_s=0)


def _with_deletions_due(sweeper: Sweeper) -> str:
    """A run that has nothing left to do but delete."""
    run, redis = sweeper.ledger.create_run(DELETING, "release"), sweeper.ledger._redis
    redis.hset(sweeper.ledger.keys.run(run), mapping={"prunes": "wanted"})
    assert sweeper.ledger.add_batches(run, "", "", [], listed=True)
    assert not sweeper.ledger.run_report(run).ended
    return run


def test_deletions_are_sent_on_where_nobody_is_at_them_and_no_queue_holds_them(sweeper: Sweeper) -> None:
    run = _with_deletions_due(sweeper)
    sweeper.ledger.workers.beat("us", "one")
    assert sweeper.sweep() == [("prune", run, "us")], "eu has no worker: nothing can be lost there but time"

    sweeper.ledger.workers.beat("eu", "two")
    sweeper.queued["eu"] = [f'"{canvas.mark("prune", run, "eu")}0f"'.encode()]
    lease = sweeper.ledger.content.leases.take(pruning.AT_WORK.format("us"), run)
    assert lease is not None
    assert sweeper.sweep() == []

    sweeper.ledger.content.leases.release(lease)
    sweeper.ledger.gone.end_region(run, "eu", SPEC.regions)
    assert sweeper.sweep() == [("prune", run, "us")]
    sweeper.ledger.gone.end_region(run, "us", SPEC.regions)
    assert sweeper.ledger.run_report(run).state == "done"


def test_deletions_that_never_come_to_an_end_are_left_to_the_next_run(sweeper: Sweeper) -> None:
    run = _with_deletions_due(sweeper)
    for region in SPEC.regions:
        sweeper.ledger.workers.beat(region, "one")
    for _ in range(pruning.MAX_SWEEPS):
        sweeper.sweep()

    assert sweeper.ledger.run_report(run).state == "done"


def _found_wrong(sweeper: Sweeper, *kinds: str, repairs: bool = True, is_old: bool = False) -> str:
    """A verifying run that repairs, whose worker was killed as soon as its last batch was concluded.

    ``is_old``: it was begun when only the spec said so.
    """
    spec = replace(ALONE, kind="verify", verification=Verification(repairs=repairs))
    tags, ledger = [f"v{number}" for number in range(len(kinds))], sweeper.ledger
    run = ledger.create_run(spec, "backfill")
    if is_old:
        ledger.content._redis.hdel(ledger.keys.run(run), "repairs")
    ledger.add_batches(run, "", "", [[(tag, tag) for tag in tags]], listed=True)
    (batch,) = ledger.open_window(run, 1)
    ledger.batches.set_resolved(batch, [Resolved(tag, tag, AT) for tag in tags])
    outcomes = [Outcome("failed", "no", kind) if kind else Outcome("current") for kind in kinds]
    ledger.batches.record(batch, {(tag, "us.example/app"): o for tag, o in zip(tags, outcomes, strict=True)})
    assert ledger.batches.conclude(batch, "resolving", spec)
    assert ledger.run_report(run).ended
    return run


def test_a_repair_that_nobody_lived_to_begin_is_begun_once(sweeper: Sweeper) -> None:
    run = _found_wrong(sweeper, "", DAMAGED, "Unreachable")

    for _ in range(3):
        sweeper.sweep()

    (repair,) = (one for one in sweeper.ledger.runs() if one.kind == "repair")
    assert sweeper.ledger.spec(repair.run).refs == (("v1", "v1"),)
    assert ("list", repair.run) in sweeper.lists
    assert not sweeper.ledger.beginnings.owes_repair(run)
    sweeper.ledger.cancel_run(repair.run)
    assert sweeper.ledger.take_due(-1) == [], "nobody looks at the verifying run any more"


@pytest.mark.parametrize("repairs", [True, False])
def test_a_run_of_before_owes_the_repair_that_its_spec_asks_for(sweeper: Sweeper, *, repairs: bool) -> None:
    run = _found_wrong(sweeper, DAMAGED, repairs=repairs, is_old=True)

    assert sweeper.ledger.beginnings.owes_repair(run) == repairs


@pytest.mark.parametrize("kinds", [("", ""), ("", "Unreachable")])
def test_where_nothing_is_to_be_mended_no_repair_is_owed_for_long(
    sweeper: Sweeper, kinds: tuple[str, ...]
) -> None:
    _found_wrong(sweeper, *kinds)
    sweeper.sweep()

    assert [one.kind for one in sweeper.ledger.runs()] == ["verify"]
    assert sweeper.ledger.take_due(-1) == []


def test_what_a_repair_owes_is_taken_over_by_one_that_two_begin_at_once(sweeper: Sweeper) -> None:
    run = _found_wrong(sweeper, DAMAGED)
    spec = replace(sweeper.ledger.spec(run), kind="repair", refs=(("v0", "v0"),))
    first, second = (sweeper.ledger.beginnings.repair(run, spec, "backfill", None) for _ in range(2))

    assert first
    assert second == ""


def test_a_run_that_was_cancelled_repairs_nothing(sweeper: Sweeper) -> None:
    spec = replace(ALONE, kind="verify", verification=Verification(repairs=True))
    run = sweeper.ledger.create_run(spec, "backfill")
    sweeper.ledger.cancel_run(run)

    assert not sweeper.ledger.beginnings.owes_repair(run)


def _catch(sweeper: Sweeper, state: str) -> Any:
    return lambda _, *ids: sweeper.sent.append((state, *ids))


def test_a_region_that_has_not_landed_is_sent_its_land_again(sweeper: Sweeper) -> None:
    batch = sweeper.batch("landing")
    for region in ("us", "eu"):
        sweeper.ledger.workers.beat(region, "worker")
    sweeper.ledger.batches.region_done(batch, "us", "landed")

    assert sweeper.sweep() == [("landing", batch, "eu")]


def test_who_lives_is_asked_once_for_all_that_a_sweep_sends_on(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        sweeper.batch("landing")
    asked, live_regions = list[set[str]](), sweeper.ledger.workers.live_regions

    def counted() -> set[str]:
        asked.append(live_regions())
        return asked[-1]

    monkeypatch.setattr(sweeper.ledger.workers, "live_regions", counted)
    sweeper.ledger.workers.beat("eu", "worker")

    assert len(sweeper.sweep()) == 3
    assert len(asked) == 1


def test_a_decision_that_was_lost_is_asked_for_again(sweeper: Sweeper) -> None:
    batch = sweeper.batch("landing")
    for region in SPEC.regions:
        sweeper.ledger.batches.region_done(batch, region, "landed")

    assert sweeper.sweep() == [("landing", batch)]


def test_a_region_without_a_living_worker_is_left_alone_and_not_counted(sweeper: Sweeper) -> None:
    batch = sweeper.batch("flipping")

    for _ in range(sweep.MAX_SWEEPS + 2):
        assert sweeper.sweep() == []
    assert sweeper.ledger.batches.state(batch) == "flipping"


def test_a_batch_that_was_sent_on_too_often_ends_with_the_reason(sweeper: Sweeper) -> None:
    batch = sweeper.batch("landing")
    run = sweeper.ledger.batches.run_of(batch)
    sweeper.ledger.workers.beat("eu", "worker")
    sweeper.ledger.batches.record(batch, {("1.0", "us.example/app"): Outcome("current")})

    for _ in range(sweep.MAX_SWEEPS):
        assert sweeper.sweep() == [("landing", batch, "eu")]
    assert sweeper.sweep() == []

    report = sweeper.ledger.run_report(run)
    (tag,) = sweeper.ledger.tag_reports(run)
    assert report.state == "failed"
    assert tag.targets[1].state == "failed"
    assert tag.targets[1].reason


def message(task_id: str) -> bytes:
    """What stands in a queue, as far as it matters."""
    return json.dumps({"body": "…", "headers": {"lang": "py", "id": task_id}}).encode()


def test_a_batch_that_waits_behind_others_is_left_in_its_queue_and_not_counted(sweeper: Sweeper) -> None:
    batch = sweeper.batch("landing")
    for region in SPEC.regions:
        sweeper.ledger.workers.beat(region, "worker")
    sweeper.ledger.batches.region_done(batch, "us", "landed")
    sweeper.queued["eu"] = [message("land-other.0-eu-1"), message(f"land-{batch}-eu-2")]

    assert [sweeper.sweep() for _ in range(2 * sweep.MAX_SWEEPS)] == [[]] * (2 * sweep.MAX_SWEEPS)
    sweeper.queued.clear()
    assert sweeper.sweep() == [("landing", batch, "eu")]


def test_a_message_that_was_lost_is_sent_again_however_full_its_queue_is(sweeper: Sweeper) -> None:
    batch = sweeper.batch("landing")
    sweeper.ledger.workers.beat("eu", "worker")
    others = [message(f"land-other.{n}-eu-x") for n in range(50)]
    sweeper.queued["eu"] = [*others, message(f"flip-{batch}-eu-x"), message(f"land-{batch}0-eu-x")]

    assert ("landing", batch, "eu") in sweeper.sweep()


def test_a_decision_that_waits_in_the_control_queue_is_left_there(sweeper: Sweeper) -> None:
    batch = sweeper.batch()
    sweeper.queued["control"] = [message(f"resolve-{batch}-x")]

    assert sweeper.sweep() == []


def test_a_batch_that_a_worker_is_at_is_left_to_it(sweeper: Sweeper) -> None:
    batch = sweeper.batch("landing")
    sweeper.ledger.workers.beat("eu", "worker")
    lease = sweeper.ledger.content.leases.take(AT_WORK.format("eu"), batch)
    assert lease

    assert sweeper.sweep() == []
    sweeper.ledger.content.leases.release(lease)
    assert sweeper.sweep() == [("landing", batch, "eu")]


def test_one_batch_that_cannot_be_read_does_not_keep_the_sweeper_from_the_others(sweeper: Sweeper) -> None:
    broken, whole = sweeper.batch("landing"), sweeper.batch()
    sweeper.ledger._redis.delete(sweeper.ledger.keys.run(sweeper.ledger.batches.run_of(broken)))

    assert sweeper.sweep() == [("resolving", whole)]


def test_what_was_sent_on_is_not_sent_again_by_the_next_sweeper(sweeper: Sweeper) -> None:
    sweeper.batch()

    assert sweeper.sweep()
    sweeper.sent.clear()
    sweep.sweep_task()
    assert sweeper.sent == []


@pytest.mark.parametrize(
    ("state", "turn"), [("resolving", []), ("landing", []), ("flipping", ["first"]), ("returning", ["first"])]
)
def test_a_batch_of_one_region_goes_on_there_from_wherever_it_stopped(
    sweeper: Sweeper, state: str, turn: list[str]
) -> None:
    batch = sweeper.batch(state, ALONE)

    assert sweeper.sweep() == [], "its region has no worker"
    sweeper.ledger.workers.beat("us", "worker")
    assert sweeper.sweep() == [("mirror", batch, *turn)]


def test_a_batch_of_one_region_that_ended_is_left_alone(sweeper: Sweeper) -> None:
    batch = sweeper.batch("landing", ALONE)
    sweeper.ledger.workers.beat("us", "worker")
    assert sweeper.ledger.batches.conclude(batch, "landing", ALONE)

    assert sweeper.sweep() == []


@pytest.mark.parametrize("name", ["mirror", "haul"])
def test_a_batch_whose_message_or_hauls_still_wait_is_left_in_its_queue(sweeper: Sweeper, name: str) -> None:
    batch = sweeper.batch("landing", ALONE)
    sweeper.ledger.workers.beat("us", "worker")
    sweeper.queued["us"] = [message(f"{name}-{batch}-us-x")]

    assert sweeper.sweep() == []
    sweeper.queued.clear()
    assert sweeper.sweep() == [("mirror", batch)]


def test_a_sweep_has_receivers_told_what_there_is_to_tell(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(sweep, "send_due", told.append)
    sweeper.sweep()
    assert len(told) == 1
