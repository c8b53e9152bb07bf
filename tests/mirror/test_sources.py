"""One run over many repositories: listed page by page, each on terms of its own, none in another's way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from mirror.associates import digest_tags_of
from mirror.engine import Engine
from mirror.ledger import Ledger
from mirror.ledger.sources import Entry
from mirror.listing import enumerate_tags
from mirror.report import RunReport
from mirror.sources import repositories_of
from mirror.spec import EVERYWHERE, MirrorSpec, Target
from registry.images import Image, build_image
from registry.memory import Cut, ErrorReply, Hook, MemoryRegistry
from tests.support.engine import Drive, engine_on
from tests.support.valkey import ValkeyServer

PAGE, WINDOW, ROOM = 5, 2, 6


def image(text: str) -> Image:
    return build_image({"app.txt": text.encode()})


class Killed(Exception):
    """The process that was listing is gone."""


@dataclass
class Yard:
    """A source with pages of PAGE names, and a target; what is asked of the source is counted."""

    engine: Engine
    source: MemoryRegistry
    target: MemoryRegistry
    run: str = ""
    opened: list[str] = field(default_factory=list)

    @property
    def spec(self) -> MirrorSpec:
        return MirrorSpec("org", f"{self.source.host}/org/*", (Target(f"{self.target.host}/copy/*", "eu"),))

    def hold(self, *names: str) -> None:
        """``repository:tag``, each an image of its own."""
        for name in names:
            repository, _, tag = name.partition(":")
            self.source.hold(repository, image(name), tag)

    def drive(self, spec: MirrorSpec | None = None, entries: list[Entry] | None = None) -> Drive:
        """A whole run, to its end."""
        spec, staged = spec or self.spec, None
        if entries is not None:
            staged = self.engine.ledger.sources.stage(entries)
            spec = replace(spec, given=staged.digest)
        return Drive(self.engine, spec, staged=staged).to_end()

    def begin(self, spec: MirrorSpec | None = None) -> None:
        self.run = self.engine.ledger.create_run(spec or self.spec, "backfill")
        self.enumerate()

    def enumerate(self) -> None:
        enumerate_tags(self.engine, self.run, 32, self._open, ROOM)

    def _open(self) -> None:
        self.opened += self.engine.ledger.open_window(self.run, WINDOW)

    def conclude(self) -> None:
        """The oldest batch that is under way; the list is read on where it has to be."""
        ledger, batch = self.engine.ledger, self.opened.pop(0)
        assert ledger.batches.conclude(batch, "resolving", ledger.spec_of(batch))
        opened, wants_listing = ledger.refill(self.run, WINDOW)
        self.opened += opened
        if wants_listing:
            self.enumerate()

    @property
    def waiting(self) -> int:
        return self.engine.ledger.sources.waiting_batches(self.run)

    @property
    def report(self) -> RunReport:
        return self.engine.ledger.run_report(self.run)

    @property
    def listed(self) -> Counter[str]:
        """How often each repository's tags were listed, and a page of the catalog."""
        asked = (one for one in self.source.requests if one.kind in {"tags", "catalog"})
        return Counter(one.path.removeprefix("/v2/").partition("?")[0] for one in asked)


@pytest.fixture
def yard(valkey: ValkeyServer) -> Iterator[Yard]:
    with ExitStack() as stack:
        source, target = (stack.enter_context(MemoryRegistry(page_size=PAGE)) for _ in range(2))
        yield Yard(stack.enter_context(engine_on(valkey)), source, target)


def names(count: int, tag: str = "1.0") -> list[str]:
    return [f"org/app{number:03}:{tag}" for number in range(count)]


# -- what a run covers -----------------------------------------------------------------------------


def test_every_repository_below_the_prefix_is_mirrored_under_its_own_name(yard: Yard) -> None:
    yard.hold(*names(12), "org/team/db:2.0", "org/team/db:2.1", "other/app:1.0", "organic/app:1.0")

    drive = yard.drive()

    assert drive.report.state == "done"
    assert (drive.report.tags, drive.report.repositories) == (14, 13)
    assert yard.target.repositories == sorted([f"copy/app{n:03}" for n in range(12)] + ["copy/team/db"])
    assert yard.target.tag("copy/team/db", "2.1") == image("org/team/db:2.1").digest
    assert drive.tags["team/db:2.0"].repository == f"{yard.source.host}/org/team/db"
    assert {one.targets[0].repository for one in drive.tags.values()} == {
        f"{yard.target.host}/{repository}" for repository in yard.target.repositories
    }


