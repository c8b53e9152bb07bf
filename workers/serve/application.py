"""The HTTP side: which address is answered by what, how much of a request is read, what every answer says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from config.webhooks import Webhook
from workers.serve.hooks import AWAY, Answer, Hooks
from workers.serve.senders import PERSISTENT

MOST_BYTES = 2**19
"""Of a delivery: the largest documented ones, GitHub's, bring a package's README along."""
BODY_S = 10.0
"""How long a sender may take to send its body."""
MOST_AT_ONCE = 256
"""Requests that are being answered; further ones get a 503, probes excepted."""
MOST_UNPROVEN = 32
"""Bodies of one webhook that are being read while nothing proves yet who sends them; for a further one that
is put off which has taken longest."""
PROBES = frozenset({"/healthz", "/readyz"})
TELL_S = 1.0
RETRY_AFTER_S = 5
_SAFE = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

logger = logging.getLogger(__name__)


def application(hooks: Hooks, more: Sequence[BaseRoute] = ()) -> ASGIApp:
    """Webhooks at ``/hooks/NAME``, ``/healthz`` and ``/readyz``; and ``more``, which comes first."""
    routes = [*more, *_health(hooks), *_hook_routes(hooks)]
    app = Starlette(routes=routes, lifespan=_telling(hooks), exception_handlers={404: _not_found})
    app.router.redirect_slashes = False  # to an address with the secret, by a scheme and host that others say
    return _Safe(_Bounded(app))


class _Safe:
    """Headers that every answer has, unless its route says otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, safely if scope["type"] == "http" else send)


class _Bounded:
    """So many requests at once: a crowd of slow ones takes neither all memory nor the place of the probes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._under_way = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
        elif self._under_way >= MOST_AT_ONCE:
            await _response(Answer(503, "too many requests at once; send it again later"))(
                scope, receive, send
            )
        else:
            self._under_way += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._under_way -= 1


def _telling(hooks: Hooks) -> Any:
    """Beside all requests: what was counted goes to the ledger, and once more at the end."""

    async def tell() -> None:
        try:
            await run_in_threadpool(lambda: hooks.tally.tell(hooks.runtime().ledger))
        except AWAY:
            return  # it is told the next time, and that Redis is away is said elsewhere

    async def keep_telling() -> None:
        while True:
            await asyncio.sleep(TELL_S)
            await tell()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await tell()  # so that no delivery waits for what is made once
        teller = asyncio.create_task(keep_telling())
        try:
            yield
        finally:
            teller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await teller
            await tell()

    return lifespan


def _health(hooks: Hooks) -> Iterable[BaseRoute]:
    async def healthz(_: Request) -> Response:
        """That it runs, whatever Redis does: an outage restarts nobody."""
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        """That it can take deliveries."""
        try:
            await run_in_threadpool(hooks.ping)
        except AWAY:
            return _response(Answer(503, "Redis does not answer"))
        return PlainTextResponse("ok\n")

    yield Route("/healthz", healthz, methods=["GET"])
    yield Route("/readyz", readyz, methods=["GET"])


def _hook_routes(hooks: Hooks) -> Iterable[BaseRoute]:
    unproven: dict[str, _Limits] = {}

    async def hook(request: Request) -> Response:
        return _response(await _taken(hooks, unproven, request))

    yield Route("/hooks/{name}", hook, methods=["POST"])
    yield Route("/hooks/{name}/{secret}", hook, methods=["POST"])


_Limits = list[asyncio.Timeout]
"""Of bodies that are being read and that only their end proves, the first of them first."""
_AT_ONCE = 0.0


@contextlib.contextmanager
def _among(limits: _Limits, limit: asyncio.Timeout) -> Iterator[None]:
    """Who is slow makes room for who comes."""
    limits.append(limit)
    if len(limits) > MOST_UNPROVEN:
        slowest = limits.pop(0)
        if not slowest.expired():
            slowest.reschedule(_AT_ONCE)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            limits.remove(limit)


async def _taken(hooks: Hooks, unproven: dict[str, _Limits], request: Request) -> Answer:
    """Nothing of a body is read whose sender could be known to be wrong before."""
    name, secret = request.path_params["name"], request.path_params.get("secret", "")
    headers = dict(request.headers)
    known = await run_in_threadpool(hooks.greet, name, headers, secret)
    if isinstance(known, Answer):
        return known
    others = unproven.setdefault(name, []) if known.is_unproven else []
    body = await _heard(hooks, known.webhook, request, others)
    return body if isinstance(body, Answer) else await run_in_threadpool(hooks.deal, known, headers, body)


async def _heard(hooks: Hooks, webhook: Webhook, request: Request, others: _Limits) -> bytes | Answer:
    limit = asyncio.timeout(BODY_S)
    try:
        async with limit:
            with _among(others, limit):
                return await _body(request, to_its_end=webhook.kind in PERSISTENT)
    except TimeoutError:
        if limit.when() == _AT_ONCE:
            return hooks.unavailable(webhook.name, f"{MOST_UNPROVEN} newer ones are being read")
        return hooks.malformed(webhook, f"the body took longer than {BODY_S:.0f} s", 408)
    except ClientDisconnect:
        return hooks.malformed(webhook, "the body has broken off")
    except _Unfit as unfit:
        return hooks.malformed(webhook, str(unfit), unfit.status)


class _Unfit(Exception):
    """A body that is not read, or not to its end."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


async def _body(request: Request, *, to_its_end: bool) -> bytes:
    """Raise _Unfit where it is no JSON or too large: as soon as that is known, or when it is over.

    ``to_its_end``: of a sender that has to hear the answer; many do not while they are sending.
    """
    unfit = _unfit(request)
    read = bytearray()
    if unfit is None or to_its_end:
        async for part in request.stream():
            if unfit is None and len(read) + len(part) > MOST_BYTES:
                unfit = _too_large()
            if unfit is None:
                read += part
            elif not to_its_end:
                break
    if unfit is not None:
        raise unfit
    return bytes(read)


def _unfit(request: Request) -> _Unfit | None:
    """By what is said of the body before it comes."""
    if not _is_json(request.headers.get("content-type", "")):
        return _Unfit(415, "Content-Type is not application/json")
    length = request.headers.get("content-length", "0")
    return _too_large() if not length.isdigit() or int(length[:20]) > MOST_BYTES else None


def _too_large() -> _Unfit:
    return _Unfit(413, f"the body is larger than {MOST_BYTES} bytes")


def _is_json(content_type: str) -> bool:
    """``application/json``, or with CloudEvents ``application/cloudevents+json``; distribution's own too."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind.startswith("application/") and kind.endswith(("/json", "+json"))


def _response(answer: Answer) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER_S)} if answer.status == 503 else {}
    if answer.status in {408, 413, 415}:
        headers["Connection"] = "close"  # the rest of the body is not waited for
    if not answer.text:
        return Response(status_code=answer.status, headers=headers)
    return PlainTextResponse(f"{answer.text}\n", answer.status, headers)


async def _not_found(_: Request, __: Exception) -> Response:
    return PlainTextResponse("there is nothing here; the page is at /, webhooks are at /hooks/NAME\n", 404)
