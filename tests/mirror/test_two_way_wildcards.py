"""Two-way mirrors of all that is below a prefix, and of the newest by date."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import pytest

from mirror.engine import Engine
from mirror.ledger.sources import Entry
from mirror.sources import PAGE_NAMES
from mirror.spec import ALL_TARGETS, TARGETS, MirrorSpec, Target, Verification, name_of
from registry.images import Image, build_image
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.planning import planning_on
from tests.support.valkey import ValkeyServer

ONE, TWO = (build_image({"app": text}) for text in (b"one", b"two"))


def dated(year: int) -> Image:
    return build_image({"year": str(year).encode()}, created=f"{year}-01-01T00:00:00Z")


@dataclass
class World:
    valkey: ValkeyServer
    engine: Engine
    us: MemoryRegistry
    eu: MemoryRegistry

    @property
    def spec(self) -> MirrorSpec:
        """``us`` has below ``org/`` what ``eu`` has at its top."""
        targets = (Target(f"{self.us.host}/org/*", "us"), Target(f"{self.eu.host}/*", "eu"))
        return MirrorSpec("team", ALL_TARGETS, targets, kind="two_way", two_way=True)

    @property
    def pair(self) -> MirrorSpec:
        targets = (Target(f"{self.us.host}/app", "us"), Target(f"{self.eu.host}/app", "eu"))
        return MirrorSpec("app", TARGETS, targets, kind="two_way", two_way=True)

    def run(self, **terms: Any) -> Drive:
        return Drive(self.engine, replace(self.spec, **terms)).to_end()

    def at(self, rest: str, tag: str = "v1") -> list[str | None]:
        return [self.us.tag(f"org/{rest}", tag), self.eu.tag(rest, tag)]

    def writes(self) -> list[str]:
        """Since the last question."""
        asked = [one for side in (self.us, self.eu) for one in side.requests]
        for side in (self.us, self.eu):
            side.forget_requests()
        return [f"{one.method} {one.path}" for one in asked if one.method not in {"GET", "HEAD"}]


@pytest.fixture
def world(valkey: ValkeyServer) -> Iterator[World]:
    with ExitStack() as stack:
        us, eu = (stack.enter_context(MemoryRegistry(page_size=3)) for _ in range(2))
        yield World(valkey, stack.enter_context(engine_on(valkey)), us, eu)


def test_every_repository_of_any_side_is_made_the_same_on_all(world: World) -> None:
    world.us.hold("org/only-us", ONE, "v1")
    world.us.hold("elsewhere", ONE, "v1")
    world.eu.hold("deep/only-eu", TWO, "v1")
    for number in range(8):
        world.us.hold(f"org/both{number}", ONE, "us")
        world.eu.hold(f"both{number}", TWO, "eu")
    drive = world.run()

    assert (drive.report.state, drive.report.repositories, drive.report.tags) == ("done", 10, 18)
    assert world.at("only-us") == [ONE.digest] * 2
    assert world.at("deep/only-eu") == [TWO.digest] * 2
    assert [world.at("both7", tag) for tag in ("us", "eu")] == [[ONE.digest] * 2, [TWO.digest] * 2]
    assert "elsewhere" not in world.eu.repositories
    world.writes()
    assert world.run().report.states == {"current": 18}
    assert world.writes() == []


def test_repositories_are_chosen_by_what_the_wildcards_stand_for(world: World) -> None:
    world.us.hold("org/app", ONE, "v1")
    world.us.hold("org/app-cache", ONE, "v1")
    world.eu.hold("lib", ONE, "v1")
    world.run(repositories=("app*",), not_repositories=("*-cache",))

    assert world.eu.repositories == ["app", "lib"]
    assert "org/lib" not in world.us.repositories


def test_repositories_that_are_named_one_by_one_need_no_list_of_them(world: World) -> None:
    def closed(_: str, path: str) -> None:
        if "_catalog" in path:
            raise ErrorReply(404, "NOT_FOUND", "no catalog here")

    world.eu.on_request = closed
    world.us.hold("org/a", ONE, "v1")
    world.eu.hold("b/c", TWO, "v1")
    report = world.run(repositories=("a", "b/c", "nowhere"), not_repositories=("x*",)).report

    assert (report.state, report.states, report.repositories) == ("done", {"updated": 2}, 3)
    assert (world.at("a"), world.at("b/c")) == ([ONE.digest] * 2, [TWO.digest] * 2)


def test_conflicts_are_one_repositorys_own_and_decided_there(world: World) -> None:
    for name in ("a", "b"):
        world.us.hold(f"org/{name}", ONE, "v1")
        world.eu.hold(name, TWO, "v1")
    world.run()
    conflicts = world.engine.ledger.conflicts
    assert conflicts.mirrors() == ["team/a", "team/b"]
    (found,) = conflicts.open("team/a")
    assert list(found.sides) == [f"{world.us.host}/org/a", f"{world.eu.host}/a"]

    one = world.spec.of(name_of(world.spec, "a"))
    Drive(world.engine, replace(one, take=one.targets[1].repository, refs=(("v1", "v1"),))).to_end()

    assert world.at("a") == [TWO.digest] * 2
    assert world.at("b") == [ONE.digest, TWO.digest]
    assert list(conflicts.open("team/a")) == []


def test_the_preferred_wildcard_wins_in_each_repository(world: World) -> None:
    world.us.hold("org/a", ONE, "v1")
    world.eu.hold("a", TWO, "v1")
    world.run(rule="prefer", prefer=world.spec.targets[1].repository)

    assert world.at("a") == [TWO.digest] * 2


def test_a_side_that_cannot_list_its_repositories_fails_the_run_by_name(world: World) -> None:
    world.us.hold("org/a", ONE, "v1")

    def closed(_: str, path: str) -> None:
        if "_catalog" in path:
            raise ErrorReply(401, "UNAUTHORIZED", "who are you")

    world.eu.on_request = closed
    report = world.run().report

    assert report.state == "failed"
    assert world.eu.host in report.error
    assert world.eu.tag("a", "v1") is None


def test_a_repository_that_cannot_be_listed_fails_by_name_and_the_others_go_on(world: World) -> None:
    world.us.hold("org/a", ONE, "v1")
    world.us.hold("org/b", ONE, "v1")

    def closed(_: str, path: str) -> None:
        if path.startswith("/v2/org/a/tags"):
            raise ErrorReply(403, "DENIED", "not yours")

    world.us.on_request = closed
    drive = world.run()

    assert drive.report.states == {"failed": 1, "updated": 1}
    assert drive.tags["a"].reason.startswith(f"{world.us.host}/org/a: not yours")
    assert world.at("b") == [ONE.digest] * 2
    world.us.on_request = None
    staged = world.engine.ledger.sources.stage([Entry(name_of(world.spec, "a"))])
    again = Drive(world.engine, replace(world.spec, given=staged.digest), staged=staged).to_end()
    assert again.report.states == {"updated": 1}
    assert world.at("a") == [ONE.digest] * 2


def test_a_long_list_of_repositories_goes_to_the_ledger_in_portions(world: World) -> None:
    count = PAGE_NAMES + 7
    for number in range(count):
        (world.us if number % 2 else world.eu).hold(f"org/{number:04}" if number % 2 else f"{number:04}", ONE)

    report = Drive(world.engine, world.spec).report

    assert (report.listed, report.repositories, report.tags) == (True, count, 0)


def test_verifying_finds_what_is_behind_in_each_repository(world: World) -> None:
    world.us.hold("org/a", ONE, "v1")
    world.run()
    world.us.hold("org/a", TWO, "v1")
    report = world.run(kind="verify", verification=Verification()).report

    assert {one.repository: (one.verified, one.behind) for one in report.found} == {
        f"{world.us.host}/org/*": (1, 0),
        f"{world.eu.host}/*": (0, 1),
    }


def test_a_wildcard_is_planned_with_the_repositories_of_all_sides(world: World) -> None:
    world.us.hold("org/a", ONE, "v1")
    world.eu.hold("b", TWO, "v1")
    with planning_on(world.valkey) as planning:
        forecast = planning.forecast(world.spec, "release")

    assert [(tag.label, [one.state for one in tag.targets]) for tag in forecast.tags] == [
        ("a:v1", ["current", "new"]),
        ("b:v1", ["new", "current"]),
    ]
    assert world.writes() == []


# -- the newest by date ---------------------------------------------------------------------------------


def test_the_newest_images_of_all_sides_are_kept_equal(world: World) -> None:
    for year in (2021, 2023):
        world.us.hold("app", dated(year), f"y{year}")
    for year in (2022, 2024):
        world.eu.hold("app", dated(year), f"y{year}")
    spec = replace(world.pair, newest=2, newest_by="created")
    drive = Drive(world.engine, spec).to_end()

    assert sorted(drive.tags) == ["y2023", "y2024"]
    assert world.us.tag("app", "y2024") == dated(2024).digest
    assert world.eu.tag("app", "y2023") == dated(2023).digest
    assert (world.us.tag("app", "y2022"), world.eu.tag("app", "y2021")) == (None, None)


def test_a_tag_that_sides_have_apart_counts_as_its_newest_image(world: World) -> None:
    world.us.hold("app", dated(2020), "apart")
    world.eu.hold("app", dated(2025), "apart")
    world.us.hold("app", dated(2022), "other")
    drive = Drive(world.engine, replace(world.pair, newest=1, newest_by="created")).to_end()

    assert list(drive.tags) == ["apart"]
    assert drive.report.states == {"held": 1}