def test_a_whole_registry_keeps_its_names(yard: Yard) -> None:
    yard.hold("a:1", "b/c:2", "d/e/f:3")
    spec = replace(
        yard.spec, source=f"{yard.source.host}/*", targets=(Target(f"{yard.target.host}/*", "eu"),)
    )

    assert yard.drive(spec).report.state == "done"

    assert yard.target.repositories == ["a", "b/c", "d/e/f"]


def test_repositories_are_chosen_by_what_the_wildcard_stands_for(yard: Yard) -> None:
    yard.hold("org/app:1", "org/app-cache:1", "org/test/app:1", "org/db:1")
    spec = replace(yard.spec, repositories=("app*", "test/*"), not_repositories=("*-cache",))

    assert {one.rest for one in yard.drive(spec).tags.values()} == {"app", "test/app"}
    assert yard.listed[f"{'org/db'}/tags/list"] == 0


def test_each_repository_s_tags_are_selected_by_themselves(yard: Yard) -> None:
    yard.hold("org/a:1.0", "org/a:2.0", "org/a:latest", "org/b:0.1", "org/b:0.2")
    newest = replace(yard.spec, newest=1)
    exact = replace(yard.spec, include=("latest",))

    assert set(yard.drive(newest).tags) == {"a:2.0", "b:0.2"}
    drive = yard.drive(exact)
    assert (drive.report.state, set(drive.tags)) == ("done", {"a:latest"}), "that b has none is no failure"


def test_where_nothing_is_below_the_prefix_there_is_nothing_to_do(yard: Yard) -> None:
    yard.hold("other/app:1.0")

    report = yard.drive().report

    assert (report.state, report.tags, report.repositories) == ("done", 0, 0)


def test_what_is_claimed_and_titled_is_each_repository_s_own(yard: Yard) -> None:
    yard.hold("org/a:1.0", "org/b:1.0")
    drive = yard.drive()
    specs = [yard.engine.ledger.spec_of(batch) for batch in drive.batches]

    assert [spec.name for spec in specs] == ["org/a", "org/b"]
    assert [spec.source for spec in specs] == [f"{yard.source.host}/org/{name}" for name in "ab"]
    for name in "ab":
        generation, digest = yard.engine.ledger.turns.claimed(f"{yard.target.host}/copy/{name}", "1.0")
        assert (generation > 0, digest) == (True, image(f"org/{name}:1.0").digest)


def test_the_digest_tags_of_one_repository_say_nothing_of_another(yard: Yard) -> None:
    one, other = image("org/a:1.0"), image("org/b:1.0")
    yard.hold("org/a:1.0", "org/b:1.0")
    signature, *_ = digest_tags_of(one.digest)
    yard.source.hold("org/a", image("signature"), signature)
    yard.source.hold("org/b", image("no signature"), signature)
    yard.begin()
    known = yard.engine.ledger.sources.digest_tags

    assert known(yard.run, f"{yard.source.host}/org/a", [signature]).tags == frozenset([signature])
    assert known(yard.run, f"{yard.source.host}/org/b", digest_tags_of(other.digest)).tags == frozenset()
    assert known(yard.run, f"{yard.source.host}/org/c", [signature]).tags is None
    yard.drive()
    assert yard.target.tag("copy/a", signature) == image("signature").digest
    assert signature not in yard.target.tags("copy/b"), "it belongs to no image of that repository"


# -- page by page ----------------------------------------------------------------------------------


def test_the_window_holds_over_the_whole_run(yard: Yard) -> None:
    yard.hold(*names(40))
    yard.begin()
    most = yard.waiting
    assert yard.listed["_catalog"] <= 2, "what there is no room for is not listed"

    while yard.opened:
        assert len(yard.opened) <= WINDOW
        yard.conclude()
        most = max(most, yard.waiting)

    assert most <= ROOM
    assert (yard.report.state, yard.report.tags, yard.report.repositories) == ("done", 40, 40)
    assert yard.listed == {
        "_catalog": 40 // PAGE,
        **{f"org/app{number:03}/tags/list": 1 for number in range(40)},
    }


def test_of_the_list_of_repositories_no_more_than_a_page_is_in_the_ledger(
    yard: Yard, valkey: ValkeyServer
) -> None:
    yard.hold(*names(40))
    yard.begin()
    with valkey.client() as client:
        while yard.opened:
            assert client.llen(yard.engine.ledger.keys.repositories(yard.run)) <= PAGE
            yard.conclude()


