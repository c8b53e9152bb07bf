"""A plan of a two-way mirror is what the run then does, and what it would leave alone; nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest

from mirror.budget import Allowance
from mirror.forecast import Forecast, PlannedTag
from mirror.ledger.keys import Client
from mirror.ledger.rehearsed import Scratch
from mirror.report import RunReport
from mirror.spec import TARGETS, MirrorSpec, Target
from registry.images import Image, build_image, random_layer
from registry.memory import MemoryRegistry, PullLimits
from tests.support.engine import Drive, engine_on
from tests.support.planning import asked_of, foretold, planning_on, written_to
from tests.support.valkey import ValkeyServer

BASE = build_image({"base": b"shared"}, layers=[random_layer(200_000, seed=1)])
ONE, TWO = (build_image({"app": text}, base=BASE) for text in (b"one", b"two"))
BLOB = ("GET", "blob")
EARLY, LATE = (
    build_image({"app": str(year).encode()}, base=BASE, created=f"{year}-01-01T00:00:00Z")
    for year in (2024, 2026)
)


@dataclass
class Scene:
    valkey: ValkeyServer
    sides: list[MemoryRegistry]
    spec: MirrorSpec

    def push(self, side: int, image: Image, tag: str = "v1") -> None:
        self.sides[side].hold("app", image, tag)

    def plan(self, **terms: object) -> Forecast:
        for side in self.sides:
            side.forget_requests()
        with planning_on(self.valkey) as planning:
            forecast = planning.forecast(replace(self.spec, **terms), "release")  # type: ignore[arg-type]  # a test's own words
        written = [one for side in self.sides for one in side.requests if one.method not in {"GET", "HEAD"}]
        assert written == []
        return forecast

    def run(self, **terms: object) -> RunReport:
        for side in self.sides:
            side.forget_requests()
        with engine_on(self.valkey) as engine:
            return Drive(engine, replace(self.spec, **terms)).all().report  # type: ignore[arg-type]  # a test's own words

    def holds_what_was_planned(self, forecast: Forecast) -> None:
        """But for blobs that a side is asked for in vain: who served last depends on what is cached."""
        for side in self.sides:
            requests, asked = foretold(forecast, side), asked_of(side)
            assert {**requests, BLOB: 0} == {**asked, BLOB: 0}, side.host
            said = {
                name: count
                for name, count in forecast.tally.written.items()
                if name.startswith(side.host) and count
            }
            assert said == written_to(side)

    def reads(self, forecast: Forecast) -> set[int]:
        """From which sides blobs would be read, although the first is asked first."""
        return {number for number, side in enumerate(self.sides) if forecast.tally.read[side.host]}

    def kept(self) -> set[str]:
        """The names of everything in Redis that tells of agreements and conflicts, or of a rehearsal."""
        with self.valkey.client() as client:
            names = set(keys(client))
        words = ("agreed", "conflict", "settled", "plan:")
        return {name for name in names if any(word in name for word in words)}


@pytest.fixture
def scene(valkey: ValkeyServer) -> Iterator[Scene]:
    with ExitStack() as stack:
        sides = [stack.enter_context(MemoryRegistry()) for _ in range(3)]
        targets = tuple(
            Target(f"{side.host}/app", region) for side, region in zip(sides, ("us", "eu", "eu"), strict=True)
        )
        yield Scene(valkey, sides, MirrorSpec("app", TARGETS, targets, kind="two_way", two_way=True))


def keys(client: Client) -> list[str]:
    return [name.decode() for name in client.keys("*")]


def states(tag: PlannedTag) -> list[str]:
    return [target.state for target in tag.targets]


def test_pushes_that_cross_are_planned_with_where_they_are_taken_from_and_what_it_costs(scene: Scene) -> None:
    scene.push(0, ONE, "from-0")
    scene.push(2, TWO, "from-2")
    forecast = scene.plan()
    names = [target.repository for target in scene.spec.targets]

    assert forecast.source == ", ".join(names)
    assert [(tag.tag, states(tag), tag.taken_from) for tag in forecast.tags] == [
        ("from-0", ["current", "new", "new"], (names[0],)),
        ("from-2", ["new", "new", "current"], (names[2],)),
    ]
    assert scene.reads(forecast) == {0, 2}
    assert scene.kept() == set()
    assert scene.run().states == {"updated": 2}
    scene.holds_what_was_planned(forecast)


def test_a_push_after_the_sides_have_agreed_moves_the_others(scene: Scene) -> None:
    scene.push(0, ONE)
    scene.run()
    kept = scene.kept()
    scene.push(1, TWO)
    forecast = scene.plan()

    (tag,) = forecast.tags
    assert (tag.digest, states(tag)) == (TWO.digest, ["move", "current", "move"])
    assert [target.previous for target in tag.targets] == [ONE.digest, TWO.digest, ONE.digest]
    assert scene.reads(forecast) == {1}
    assert scene.kept() == kept
    assert scene.run().states == {"updated": 1}
    scene.holds_what_was_planned(forecast)


def test_what_is_equal_is_nothing_to_do(scene: Scene) -> None:
    scene.push(0, ONE)
    scene.run()
    forecast = scene.plan()

    assert (forecast.is_current, forecast.moving, forecast.selected) == (True, 0, 1)
    assert sum(forecast.tally.written.values()) == 0


def test_a_conflict_is_foreseen_with_what_each_side_has_and_is_not_on_record(scene: Scene) -> None:
    scene.push(0, ONE)
    scene.push(1, TWO)
    forecast = scene.plan()

    (tag,) = forecast.tags
    assert (tag.digest, states(tag), forecast.moving) == (None, ["conflict"] * 3, 0)
    assert [target.previous for target in tag.targets] == [ONE.digest, TWO.digest, None]
    assert "they never were the same" in tag.targets[0].reason
    assert scene.kept() == set()
    assert scene.run().states == {"held": 1}


def test_what_a_plan_that_was_killed_leaves_has_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agreements and conflicts are kept for good; those that were only rehearsed are not kept at all."""
    scene.push(0, ONE)
    scene.push(1, TWO, "v2")
    scene.push(2, ONE, "v2")
    monkeypatch.setattr(Scratch, "erase", lambda _: None)
    scene.plan()

    with scene.valkey.client() as client:
        left = [name for name in keys(client) if ":plan:" in name]
        assert {name for name in left if client.ttl(name) < 0} == set()
    assert not [name for name in left if "agreed" in name or "conflict" in name]


