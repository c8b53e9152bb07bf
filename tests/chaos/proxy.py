"""Proxies that make real registries misbehave, and links that can be cut; one thread runs them all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tests.chaos.loop import Loop
from tests.chaos.reading import digest_of
from tests.chaos.weather import Asked, HttpFault, Tags, Weather
from tests.chaos.wire import Hangup, Message, answer, read_answer, read_request
from tests.support.ports import LOOPBACK, free_fixed_port
from tests.support.wanlink import WanLink

Mode = Literal["through", "refuse", "cut"]
"""``refuse``: nobody listens; ``cut``: packets go nowhere, in both directions."""
REASONS = {
    401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
}  # fmt: skip
BUFFER = 4 * 2**20


class Put(NamedTuple):
    """A manifest that was put into a registry or deleted there, as its proxy saw it."""

    registry: str
    repository: str
    reference: str
    digest: str
    """Empty where it was deleted."""
    begun: float
    done: float
    """Unix times, as all witnesses give."""
    status: int
    """0: the registry's answer was lost, and it may have taken it or not."""


class Look(NamedTuple):
    """A tag was asked for, and the registry answered what it is, or that it is not there."""

    registry: str
    repository: str
    tag: str
    begun: float
    done: float
    """Unix times."""


@dataclass(slots=True, eq=False)
class Wires:
    """The two ends of one connection through a proxy."""

    inner: asyncio.StreamReader
    out: asyncio.StreamWriter
    upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    task: asyncio.Task[None] | None = None

    def drop(self, *, rudely: bool = False) -> None:
        """Close both; ``rudely`` with a reset towards the client."""
        if rudely:
            wire = self.out.get_extra_info("socket")
            with contextlib.suppress(OSError):
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.out.close()
        if self.upstream:
            self.upstream[1].close()


