"""The HTTP side: which address is answered by what, how much of a request is read, what every answer says."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.serve.hooks import AWAY, Answer, Hooks
from workers.serve.senders import PERSISTENT

MOST_BYTES = 2**19
"""Of a delivery: the largest documented ones, GitHub's, bring a package's README along."""
BODY_S = 10.0
"""How long a sender may take to send its body."""
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
    return _Safe(Starlette(routes=routes, lifespan=_telling(hooks), exception_handlers={404: _not_found}))


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
    async def hook(request: Request) -> Response:
        return _response(await _taken(hooks, request))

    yield Route("/hooks/{name}", hook, methods=["POST"])
    yield Route("/hooks/{name}/{secret}", hook, methods=["POST"])


async def _taken(hooks: Hooks, request: Request) -> Answer:
    """Nothing of a body is read whose sender could be known to be wrong before."""
    name, secret = request.path_params["name"], request.path_params.get("secret", "")
    headers = dict(request.headers)
    known = await run_in_threadpool(hooks.greet, name, headers, secret)
    if isinstance(known, Answer):
        return known
    webhook = known.webhook
    try:
        async with asyncio.timeout(BODY_S):
            body = await _body(request, to_its_end=webhook.kind in PERSISTENT)
    except TimeoutError:
        return hooks.malformed(webhook, f"the body took longer than {BODY_S:.0f} s", 408)
    except ClientDisconnect:
        return hooks.malformed(webhook, "the body has broken off")
    except _Unfit as unfit:
        return hooks.malformed(webhook, str(unfit), unfit.status)
    return await run_in_threadpool(hooks.deal, known, headers, body)


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
