"""A list of any length is read as far as there is room, and its digest tags are known in time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from mirror.associates import digest_tags_of
from mirror.engine import Engine
from mirror.listing import enumerate_tags
from mirror.pages import _list_digest_tags
from mirror.spec import MirrorSpec, Target
from registry.images import build_image
from registry.memory import MemoryRegistry
from registry.repository import Repository
from tests.support.engine import engine_on
from tests.support.valkey import ValkeyServer

PAGE, BATCH, WINDOW, ROOM = 20, 5, 2, 4
IMAGE = build_image({"app.txt": b"one"})


@dataclass
class Lister:
    """A run over a source whose list has several pages, enumerated as a fleet would."""

    engine: Engine
    source: MemoryRegistry
    run: str = ""
    opened: list[str] = field(default_factory=list)

    def begin(self) -> None:
        spec = MirrorSpec("app", f"{self.source.host}/app", (Target("eu.example/app", "eu"),))
        self.run = self.engine.ledger.create_run(spec, "backfill")
        self.enumerate()

    def enumerate(self) -> None:
        enumerate_tags(self.engine, self.run, BATCH, self._open, ROOM)

    def _open(self) -> None:
        self.opened += self.engine.ledger.open_window(self.run, WINDOW)

    def conclude(self) -> None:
        """The oldest batch that is under way."""
        ledger, batch = self.engine.ledger, self.opened.pop(0)
        assert ledger.batches.conclude(batch, "resolving", ledger.spec(self.run))
        self._open()

    def refill(self) -> bool:
        """Whether the list has to be read on, now that room was made."""
        opened, wants_listing = self.engine.ledger.refill(self.run, WINDOW)
        self.opened += opened
        return wants_listing

    @property
    def listed(self) -> int:
        return self.engine.ledger.run_report(self.run).tags

    @property
    def pages(self) -> int:
        return sum(request.kind == "tags" for request in self.source.requests)


@pytest.fixture
def lister(valkey: ValkeyServer) -> Iterator[Lister]:
    with MemoryRegistry(page_size=PAGE) as source, engine_on(valkey) as engine:
        yield Lister(engine, source)


def hold(source: MemoryRegistry, *tags: str) -> None:
    for tag in tags:
        source.hold("app", IMAGE, tag)


def test_the_list_is_read_no_further_than_there_is_room(lister: Lister) -> None:
    hold(lister.source, *(f"1.{number:03}" for number in range(10 * PAGE)))
    lister.begin()

    assert lister.listed == 2 * PAGE
    assert lister.engine.ledger.sources.waiting_batches(lister.run) < ROOM + PAGE // BATCH

    while lister.opened:
        lister.conclude()
        if lister.refill():
            assert lister.engine.ledger.sources.waiting_batches(lister.run) < WINDOW
            lister.enumerate()
        assert lister.engine.ledger.sources.waiting_batches(lister.run) < ROOM + PAGE // BATCH

    report = lister.engine.ledger.run_report(lister.run)
    assert (report.state, report.tags) == ("done", 10 * PAGE)


@pytest.mark.parametrize(
    ("tags", "most", "batches"),
    [(1, 32, 1), (7, 32, 1), (8, 32, 2), (20, 32, 4), (100, 32, 4), (1000, 32, 32), (12, 1, 12)],
)
def test_a_short_list_is_spread_over_several_workers(
    lister: Lister, tags: int, most: int, batches: int
) -> None:
    refs = tuple((f"1.{number}", f"1.{number}") for number in range(tags))
    spec = MirrorSpec("app", f"{lister.source.host}/app", (Target("eu.example/app", "eu"),), refs=refs)
    run = lister.engine.ledger.create_run(spec, "release")

    enumerate_tags(lister.engine, run, most, lambda: None)

    assert len(lister.engine.ledger.open_window(run, 100)) == batches


def test_of_all_who_made_room_one_has_the_list_read_on(lister: Lister) -> None:
    hold(lister.source, *(f"1.{number:03}" for number in range(10 * PAGE)))
    lister.begin()
    for _ in range(6):
        lister.conclude()
    wants = [lister.refill() for _ in range(5)]

    assert wants == [True, False, False, False, False]


def test_a_run_whose_list_is_at_its_end_wants_no_more_of_it(lister: Lister) -> None:
    hold(lister.source, "1.0")
    lister.begin()

    assert not lister.refill()


def test_the_digest_tags_of_a_long_list_are_known_before_its_first_batch(lister: Lister) -> None:
    signature, *_ = digest_tags_of(IMAGE.digest)
    hold(lister.source, *(f"1.{number:03}" for number in range(10 * PAGE)), signature)
    lister.begin()

    assert lister.listed == 2 * PAGE
    known = lister.engine.ledger.sources.digest_tags(
        lister.run, f"{lister.source.host}/app", digest_tags_of(IMAGE.digest)
    ).tags
    assert known == frozenset({signature})


@pytest.mark.parametrize("page", [["zz-2", "zz-1"], ["1.0", "zz-1"]])
def test_of_a_list_in_another_order_nothing_is_concluded_before_its_end(
    lister: Lister, page: list[str]
) -> None:
    hold(lister.source, *(f"1.{number:03}" for number in range(10 * PAGE)))
    unordered = cast("Repository", SimpleNamespace(name="a.example/app", tags=lambda _: iter([page])))
    lister.begin()
    other = lister.engine.ledger.create_run(lister.engine.ledger.spec(lister.run), "backfill")

    _list_digest_tags(lister.engine, other, unordered)

    assert (
        lister.engine.ledger.sources.digest_tags(other, "a.example/app", digest_tags_of(IMAGE.digest)).tags
        is None
    )


def test_a_short_list_is_read_by_one_request_and_known_to_be_whole(lister: Lister) -> None:
    hold(lister.source, "1.0", "1.1")
    lister.begin()

    assert lister.pages == 1
    assert (
        lister.engine.ledger.sources.digest_tags(
            lister.run, f"{lister.source.host}/app", digest_tags_of(IMAGE.digest)
        ).tags
        == frozenset()
    )