class Gate:
    """Listens at a port before something else, and can stop to."""

    def __init__(self, loop: Loop, upstream: int) -> None:
        self._loop, self.upstream = loop, upstream
        self.port = free_fixed_port()
        self.mode: Mode = "through"
        self._wires: set[Wires] = set()
        self._server: asyncio.Server | None = None
        self._open = asyncio.Event()
        self._loop.run(self._switch("through", resets=False))

    @property
    def host(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def switch(self, mode: Mode, *, resets: bool = True) -> None:
        """Change the mode; ``resets``: what was connected is lost with it."""
        self._loop.run(self._switch(mode, resets=resets))

    def hang_up(self, peer: str = "") -> None:
        """End connections rudely, on the loop: all, or those from an address."""
        for wires in list(self._wires):
            if not peer or wires.out.get_extra_info("peername", ("",))[0] == peer:
                wires.drop(rudely=True)

    async def _switch(self, mode: Mode, *, resets: bool) -> None:
        self.mode = mode
        if mode == "refuse" and self._server is not None:
            # asyncio leaves open what it accepted in the very turn in which its server is closed.
            for listening in self._server.sockets:
                self._loop.loop.remove_reader(listening.fileno())
            await asyncio.sleep(0)
            self._server.close()
            self._server = None
        if mode == "cut":
            self._open.clear()
        else:
            self._open.set()
        if resets and mode != "cut":
            self.hang_up()
        if mode != "refuse" and self._server is None:
            self._server = await asyncio.start_server(self._accepted, LOOPBACK, self.port, limit=BUFFER)

    def _accepted(self, inner: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        """Known at once: a task that is cancelled before it has begun would close nothing."""
        wires = Wires(inner, out)
        self._wires.add(wires)
        wires.task = asyncio.ensure_future(self._attend(wires))

    async def _attend(self, wires: Wires) -> None:
        try:
            await self._open.wait()
            await self._serve(wires)
        except (OSError, Hangup, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            wires.drop(rudely=True)
        except asyncio.CancelledError:
            wires.drop(rudely=True)
        finally:
            self._wires.discard(wires)
            wires.drop()

    async def _serve(self, wires: Wires) -> None:
        raise NotImplementedError

    async def _connect(self, wires: Wires) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if wires.upstream is None:
            wires.upstream = await asyncio.open_connection(LOOPBACK, self.upstream, limit=BUFFER)
        return wires.upstream


class Link(Gate):
    """Bytes from one side to the other, whatever they are."""

    async def _serve(self, wires: Wires) -> None:
        inner, out = await self._connect(wires)
        ends = (
            asyncio.ensure_future(self._pass_on(wires.inner, out)),
            asyncio.ensure_future(self._pass_on(inner, wires.out)),
        )
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while block := await source.read(2**16):
                await self._open.wait()
                sink.write(block)
                await sink.drain()


class Proxy(Gate):
    """Before one registry: does to its exchanges what the weather says, and keeps what was put."""

    def __init__(self, loop: Loop, name: str, upstream: int, weather: Weather, *, stale: bool = True) -> None:
        self.name, self.weather, self._stale = name, weather, stale
        self.puts: list[Put] = []
        self.looks: list[Look] = []
        self.uploads: list[tuple[str, int]] = []
        """Digest and bytes of every blob that the registry took."""
        self._tags = Tags()
        super().__init__(loop, upstream)

    async def _serve(self, wires: Wires) -> None:
        while (request := await self._request(wires)) is not None:
            await self._open.wait()
            asked = Asked.of(request)
            older = self._tags.older(asked) if asked.tag and self._stale else ""
            fault = self.weather.fault(asked, request, knows_older=bool(older))
            if not await self._exchange(wires, request, asked, fault, older) or request.closes:
                return

    async def _request(self, wires: Wires) -> Message | None:
        try:
            return await read_request(wires.inner)
        except Hangup as error:
            # Half a request: the registry shall see that half too.
            _, out = await self._connect(wires)
            out.write(error.sent)
            await out.drain()
            raise

    async def _exchange(
        self, wires: Wires, request: Message, asked: Asked, fault: HttpFault | None, older: str
    ) -> bool:
        """Whether the connection can be used again."""
        if fault == "connection reset":
            wires.drop(rudely=True)
            return False
        if fault == "stalled" and self.weather.place(2):
            await asyncio.sleep(self.weather.stall_s)
            if wires.inner.at_eof():  # its sender gave up: what is lost on the way does not arrive later
                return False
            fault = None
        elif fault is not None and fault.isdigit():
            wires.out.write(self._refusal(int(fault), request.method))
            await wires.out.drain()
            return True
        elif fault == "upload truncated":
            return await self._cut_upload(wires, request)
        elif fault == "upload corrupted":
            request = request.corrupted(self.weather.place(len(request.body)))
        elif fault == "stale tag":
            request = request.aimed_at(f"/v2/{asked.repository}/manifests/{older}")
        reply = await self._forward(wires, request, asked)
        return await self._answer(wires, reply, fault)

    async def _forward(self, wires: Wires, request: Message, asked: Asked) -> Message:
        inner, out = await self._connect(wires)
        begun, status = time.time(), 0
        out.write(request.head + request.body)
        try:
            await out.drain()
            reply = await read_answer(inner, request.method)
            status = reply.status
        finally:
            if asked.kind == "manifest" and request.method in {"PUT", "DELETE"}:
                digest = digest_of(request.body) if request.method == "PUT" else ""
                put = (asked.repository, asked.reference, digest, begun, time.time(), status)
                self.puts.append(Put(self.name, *put))
            elif asked.tag and status in {200, 404}:
                self.looks.append(Look(self.name, asked.repository, asked.tag, begun, time.time()))
        if request.method == "PUT" and status == 201:
            self._taken(request, asked)
        return reply

    def _taken(self, request: Message, asked: Asked) -> None:
        if asked.tag:
            self._tags.saw(asked, digest_of(request.body))
        elif asked.kind == "blob":
            digest = request.path.replace("%3A", ":").rpartition("digest=")[2]
            self.uploads.append((digest, len(request.body)))

    async def _answer(self, wires: Wires, reply: Message, fault: HttpFault | None) -> bool:
        if fault == "stalled":
            await asyncio.sleep(self.weather.stall_s)
        if fault == "answer lost after a PUT":
            wires.drop(rudely=True)
            return False
        if fault == "body truncated" and reply.body:
            wires.out.write(reply.head + reply.body[: self.weather.place(len(reply.body))])
            await wires.out.drain()
            return False
        if fault == "bytes corrupted" and reply.body:
            reply = reply.corrupted(self.weather.place(len(reply.body)))
        wires.out.write(reply.head + reply.body)
        await wires.out.drain()
        return not reply.closes

    async def _cut_upload(self, wires: Wires, request: Message) -> bool:
        _, out = await self._connect(wires)
        out.write(request.head + request.body[: self.weather.place(len(request.body))])
        await out.drain()
        wires.drop(rudely=True)
        return False

    def _refusal(self, status: int, method: str) -> bytes:
        headers = {"Retry_After": str(self.weather.retry_after_s)} if status == 429 else {}
        if status == 401:
            headers["WWW_Authenticate"] = 'Basic realm="proxy"'
        body = b"" if method == "HEAD" else b'{"errors":[{"code":"UNAVAILABLE","message":"planted"}]}'
        return answer(status, REASONS[status], body, **headers)


@dataclass(slots=True)
class Fabric:
    """Every proxy and link of a storm, on one loop."""

    weather: Weather
    loop: Loop = field(default_factory=Loop)
    proxies: list[Proxy] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    wans: list[WanLink] = field(default_factory=list)

    def proxy(self, name: str, upstream: int, *, stale: bool = True) -> Proxy:
        self.proxies.append(Proxy(self.loop, name, upstream, self.weather, stale=stale))
        return self.proxies[-1]

    def link(self, upstream: int) -> Link:
        self.links.append(Link(self.loop, upstream))
        return self.links[-1]

    def wan(self) -> WanLink:
        """A namespace from which everything here can be reached; Unavailable."""
        self.wans.append(WanLink(lambda address: self.loop.run(self._hang_up(address))))
        return self.wans[-1]

    async def _end(self) -> None:
        """What was accepted last is still on its way to its gate when nobody listens any more."""
        for _ in range(3):
            await self._hang_up("")
            if going := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(going, timeout=0.5)

    async def _hang_up(self, peer: str) -> None:
        for gate in (*self.proxies, *self.links):
            gate.hang_up(peer)

    def heal(self) -> None:
        """Everything goes through again."""
        self.weather.share = 0.0
        everything: list[Gate | WanLink] = [*self.proxies, *self.links, *self.wans]
        for one in everything:
            if one.mode != "through":
                one.switch("through")

    def puts(self) -> list[Put]:
        return sorted((put for proxy in self.proxies for put in proxy.puts), key=lambda put: put.begun)

    def looks(self) -> list[Look]:
        return sorted((one for proxy in self.proxies for one in proxy.looks), key=lambda one: one.begun)

    def close(self) -> None:
        for gate in (*self.proxies, *self.links):
            gate.switch("refuse")
        for wan in self.wans:
            wan.close()
        self.loop.run(self._end())
        self.loop.close()