@pytest.mark.parametrize("step", [1, 2, 5, 7, 8, 9, 14])
def test_a_listing_that_was_killed_goes_on_where_it_was(
    yard: Yard, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard.hold(*names(12), *(f"org/app005:2.{number:02}" for number in range(3 * PAGE)))
    add, steps = Ledger.add_batches, iter(range(1, 100))

    def killed_at_the_step(*words: Any, **terms: Any) -> bool:
        if next(steps) == step:
            raise Killed
        return add(*words, **terms)

    monkeypatch.setattr(Ledger, "add_batches", killed_at_the_step)
    with suppress(Killed):
        yard.begin()
    while not yard.report.ended:
        with suppress(Killed):
            yard.conclude() if yard.opened else yard.enumerate()

    assert (yard.report.state, yard.report.tags) == ("done", 12 + 3 * PAGE)
    asked = Counter(one.path for one in yard.source.requests if one.kind in {"tags", "catalog"})
    again = {path.partition("?")[0] for path, count in asked.items() if count > 1}
    assert (len(again), max(asked.values())) == (1, 2), "only what was asked and not written is asked again"


@pytest.mark.parametrize("step", [1, 4, 9])
def test_of_two_listings_on_one_way_each_step_is_taken_once(yard: Yard, step: int) -> None:
    yard.hold(*names(12))
    yard.run = yard.engine.ledger.create_run(yard.spec, "backfill")
    steps = iter(range(1, 100))

    def another_comes_by() -> None:
        if next(steps) == step:
            enumerate_tags(yard.engine, yard.run, 32, lambda: None, yard.waiting + 2)

    enumerate_tags(yard.engine, yard.run, 32, another_comes_by)
    yard.opened += yard.engine.ledger.open_window(yard.run, WINDOW)
    while yard.opened:
        yard.conclude()

    assert (yard.report.tags, yard.report.repositories, yard.report.state) == (12, 12, "done")


def test_a_plan_comes_to_the_same_repositories(yard: Yard) -> None:
    yard.hold(*names(12), "org/x-cache:1")
    spec = replace(yard.spec, not_repositories=("*-cache",))
    lister = yard.engine.list_repositories
    assert lister

    assert list(repositories_of(spec, lister)) == [
        f"{yard.source.host}/org/app{number:03}" for number in range(12)
    ]


# -- what fails ------------------------------------------------------------------------------------


def refusing(path: str, status: int, code: str) -> Hook:
    def hook(_: str, asked: str) -> None:
        if asked.partition("?")[0] == path:
            raise ErrorReply(status, code, "as the test wants it")

    return hook


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(404, "NAME_UNKNOWN", "NotFound"), (403, "DENIED", "Denied"), (500, "UNKNOWN", "Transient")],
)
def test_a_repository_that_cannot_be_listed_fails_by_name_and_stops_no_other(
    yard: Yard, status: int, code: str, kind: str
) -> None:
    yard.hold(*names(4))
    yard.source.on_request = refusing("/v2/org/app002/tags/list", status, code)

    drive = yard.drive()

    assert (drive.report.state, drive.report.states) == ("failed", {"updated": 3, "failed": 1})
    failed = drive.tags["app002"]
    assert (failed.tag, failed.repository) == ("", f"{yard.source.host}/org/app002")
    assert f"{yard.source.host}/org/app002" in failed.reason
    assert [target.kind for target in failed.targets] == [kind]
    assert yard.target.repositories == ["copy/app000", "copy/app001", "copy/app003"]
    assert drive.report.error == ""


def test_a_repository_whose_name_is_too_long_for_its_target_fails_by_name(yard: Yard) -> None:
    long = f"org/{'a' * 200}"
    yard.hold("org/app:1", f"{long}:1")
    spec = replace(yard.spec, targets=(Target(f"{yard.target.host}/{'b' * 50}/*", "eu"),))

    drive = yard.drive(spec)

    assert drive.report.states == {"updated": 1, "failed": 1}
    assert "longer than 255 characters" in drive.tags["a" * 200].reason


