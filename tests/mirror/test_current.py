"""Which targets hold what tags are to be, by what runs have left: what clients are told is built on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from mirror.current import Currency, currencies
from mirror.engine import Engine
from mirror.ledger.lagging import row_of
from mirror.spec import TARGETS, MirrorSpec, Target, Verification
from registry.images import Image, build_image
from registry.memory import ErrorReply, MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

ONE, TWO, THREE = (build_image({"app": text}) for text in (b"one", b"two", b"three"))


@dataclass
class Rig:
    engine: Engine
    source: MemoryRegistry
    us: MemoryRegistry
    eu: MemoryRegistry
    spec: MirrorSpec

    def run(self, *tags: str, **terms: object) -> str:
        """Of all tags, or as a webhook has it."""
        spec = replace(self.spec, refs=tuple((tag, tag) for tag in tags), **terms)  # type: ignore[arg-type]  # a spec's fields
        return Drive(self.engine, spec).all().run

    @property
    def known(self) -> tuple[Currency, Currency]:
        """In us and in eu."""
        found = currencies(self.engine.ledger, self.spec)
        first, second = (found[target.repository] for target in self.spec.targets)
        return first, second

    @property
    def behind(self) -> list[set[str]]:
        return [set(one.behind) for one in self.known]


@pytest.fixture
def rig(valkey: ValkeyServer) -> Iterator[Rig]:
    with (
        MemoryRegistry() as source,
        MemoryRegistry() as us,
        MemoryRegistry() as eu,
        engine_on(valkey) as engine,
    ):
        targets = (Target(f"{us.host}/app", "us"), Target(f"{eu.host}/app", "eu"))
        spec = MirrorSpec("app", f"{source.host}/app", targets, finalize="each")
        yield Rig(engine, source, us, eu, spec)


def hold(registry: MemoryRegistry, image: Image, *tags: str) -> None:
    for tag in tags:
        registry.hold("app", image, tag)


def refuse(tag: str) -> Callable[[str, str], None]:
    def on_request(method: str, path: str) -> None:
        if method == "PUT" and path.endswith(f"/manifests/{tag}"):
            raise ErrorReply(403, "DENIED", "not now")

    return on_request


def test_nobody_is_known_to_hold_anything_before_a_run(rig: Rig) -> None:
    assert rig.known == (Currency(), Currency())


def test_a_target_that_lacks_a_tag_is_behind_whatever_tags_later_runs_are_about(rig: Rig) -> None:
    hold(rig.source, ONE, "a", "b", "c", "d", "e")
    rig.run()
    hold(rig.source, TWO, "a", "b", "c", "d", "e")
    rig.eu.on_request = refuse("a")
    for tag in "abcde":
        rig.run(tag)
    assert rig.behind == [set(), {"a"}]
    assert all(one.is_known and not one.is_unsure for one in rig.known)
    rig.eu.on_request = None
    rig.run("a")
    assert rig.behind == [set(), set()]


def test_a_tag_that_a_run_has_brought_since_is_there_whatever_tags_later_runs_are_about(rig: Rig) -> None:
    hold(rig.source, ONE, "a", "b", "c", "d", "e")
    rig.eu.on_request = refuse("a")
    rig.run()
    rig.eu.on_request = None
    for tag in "abcde":
        rig.run(tag)
    assert rig.behind == [set(), set()]


def test_what_is_behind_beside_those_that_are_named_is_counted(rig: Rig) -> None:
    _, eu = rig.spec.targets
    key = rig.engine.ledger.keys.lagging("app")
    rig.engine.ledger.together().hset(key, row_of("", eu.repository), "1000 1000.5 7").execute()
    assert [one.more_behind for one in rig.known] == [0, 7]


def test_a_target_that_has_got_all_is_known_though_another_has_got_nothing(rig: Rig) -> None:
    hold(rig.source, ONE, "a")
    rig.eu.on_request = refuse("a")
    rig.run()
    assert [one.is_known for one in rig.known] == [True, False]
    assert rig.behind == [set(), {"a"}]


def test_what_a_run_under_way_has_brought_or_could_not_bring_counts_at_once(rig: Rig) -> None:
    hold(rig.source, ONE, "a", "b")
    rig.eu.on_request = refuse("a")
    rig.run()
    hold(rig.source, TWO, "b")
    rig.eu.on_request = refuse("b")
    drive = Drive(rig.engine, rig.spec)
    for step in (drive.resolve, drive.land, drive.finalize, drive.flip):
        step()
    assert rig.behind == [set(), {"b"}]
    drive.conclude()
    assert rig.behind == [set(), {"b"}]


def test_a_tag_that_a_newer_run_has_left_behind_is_so_though_an_older_one_under_way_had_brought_it(
    rig: Rig,
) -> None:
    hold(rig.source, ONE, "a", "b")
    older = Drive(rig.engine, rig.spec, batch_tags=1)
    for step in (older.resolve, older.land, older.finalize, older.flip):
        step()
    hold(rig.source, TWO, "a")
    rig.eu.on_request = refuse("a")
    rig.run("a")
    assert rig.behind == [set(), {"a"}]


def test_of_a_wildcards_repositories_each_has_its_own(rig: Rig) -> None:
    for name in ("one", "two"):
        rig.source.hold(f"all/{name}", ONE, "v1")
    targets = tuple(
        Target(f"{host}/all/*", region) for host, region in ((rig.us.host, "us"), (rig.eu.host, "eu"))
    )
    whole = replace(rig.spec, source=f"{rig.source.host}/all/*", targets=targets)
    rig.spec = whole

    def refuse_one(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/all/one/manifests/v1"):
            raise ErrorReply(403, "DENIED", "not now")

    rig.eu.on_request = refuse_one
    rig.run()
    assert rig.behind == [set(), {"one:v1"}]
    rig.spec = whole.of(f"{rig.source.host}/all/one")
    assert rig.behind == [set(), {"one:v1"}]
    rig.spec = whole.of(f"{rig.source.host}/all/two")
    assert rig.behind == [set(), set()]
    assert all(one.is_known for one in rig.known)


def test_sides_that_moved_apart_stay_so_until_somebody_has_decided(rig: Rig) -> None:
    rig.spec = replace(rig.spec, source=TARGETS, kind="two_way", two_way=True)
    hold(rig.us, ONE, "a", "b", "c", "d", "e")
    rig.run()
    hold(rig.us, TWO, "a", "b", "c", "d", "e")
    hold(rig.eu, THREE, "a")
    for tag in "abcde":
        rig.run(tag)
    assert [set(one.apart) for one in rig.known] == [{"a"}, {"a"}]
    rig.run()
    assert [set(one.apart) for one in rig.known] == [{"a"}, {"a"}]
    rig.run("a", take=rig.spec.targets[0].repository)
    assert [set(one.apart) for one in rig.known] == [set(), set()]


def test_what_a_verification_found_is_wrong_until_a_run_has_asked_for_all(rig: Rig) -> None:
    hold(rig.source, ONE, "a", "b")
    rig.run()
    rig.eu.untag("app", "b")
    rig.run(kind="verify", verification=Verification())
    assert [one.wrong for one in rig.known] == [{}, {"missing": 1}]
    rig.run("a")
    assert [one.wrong for one in rig.known] == [{}, {"missing": 1}]
    rig.run()
    assert [one.wrong for one in rig.known] == [{}, {}]


def test_a_run_that_no_fleet_file_has_says_nothing_of_a_mirror_of_its_name(rig: Rig) -> None:
    hold(rig.source, ONE, "a")
    rig.run()
    hold(rig.source, TWO, "a")
    rig.eu.on_request = refuse("a")
    rig.run(ad_hoc=True)
    waiting = Drive(rig.engine, replace(rig.spec, ad_hoc=True))
    for step in (waiting.resolve, waiting.land, waiting.finalize, waiting.flip):
        step()
    assert rig.behind == [set(), set()]


def test_a_first_run_that_is_not_through_leaves_its_targets_unsure(rig: Rig) -> None:
    hold(rig.source, ONE, "a", "b", "c")
    drive = Drive(rig.engine, rig.spec, batch_tags=1)
    rig.engine.ledger.cancel_run(drive.run)
    drive.all()
    assert all(one.is_unsure for one in rig.known)
    rig.run()
    assert not any(one.is_unsure for one in rig.known)
