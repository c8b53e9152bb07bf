"""What a slow region holds back: nothing of the others where targets move on their own, else a window."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mirror import ledger as ledger_module
from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.report import RunReport
from mirror.spec import Finalize, MirrorSpec, Target
from registry.images import build_image
from registry.memory import ErrorReply, MemoryRegistry
from tasks import canvas, steps
from tasks.runtime import Runtime
from tests.support.engine import engine_on
from tests.support.valkey import ValkeyServer

WINDOW = 3
TAGS = tuple(f"1.{number}" for number in range(10))


@dataclass
class Fleet:
    """Two regions whose messages are caught, each taken only when a test says so."""

    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry
    queues: dict[str, list[tuple[str, list[str]]]] = field(default_factory=dict)

    @property
    def ledger(self) -> Ledger:
        return self.engine.ledger

    @property
    def runtime(self) -> Runtime:
        settings = SimpleNamespace(window_batches=WINDOW)
        made: Any = SimpleNamespace(engine=self.engine, ledger=self.ledger, settings=settings)
        return cast("Runtime", made)

    def begin(self, finalize: Finalize, tags: tuple[str, ...] = TAGS) -> str:
        """A run of a batch for each tag, of which as many are begun as there is room for."""
        targets = tuple(Target(f"{getattr(self, region).host}/app", region) for region in ("us", "eu"))
        spec = MirrorSpec("app", f"{self.source.host}/app", targets, referrers=False, finalize=finalize)
        run = self.ledger.create_run(spec, "release")
        self.ledger.add_batches(run, "", "", [[(tag, tag)] for tag in tags], listed=True)
        steps.open_window(self.runtime, run)
        return run

    def work(self, *regions: str) -> None:
        """Workers of these regions, and of the control queue, take messages until there are none."""
        while queue := next((self.queues[q] for q in ("control", *regions) if self.queues.get(q)), None):
            name, args = queue.pop(0)
            getattr(steps, f"{name}_task").run(*args)

    def report(self, run: str) -> RunReport:
        return self.ledger.run_report(run)

    def in_flight(self, run: str) -> int:
        return int(self.ledger._redis.scard(self.ledger.keys.flight(run)))


@pytest.fixture
def fleet(valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey, outage_s=60.0) as engine,
    ):
        for tag in TAGS:
            source.hold("app", build_image({"a": tag.encode()}), tag)
        made = Fleet(engine, source, us, eu)
        monkeypatch.setattr(steps, "runtime", lambda: made.runtime)
        monkeypatch.setattr(canvas, "_task", _catch(made))
        monkeypatch.setattr(canvas, "_in_regions", _send_each)
        yield made


def _catch(fleet: Fleet) -> Callable[..., SimpleNamespace]:
    def make(name: str, args: list[str], queue: str, _shown: str, _turn: canvas.Turn) -> SimpleNamespace:
        return SimpleNamespace(delay=lambda: fleet.queues.setdefault(queue, []).append((name, args)))

    return make


def _send_each(ledger: Ledger, header: str, batch: str, _body: str, regions: list[str]) -> None:
    """Without a chord: then the last region sends its body."""
    for region in regions:
        canvas._region_task(ledger, header, batch, region).delay()


def test_where_targets_move_on_their_own_a_region_does_not_wait_for_a_slow_one(fleet: Fleet) -> None:
    run = fleet.begin("each")

    fleet.work("us")

    assert set(fleet.us.tags("app")) == set(TAGS)
    assert fleet.eu.tags("app") == {}
    assert len(fleet.queues["eu"]) == len(TAGS), "what it has to do waits for it"
    assert fleet.report(run).states == {"pending": len(TAGS)}

    fleet.work("us", "eu")

    assert set(fleet.eu.tags("app")) == set(TAGS)
    assert fleet.report(run).states == {"updated": len(TAGS)}
    assert fleet.report(run).state == "done"
    us, eu = fleet.report(run).regions
    assert us.tags_flipped == eu.tags_flipped == len(TAGS), "each tag once"


def test_what_was_proved_too_long_ago_is_proved_again_before_it_moves(fleet: Fleet) -> None:
    usual, fleet.engine = fleet.engine, replace(fleet.engine, proof_s=-1.0)
    run = fleet.begin("each")

    fleet.work("us")

    assert fleet.us.tags("app") == {}

    fleet.engine = usual
    fleet.work("us", "eu")

    assert set(fleet.us.tags("app")) == set(fleet.eu.tags("app")) == set(TAGS)
    assert fleet.report(run).states == {"updated": len(TAGS)}


def test_tags_that_are_current_are_not_held_back_either(fleet: Fleet) -> None:
    fleet.begin("each")
    fleet.work("us", "eu")
    run = fleet.begin("each")

    fleet.work("us")

    assert fleet.report(run).regions[0].tags_landed == 0
    assert len(fleet.queues["eu"]) == len(TAGS)
    fleet.work("us", "eu")
    assert fleet.report(run).states == {"current": len(TAGS)}


def test_a_slow_region_is_left_behind_by_so_much_and_no_more(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "BEHIND_WINDOWS", 1)
    run = fleet.begin("each")

    fleet.work("us")
    assert (len(fleet.us.tags("app")), fleet.in_flight(run)) == (2 * WINDOW, 2 * WINDOW)

    fleet.work("us", "eu")
    assert fleet.report(run).states == {"updated": len(TAGS)}
    assert not fleet.ledger._redis.exists(fleet.ledger.keys.behind(run))


def test_where_targets_move_together_a_slow_region_holds_back_a_window(
    fleet: Fleet,
) -> None:
    run = fleet.begin("all")

    fleet.work("us")

    assert fleet.us.tags("app") == fleet.eu.tags("app") == {}
    assert fleet.in_flight(run) == WINDOW
    assert len(fleet.us.manifests("app")) == WINDOW, "no more than that is landed and waits"
    assert len(fleet.queues["eu"]) == WINDOW

    fleet.work("us", "eu")
    assert fleet.report(run).states == {"updated": len(TAGS)}


def test_a_region_that_fails_for_good_does_not_take_back_what_moved_elsewhere(fleet: Fleet) -> None:
    fleet.eu.on_request = refusing(403)
    run = fleet.begin("each", TAGS[:1])

    fleet.work("us", "eu")

    assert set(fleet.us.tags("app")) == set(TAGS[:1])
    assert fleet.report(run).states == {"failed": 1}
    (tag,) = fleet.ledger.tag_reports(run)
    assert [target.state for target in tag.targets] == ["updated", "failed"]


def test_a_move_that_may_still_work_is_made_again_once_all_have_landed(fleet: Fleet) -> None:
    fleet.us.on_request = refusing(503)
    run = fleet.begin("each", TAGS[:1])
    fleet.work("us")
    fleet.us.on_request = None
    assert fleet.us.tags("app") == {}

    fleet.work("us", "eu")
    batch = f"{run}.0"
    assert fleet.ledger.batches.state(batch) == "flipping"
    assert fleet.ledger.batches.regions_done(batch, "flipped") == {"eu"}
    due = {
        pair: replace(one, at=0.0)
        for pair, one in fleet.ledger.batches.outcomes(batch).items()
        if one.state == "ready"
    }
    fleet.ledger.batches.record(batch, due, ("ready",))
    canvas.send_flip(fleet.ledger, batch, "us")
    fleet.work("us", "eu")

    assert fleet.report(run).states == {"updated": 1}


def test_a_cancelled_run_moves_nothing_ahead(fleet: Fleet) -> None:
    run = fleet.begin("each", TAGS[:1])
    fleet.work()
    fleet.us.on_request = lambda method, path: _cancel_at(fleet, run, method, path)
    fleet.work("us")

    assert fleet.us.tags("app") == {}
    assert fleet.report(run).state == "cancelled"


def _cancel_at(fleet: Fleet, run: str, method: str, path: str) -> None:
    """As soon as the first manifest is put, by digest."""
    if method == "PUT" and "/manifests/" in path:
        fleet.ledger.cancel_run(run)


def refusing(status: int) -> Callable[[str, str], None]:
    """Of tags alone: their content lands."""

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and "/manifests/1." in path:
            raise ErrorReply(status, "DENIED", "no")

    return refuse
