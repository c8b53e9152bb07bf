"""What senders that let ``sealift serve`` wait may take of it: heads, and answers that nobody fetches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from tests.support.ports import LOOPBACK
from tests.support.waiting import until
from workers.serve import server
from workers.serve.server import Connection

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENCE_S = 20.0
IDLE_S = 2
LARGE = 2**26
"""More than what a system keeps of it while nobody reads."""
Spoken = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_S", 0.1)


@asynccontextmanager
async def listening(state: ServerState | None = None) -> AsyncIterator[Callable[[], Awaitable[Spoken]]]:
    """What opens a connection to one that answers without reading a body."""
    state = state or ServerState()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        text = "x" * LARGE if scope["path"] == "/large" else "ok"
        await PlainTextResponse(text)(scope, receive, send)

    config = uvicorn.Config(app, http=Connection, log_config=None, timeout_keep_alive=IDLE_S, ws="none")
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(config, state, {}), LOOPBACK, 0)
    async with AsyncExitStack() as stack:

        async def connect() -> Spoken:
            reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
            stack.callback(writer.close)
            return reader, writer

        await stack.enter_async_context(listener)
        async with asyncio.timeout(PATIENCE_S):
            yield connect


async def is_given_up(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def answered(reader: asyncio.StreamReader) -> None:
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")


async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    pass


async def half_a_head(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GET[:-4])


async def half_a_second_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GET)
    await answered(reader)
    writer.write(GET[:-4])


async def half_a_body_that_nobody_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    await answered(reader)
    writer.write(b"1234")


@pytest.mark.parametrize(
    "speak",
    [silent, half_a_head, half_a_second_head, half_a_body_that_nobody_reads],
    ids=lambda one: one.__name__,
)
def test_who_owes_the_rest_of_a_request_is_given_up(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> None:
    async def scenario() -> None:
        async with listening() as connect:
            reader, writer = await connect()
            await speak(reader, writer)
            assert await is_given_up(reader)

    asyncio.run(scenario())


def test_a_head_that_comes_byte_by_byte_gains_no_time() -> None:
    async def scenario() -> None:
        async with listening() as connect:
            reader, writer = await connect()
            writer.write(GET[:-2] + b"X: ")
            end = asyncio.ensure_future(is_given_up(reader))
            while not end.done():
                writer.write(b"x")
                await asyncio.wait([end], timeout=0.01)
            assert await end

    asyncio.run(scenario())


def test_who_rests_between_two_requests_is_not_hurried() -> None:
    async def scenario() -> None:
        async with listening() as connect:
            reader, writer = await connect()
            for _ in range(3):
                writer.write(GET)
                await answered(reader)
                await asyncio.sleep(3 * server.HEAD_S)

    asyncio.run(scenario())


def test_who_does_not_fetch_an_answer_is_given_up() -> None:
    async def scenario() -> None:
        state = ServerState()
        async with listening(state) as connect:
            reader, writer = await connect()
            writer.write(GET.replace(b"/ ", b"/large "))
            await reader.readuntil(b"x")
            await asyncio.to_thread(until, lambda: not state.connections, PATIENCE_S, "its end")

    asyncio.run(scenario())


def test_where_there_is_no_room_the_one_that_has_rested_longest_makes_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 10 * PATIENCE_S)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)

    async def scenario() -> None:
        async with listening() as connect:
            first, second = await connect(), await connect()
            first[1].write(GET)
            await answered(first[0])
            third = await connect()
            assert await is_given_up(second[0])
            for reader, writer in (first, third):
                writer.write(GET)
                await answered(reader)

    asyncio.run(scenario())


def test_many_that_come_at_once_find_no_more_room_than_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "HEAD_S", 10 * PATIENCE_S)
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 2)

    async def scenario() -> None:
        state = ServerState()
        async with listening(state) as connect:
            await asyncio.gather(*(connect() for _ in range(20)))
            reader, writer = await connect()
            writer.write(GET)
            await answered(reader)
            await asyncio.to_thread(until, lambda: len(state.connections) <= 2, PATIENCE_S, "room")

    asyncio.run(scenario())
