"""The page as it is served: who makes it, for how long it is everybody's, and what there is without Redis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from anyio.to_thread import current_default_thread_limiter
from httpx import ASGITransport, AsyncClient
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
    away: type[Exception] = Away

    def __call__(self) -> Files:
        self.made += 1
        self.begun.set()
        if self.hold:
            assert self.hold.wait(30)
        if self.fails:
            raise self.away("Redis is away")
        return {"index.html": b"%d" % self.made}

    @property
    def pages(self) -> Pages:
        return Pages(self, (Away,), lambda: self.now)

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 30)

    @asynccontextmanager
    async def held(self, pages: Pages) -> AsyncIterator[asyncio.Task[Files | None]]:
        """Somebody has it made, which takes as long as the block."""
        self.hold = threading.Event()
        self.begun.clear()
        first = asyncio.create_task(pages.files())
        try:
            await self.has_begun()
            yield first
        finally:
            self.hold.set()
            await first
            await asyncio.gather(*[pages._making] if pages._making else [])
            self.hold = None


def test_it_is_made_once_for_all_who_ask_within_seconds() -> None:
    async def ask() -> None:
        maker = Maker()
        pages = maker.pages
        at_once = await asyncio.gather(*(pages.files() for _ in range(100)))
        assert [*at_once, await pages.files()] == [{"index.html": b"1"}] * 101
        maker.now += FRESH_S
        assert await pages.files() == {"index.html": b"2"}

    asyncio.run(ask())


def test_whoever_asks_while_it_is_made_anew_is_given_the_old_one_at_once() -> None:
    async def ask() -> None:
        maker = Maker()
        pages = maker.pages
        await pages.files()
        maker.now += FRESH_S
        async with maker.held(pages) as slow:
            assert await pages.files() == {"index.html": b"1"}
        assert await slow == await pages.files() == {"index.html": b"2"}
        assert maker.made == 2

    asyncio.run(ask())


def test_whoever_waits_for_the_page_holds_no_thread_of_those_that_answer_others() -> None:
    async def ask() -> None:
        maker, threads = Maker(), current_default_thread_limiter()
        app = Starlette(routes=[*routes(maker.pages)])
        async with AsyncClient(transport=ASGITransport(app), base_url="http://page") as client:
            maker.hold = threading.Event()
            waiting = [asyncio.create_task(client.get("/")) for _ in range(2 * int(threads.total_tokens))]
            try:
                await maker.has_begun()
                for _ in range(100):  # rounds of the loop: whoever wants a thread has asked for it by then
                    await asyncio.sleep(0)
                assert threads.borrowed_tokens == 1
            finally:
                maker.hold.set()
            assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
            assert maker.made == 1

    asyncio.run(ask())


def test_where_redis_hangs_the_first_one_waits_for_a_while_and_once_it_has_failed_nobody_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask() -> None:
        maker = Maker(fails=True)
        pages = maker.pages
        monkeypatch.setattr("workers.serve.pages.WAIT_S", 0.01)
        async with maker.held(pages) as first:
            assert await first is None
        assert await pages.files() is None
        assert maker.made == 1, "it is not tried again at once"
        maker.now += FRESH_S
        monkeypatch.setattr("workers.serve.pages.WAIT_S", 600.0)
        async with maker.held(pages):
            assert await pages.files() is None

    asyncio.run(ask())


def test_without_redis_the_old_one_is_served_for_a_while_and_then_none() -> None:
    async def ask() -> None:
        maker = Maker(fails=True)
        pages = maker.pages
        assert await pages.files() is None
        maker.fails = False
        maker.now += FRESH_S
        assert await pages.files() is not None
        maker.fails = True
        maker.now += STALE_S - 1
        assert await pages.files() is not None
        maker.now += 2
        assert await pages.files() is None

    asyncio.run(ask())


def test_a_fault_of_ours_is_logged_and_the_old_one_is_served(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        maker = Maker()
        pages = maker.pages
        await pages.files()
        maker.now += FRESH_S
        maker.away = ZeroDivisionError
        maker.fails = True
        assert await pages.files() == {"index.html": b"1"}
        assert "the status page cannot be made" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    asyncio.run(ask())


@pytest.mark.parametrize("path", ["/", "/index.html", "/status.json", "/status.schema.json", "/feed.atom"])
def test_every_file_has_an_address(path: str) -> None:
    app = Starlette(routes=[*routes(Maker().pages)])
    scope = {"type": "http", "method": "GET", "path": path, "headers": []}
    assert any(route.matches(scope)[0].value == 2 for route in app.routes)