def test_a_catalog_that_is_forbidden_fails_the_run_and_says_what_to_do(yard: Yard) -> None:
    yard.source.on_request = refusing("/v2/_catalog", 403, "DENIED")

    report = yard.drive().report

    assert (report.state, report.error_kind) == ("failed", "Denied")
    assert "cannot be listed by its catalog" in report.error
    assert "\n" not in report.error


def test_a_registry_that_is_away_fails_the_run_and_not_one_repository_after_the_other(yard: Yard) -> None:
    yard.hold(*names(4))

    def hook(_: str, asked: str) -> None:
        if asked.startswith("/v2/org/app001/"):
            raise Cut

    yard.source.on_request = hook

    report = yard.drive().report

    assert (report.state, report.error_kind, report.tags) == ("failed", "Unreachable", 1)


def test_an_outage_is_waited_out_before_the_same_repository_is_listed(valkey: ValkeyServer) -> None:
    with ExitStack() as stack:
        source, target = (stack.enter_context(MemoryRegistry(page_size=PAGE)) for _ in range(2))
        yard = Yard(stack.enter_context(engine_on(valkey, outage_s=600.0)), source, target)
        yard.hold(*names(4))
        source.on_request = refusing("/v2/org/app002/tags/list", 503, "UNAVAILABLE")
        yard.begin()
        assert "as the test wants it" in yard.report.waits
        assert yard.report.tags == 2
        source.on_request = None
        yard.enumerate()

        assert yard.report.listed
        assert (yard.report.tags, yard.report.waits) == (4, "")


# -- a list that is given --------------------------------------------------------------------------


def test_a_list_of_references_is_mirrored_and_nothing_else(yard: Yard) -> None:
    yard.hold("org/a:1.0", "org/a:1.1", "lib/b:2.0", "lib/b:2.1", "lib/c:3")
    held = image("lib/b:2.0")
    entries = [
        Entry(f"{yard.source.host}/org/a", (("1.1", "1.1"),)),
        Entry(f"{yard.source.host}/lib/b", (("pinned", held.digest), ("2.1", "2.1"))),
        Entry(f"{yard.source.host}/lib/c"),
    ]
    spec = MirrorSpec("list", EVERYWHERE, (Target(f"{yard.target.host}/all/*", "eu"),))

    drive = yard.drive(spec, entries)

    assert drive.report.state == "done"
    assert set(drive.tags) == {"org/a:1.1", "lib/b:pinned", "lib/b:2.1", "lib/c:3"}
    assert yard.target.tags("all/lib/b") == {"pinned": held.digest, "2.1": image("lib/b:2.1").digest}
    assert yard.listed == {"lib/c/tags/list": 1}


def test_a_long_list_is_taken_up_as_there_is_room(yard: Yard) -> None:
    refs = tuple((f"1.{number}", f"1.{number}") for number in range(2000))
    spec = MirrorSpec("list", EVERYWHERE, (Target(f"{yard.target.host}/all/*", "eu"),))
    staged = yard.engine.ledger.sources.stage([Entry(f"{yard.source.host}/org/a", refs)])
    yard.run = yard.engine.ledger.create_run(replace(spec, given=staged.digest), "backfill", staged)

    yard.enumerate()
    most = yard.waiting
    while yard.opened:
        yard.conclude()
        most = max(most, yard.waiting)

    assert (yard.report.tags, yard.report.state) == (2000, "done")
    assert most <= ROOM + 256 // 32
    assert not yard.listed


def test_the_same_list_is_joined_and_another_one_is_not(yard: Yard, valkey: ValkeyServer) -> None:
    sources, ledger = yard.engine.ledger.sources, yard.engine.ledger
    spec = MirrorSpec("list", EVERYWHERE, (Target(f"{yard.target.host}/all/*", "eu"),))

    def start(*repositories: str) -> tuple[str, bool]:
        staged = sources.stage(Entry(f"{yard.source.host}/{name}") for name in repositories)
        return ledger.create_or_join_run(replace(spec, given=staged.digest), "backfill", staged)

    first, second, other = start("a", "b"), start("a", "b"), start("a", "c")

    assert second == (first[0], False)
    assert (other[0] != first[0], other[1]) == (True, True)
    with valkey.client() as client:
        assert not client.keys("test:ledger:staged:*")


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a.example/a"),
        Entry("a.example/a", (("1", "1"),)),
        Entry("a.example/a", (("1", "1"), ("2", "3"))),
    ],
)
def test_an_entry_is_read_as_it_was_written(entry: Entry) -> None:
    assert Entry.parse(entry.text()) == entry
