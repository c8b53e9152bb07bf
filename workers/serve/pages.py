"""The status page as it is served: made when it is asked for, and then for everybody for some seconds."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from workers.page.render import DOCUMENT, FEED, INDEX, SCHEMA, TYPES, policy
from workers.serve.seldom import Seldom

FRESH_S = 5.0
"""For so long nobody has it made again."""
STALE_S = 300.0
"""For so long an old page is served where a new one cannot be made; it says of when it is."""
WAIT_S = 3.0
"""For so long a request waits for one that is being made."""
Files = Mapping[str, bytes]

logger = logging.getLogger(__name__)


class Pages:
    """The files of the page, for one event loop: one thread makes them, whoever else asks holds none."""

    def __init__(
        self,
        make: Callable[[], Files],
        away: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``make`` raises one of ``away`` where it cannot be made now."""
        self._make, self._away, self._clock = make, away, clock
        self._files: Files | None = None
        self._made = self._failed = -math.inf
        self._making: asyncio.Task[None] | None = None
        self._seldom = Seldom(logger)

    async def files(self) -> Files | None:
        """None where there is no page, or none that is young enough.

        Whoever begins to make it waits for it, WAIT_S at most. So do the others while there is none, but not
        where the last attempt failed.
        """
        begins = self._making is None and self._clock() - max(self._made, self._failed) >= FRESH_S
        if begins:
            self._making = asyncio.create_task(self._make_anew())
        may_come = self._young() is None and self._failed <= self._made
        if self._making and (begins or may_come):
            await asyncio.wait({self._making}, timeout=WAIT_S)
        return self._young()

    async def _make_anew(self) -> None:
        try:
            self._files = await run_in_threadpool(self._make)
            self._made = self._clock()
        except self._away as error:
            self._failed = self._clock()
            self._seldom.say("page", f"the status page cannot be made: {error}")
        except Exception:
            self._failed = self._clock()
            logger.exception("the status page cannot be made")
        finally:
            self._making = None

    def _young(self) -> Files | None:
        return self._files if self._clock() - self._made < STALE_S else None


def routes(pages: Pages) -> Iterable[BaseRoute]:
    """The page at ``/``, and its other files beside it."""

    async def file(request: Request) -> Response:
        badge = request.path_params.get("badge")
        name = f"badges/{quote(badge, safe='')}.svg" if badge else request.url.path.lstrip("/") or INDEX
        files = await pages.files()
        if files is None:
            return PlainTextResponse("the page cannot be made now\n", 503, {"Retry-After": "5"})
        if name not in files:
            return PlainTextResponse("there is no such mirror\n", 404)
        return Response(files[name], headers=_headers(name))

    for path in ("/", f"/{INDEX}", f"/{DOCUMENT}", f"/{SCHEMA}", f"/{FEED}", "/badges/{badge}.svg"):
        yield Route(path, file, methods=["GET"])


def _headers(name: str) -> dict[str, str]:
    headers = {
        "Content-Type": TYPES[name.rpartition(".")[2]],
        "Cache-Control": f"public, max-age={FRESH_S:.0f}",
    }
    if name == INDEX:
        headers["Content-Security-Policy"] = f"{policy()}; frame-ancestors 'none'"
    return headers
