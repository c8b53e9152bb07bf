"""The page as it is served: who makes it, for how long it is everybody's, and what there is without Redis."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pytest
from starlette.applications import Starlette

from workers.serve.pages import FRESH_S, STALE_S, Files, Pages, routes


class Away(Exception):
    pass


@dataclass
class Maker:
    made: int = 0
    fails: bool = False
    now: float = 0.0
    hold: threading.Event | None = None
    begun: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> Files:
        self.made += 1
        self.begun.set()
        if self.hold:
            assert self.hold.wait(30)
        if self.fails:
            raise Away("Redis is away")
        return {"index.html": b"%d" % self.made}

    @property
    def pages(self) -> Pages:
        return Pages(self, (Away,), lambda: self.now)


def test_it_is_made_once_for_all_who_ask_within_seconds() -> None:
    maker = Maker()
    pages = maker.pages
    assert [pages.files() for _ in range(100)] == [{"index.html": b"1"}] * 100
    maker.now += FRESH_S
    assert pages.files() == {"index.html": b"2"}


def test_whoever_asks_while_it_is_made_anew_is_given_the_old_one_at_once() -> None:
    maker = Maker()
    pages = maker.pages
    pages.files()
    maker.now += FRESH_S
    maker.hold = threading.Event()
    maker.begun.clear()
    slow = threading.Thread(target=pages.files)
    slow.start()
    assert maker.begun.wait(30)
    assert pages.files() == {"index.html": b"1"}
    maker.hold.set()
    slow.join(30)
    assert pages.files() == {"index.html": b"2"}
    assert maker.made == 2


def test_without_redis_the_old_one_is_served_for_a_while_and_then_none() -> None:
    maker = Maker(fails=True)
    pages = maker.pages
    assert pages.files() is None
    maker.fails = False
    assert pages.files() is not None
    maker.fails = True
    maker.now += STALE_S - 1
    assert pages.files() is not None
    maker.now += 2
    assert pages.files() is None


@pytest.mark.parametrize("path", ["/", "/index.html", "/status.json", "/status.schema.json", "/feed.atom"])
def test_every_file_has_an_address(path: str) -> None:
    app = Starlette(routes=[*routes(Maker().pages)])
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    assert any(route.matches(scope)[0].value == 2 for route in app.routes)
