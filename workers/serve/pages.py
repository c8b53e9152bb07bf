"""The status page as it is served: made when it is asked for, and then for everybody for some seconds."""

from __future__ import annotations

import logging
import threading
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
Files = Mapping[str, bytes]

logger = logging.getLogger(__name__)


class Pages:
    """The files of the page. Thread-safe: one of those who ask makes it, the others are given the old one."""

    def __init__(
        self,
        make: Callable[[], Files],
        away: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``make`` raises one of ``away`` where it cannot be made now."""
        self._make, self._away, self._clock = make, away, clock
        self._files: Files | None = None
        self._made = 0.0
        self._lock = threading.Lock()
        self._seldom = Seldom(logger)

    def files(self) -> Files | None:
        """None where there is no page, or none that is young enough."""
        has_one = self._files is not None
        if has_one and self._clock() - self._made < FRESH_S:
            return self._files
        if not self._lock.acquire(blocking=not has_one):
            return self._young()
        try:
            if self._files is None or self._clock() - self._made >= FRESH_S:
                self._files, self._made = self._make(), self._clock()
        except self._away as error:
            self._seldom.say("page", f"the status page cannot be made: {error}")
            return self._young()
        finally:
            self._lock.release()
        return self._files

    def _young(self) -> Files | None:
        return self._files if self._clock() - self._made < STALE_S else None


def routes(pages: Pages) -> Iterable[BaseRoute]:
    """The page at ``/``, and its other files beside it."""

    async def file(request: Request) -> Response:
        badge = request.path_params.get("badge")
        name = f"badges/{quote(badge, safe='')}.svg" if badge else request.url.path.lstrip("/") or INDEX
        files = await run_in_threadpool(pages.files)
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
