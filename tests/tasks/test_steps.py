"""What one task does of a batch, and what it leaves to a message of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirror.engine import Engine, Limits
from mirror.land import haul, land
from mirror.ledger.batches import BatchState
from mirror.report import RunReport
from mirror.resolve import resolve
from mirror.spec import Lane, MirrorSpec, Target
from registry.images import Image, build_image, random_layer
from registry.memory import MemoryRegistry
from tasks import canvas, poison, steps
from tasks.runtime import Runtime
from tests.support.engine import engine_on
from tests.support.valkey import ValkeyServer

HAUL_BYTES = 50_000


@dataclass
class Sent:
    """A message that was caught instead of being sent."""

    name: str
    args: list[str]
    priority: int
    title: str


@dataclass
class Worker:
    """One worker of one region, whose messages are caught; it takes them one by one."""

    engine: Engine
    source: MemoryRegistry
    target: MemoryRegistry
    sent: list[Sent] = field(default_factory=list)

    @property
    def spec(self) -> MirrorSpec:
        targets = (Target(f"{self.target.host}/app", "us"),)
        return MirrorSpec("app", f"{self.source.host}/app", targets, referrers=False)

    def begin(self, spec: MirrorSpec | None = None, lane: Lane = "release") -> str:
        """A run and its only batch, begun as ``enumerate`` does."""
        run = self.engine.ledger.create_run(spec or self.spec, lane)
        self.engine.ledger.add_batches(run, "", "", [[("1.0", "1.0")]], listed=True)
        steps.open_window(self.runtime, run)
        return f"{run}.0"

    @property
    def runtime(self) -> Runtime:
        """As much of one as the steps use."""
        settings = SimpleNamespace(window_batches=4, batch_tags=32)
        made: Any = SimpleNamespace(engine=self.engine, ledger=self.engine.ledger, settings=settings)
        return cast("Runtime", made)

    def take(self) -> str:
        """Take the oldest message; returns the task's name."""
        message = self.sent.pop(0)
        getattr(steps, f"{message.name}_task").run(*message.args)
        return message.name

    def report(self, batch: str) -> RunReport:
        return self.engine.ledger.run_report(self.engine.ledger.batches.run_of(batch))


@pytest.fixture
def worker(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as target,
        engine_on(valkey, Limits(copy_threads=3, haul_bytes=HAUL_BYTES), outage_s=60.0) as engine,
    ):
        made = Worker(engine, source, target)
        monkeypatch.setattr(steps, "runtime", lambda: made.runtime)
        monkeypatch.setattr(canvas, "_task", _catch(made))
        yield made


def _catch(worker: Worker) -> Callable[..., SimpleNamespace]:
    def make(name: str, args: list[str], queue: str, shown: str, turn: canvas.Turn) -> SimpleNamespace:
        sent = Sent(name, args, canvas.PRIORITY[turn], shown)
        assert queue == (args[1] if len(args) > 1 else canvas.CONTROL_QUEUE)
        return SimpleNamespace(delay=lambda: worker.sent.append(sent))

    return make


def image(text: str, *sizes: int) -> Image:
    return build_image({"app.txt": text.encode()}, layers=[random_layer(size) for size in sizes or (20_000,)])


def test_a_batch_of_one_region_takes_one_message(worker: Worker) -> None:
    worker.source.hold("app", image("new"), "1.0")
    batch = worker.begin()

    (message,) = worker.sent
    assert message.title == "mirror · app 1.0 → us"
    assert worker.take() == "mirror"

    assert worker.sent == []
    assert worker.report(batch).states == {"updated": 1}
    assert worker.target.tag("app", "1.0") == image("new").digest


def test_a_batch_of_several_regions_is_resolved_for_all_of_them(worker: Worker) -> None:
    targets = (*worker.spec.targets, Target(f"{worker.target.host}/other", "eu"))
    worker.begin(replace(worker.spec, targets=targets))

    assert [message.name for message in worker.sent] == ["resolve"]


def test_a_copy_of_the_message_leaves_the_batch_to_whoever_is_at_it(worker: Worker) -> None:
    worker.source.hold("app", image("new"), "1.0")
    batch = worker.begin()
    lease = worker.engine.ledger.content.leases.take(steps.AT_WORK.format("us"), batch)
    assert lease

    worker.take()

    assert worker.engine.ledger.batches.state(batch) == "resolving"