def test_a_deletion_on_one_side_is_foreseen_as_a_conflict(scene: Scene) -> None:
    scene.push(0, ONE)
    scene.run()
    scene.sides[2].untag("app", "v1")
    (tag,) = scene.plan().tags

    assert states(tag) == ["conflict"] * 3
    assert tag.targets[0].reason.startswith(f"deleted in {scene.spec.targets[2].repository}")


def test_what_all_sides_have_deleted_is_told_and_forgotten_by_the_run_alone(scene: Scene) -> None:
    scene.push(0, ONE)
    scene.run()
    for side in scene.sides:
        side.untag("app", "v1")
    for _ in range(2):
        (tag,) = scene.plan().tags
        assert states(tag) == ["current"] * 3
        assert tag.targets[0].reason == "all sides have deleted it"
    scene.run()

    assert scene.plan().tags == []


@pytest.mark.parametrize(("rule", "wanted"), [("newest", LATE), ("prefer", EARLY)])
def test_a_rule_that_would_decide_is_named(scene: Scene, rule: str, wanted: Image) -> None:
    """By the date in the config, which has to be read for that."""
    scene.push(0, EARLY)
    scene.push(1, LATE)
    terms = {"rule": rule, "prefer": scene.spec.targets[0].repository if rule == "prefer" else ""}
    (tag,) = scene.plan(**terms).tags

    assert (tag.digest, tag.rule) == (wanted.digest, rule)
    assert sorted(states(tag)) == ["current", "move", "new"]
    scene.run(**terms)
    assert {side.tag("app", "v1") for side in scene.sides} == {wanted.digest}


def test_a_side_that_cannot_be_asked_leaves_no_plan(scene: Scene) -> None:
    scene.push(0, ONE)
    scene.sides[1].__exit__(None, None, None)

    assert scene.sides[1].host in scene.plan().error


def test_dates_that_would_cost_pulls_beyond_the_budget_are_not_read(scene: Scene) -> None:
    limits = PullLimits(10)
    with MemoryRegistry(pulls=limits) as limited:
        targets = (Target(f"{limited.host}/app", "us"), scene.spec.targets[1])
        scene.spec = replace(scene.spec, targets=targets)
        limited.hold("app", EARLY, "v1")
        scene.push(1, LATE)
        with planning_on(scene.valkey, Allowance()) as planning:
            reads_none = replace(planning, reads=False)
            (tag,) = reads_none.forecast(replace(scene.spec, rule="newest"), "release").tags
    assert not limits.used

    assert states(tag) == ["error"] * 2
    assert "reading it counts" in tag.targets[0].reason