@pytest.mark.parametrize(
    ("cut_short", "left_in"), [("land", "landing"), ("flip", "flipping"), ("open_window", "concluded")]
)
def test_a_batch_that_was_cut_short_goes_on_from_there(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, cut_short: str, left_in: BatchState
) -> None:
    worker.source.hold("app", image("new"), "1.0")
    batch = worker.begin()

    def die(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(steps, cut_short, die)
        with pytest.raises(SystemExit):
            worker.take()
    assert worker.engine.ledger.batches.state(batch) == left_in

    canvas.send_mirror(worker.engine.ledger, batch)
    worker.take()

    assert worker.report(batch).states == {"updated": 1}
    assert worker.target.tag("app", "1.0") == image("new").digest


def test_large_blobs_are_hauled_and_the_last_of_them_has_the_batch_go_on(worker: Worker) -> None:
    worker.source.hold("app", image("new", 20_000, 60_000, 70_000), "1.0")
    batch = worker.begin()

    assert worker.take() == "mirror"
    assert [message.name for message in worker.sent] == ["haul", "haul"]
    worker.take()
    assert [message.name for message in worker.sent] == ["haul"], "not all is there yet"
    worker.take()
    assert worker.target.tag("app", "1.0") is None
    assert worker.take() == "mirror"

    assert worker.report(batch).states == {"updated": 1}


def test_a_landing_expects_the_blobs_that_it_brings_itself(worker: Worker) -> None:
    worker.source.hold("app", image("new", 20_000, 60_000), "1.0")
    batch = worker.begin()
    assert resolve(worker.engine, batch)
    landed, hauled = dict[str, int](), dict[str, int]()

    (digest,) = land(worker.engine, batch, "us", hauls=True, heard=landed.update)
    haul(worker.engine, batch, "us", digest, heard=hauled.update)

    assert (landed["planned_blobs"], landed["copied_blobs"]) == (3, 3), "two layers and the configuration"
    assert (hauled["planned_blobs"], hauled["copied_blobs"]) == (1, 1)


def test_the_last_haul_moves_no_tag_while_another_is_at_it(worker: Worker) -> None:
    worker.source.hold("app", image("new", 20_000, 60_000), "1.0")
    targets = (*worker.spec.targets, Target(f"{worker.target.host}/other", "eu"))
    batch = worker.begin(replace(worker.spec, targets=targets, finalize="each"))
    assert resolve(worker.engine, batch)
    (digest,) = land(worker.engine, batch, "us", hauls=True)
    lease = worker.engine.ledger.content.leases.take(steps.AT_WORK.format("us"), batch)
    assert lease

    steps.haul_task.run(batch, "us", digest)
    assert worker.target.tag("app", "1.0") is None
    worker.engine.ledger.content.leases.release(lease)
    steps.haul_task.run(batch, "us", digest)

    assert worker.target.tag("app", "1.0") == image("new", 20_000, 60_000).digest


def test_hauls_that_were_lost_are_brought_by_whoever_takes_the_batch_on(worker: Worker) -> None:
    worker.source.hold("app", image("new", 20_000, 60_000, 70_000), "1.0")
    batch = worker.begin()
    worker.take()
    worker.sent.clear()

    canvas.send_mirror(worker.engine.ledger, batch)
    worker.take()

    assert worker.sent == []
    assert worker.report(batch).states == {"updated": 1}


def test_a_tag_that_is_not_there_ends_its_batch_at_once(worker: Worker) -> None:
    batch = worker.begin()
    worker.take()

    assert worker.report(batch).states == {"failed": 1}
    assert worker.sent == []


def test_a_source_that_is_down_parks_the_batch_and_frees_the_worker(worker: Worker) -> None:
    batch = worker.begin()
    worker.source.stop()
    worker.take()

    assert worker.engine.ledger.batches.state(batch) == "resolving"
    assert worker.sent == []


def test_a_batch_that_has_begun_to_flip_comes_before_its_lane(worker: Worker) -> None:
    batch = worker.begin(lane="backfill")
    canvas.send_mirror(worker.engine.ledger, batch, first=True)

    assert [message.priority for message in worker.sent] == [9, 0]


def test_a_batch_that_kills_its_process_while_landing_is_ended_by_name(worker: Worker) -> None:
    worker.source.hold("app", image("new"), "1.0")
    batch = worker.begin()
    worker.sent.clear()
    assert resolve(worker.engine, batch)

    poison.end_lost(worker.runtime, "sealift.mirror", [batch, "us"])
    assert worker.take() == "mirror"

    (tag,) = worker.engine.ledger.tag_reports(worker.report(batch).run)
    assert (tag.state, tag.targets[0].kind) == ("failed", "ProcessLost")
    assert worker.target.tag("app", "1.0") is None


def test_a_batch_that_kills_its_process_elsewhere_is_left_to_the_sweeper(worker: Worker) -> None:
    batch = worker.begin()
    worker.sent.clear()

    poison.end_lost(worker.runtime, "sealift.mirror", [batch, "us"])

    assert worker.sent == []
    assert worker.engine.ledger.batches.regions_done(batch, "landed") == set()


def test_a_run_behind_another_of_its_tag_begins_when_that_one_has_ended(worker: Worker) -> None:
    ledger, spec = worker.engine.ledger, replace(worker.spec, refs=(("1.0", "1.0"),))
    worker.source.hold("app", build_image({"app": b"one"}), "1.0")
    first = ledger.pushes.ask(spec).run
    steps.enumerate_task.run(first)
    behind = ledger.pushes.ask(spec).run
    assert behind != first

    steps.enumerate_task.run(behind)  # the sweeper, say
    assert ledger.cursor(behind) == ("", False)

    while worker.sent:
        message = worker.sent[0]
        worker.take()
        if message.args == [behind]:
            break
    assert ledger.run_report(first).state == "done"
    assert ledger.cursor(behind)[1]
