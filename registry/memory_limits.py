"""How an in-memory registry limits pulls: as Docker Hub does, by account or else by address."""

from __future__ import annotations

import base64
import threading
import time
from collections import Counter
from collections.abc import Callable

from registry.memory_store import ErrorReply


class PullLimits:
    """So many manifests by GET in a window, told by headers with every GET and HEAD; a HEAD is free.

    Beyond it: 429. A window begins with its first pull.
    """

    def __init__(
        self,
        pulls: int,
        window_s: int = 21_600,
        *,
        retry_after: bool = False,
        address: str = "203.0.113.7",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Count from here.

        ``retry_after``: whether a 429 says when the window ends; ``address``: where anonymous pulls seem to
        come from.
        """
        self.pulls, self.window_s, self.address = pulls, window_s, address
        self.used: Counter[str] = Counter()
        """Pulls in this window by source."""
        self.refused: Counter[str] = Counter()
        """Pulls beyond the limit, by source: what a well-behaved fleet never asks for."""
        self._retry_after, self._clock = retry_after, clock
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def looked(self, authorization: str) -> dict[str, str]:
        """The headers of a HEAD."""
        with self._lock:
            return self._headers(self._current(authorization))

    def pulled(self, authorization: str) -> dict[str, str]:
        """The headers of a GET, which is counted; raises ErrorReply beyond the limit."""
        with self._lock:
            source = self._current(authorization)
            if self.used[source] >= self.pulls:
                self.refused[source] += 1
                headers = self._headers(source)
                if self._retry_after:
                    headers["Retry-After"] = str(round(self._ends[source] - self._clock()))
                raise ErrorReply(429, "TOOMANYREQUESTS", "you have reached your pull rate limit", headers)
            self.use(source)
            return self._headers(source)

    def use(self, source: str, pulls: int = 1) -> None:
        """Count pulls, of this fleet or of somebody else."""
        self._ends.setdefault(source, self._clock() + self.window_s)
        self.used[source] += pulls

    def end_window(self) -> None:
        """Have every window be over now."""
        self.used.clear()
        self._ends.clear()

    def _current(self, authorization: str) -> str:
        source = _account(authorization) or self.address
        if self._clock() >= self._ends.get(source, float("inf")):
            del self._ends[source], self.used[source]
        return source

    def _headers(self, source: str) -> dict[str, str]:
        return {
            "RateLimit-Limit": f"{self.pulls};w={self.window_s}",
            "RateLimit-Remaining": f"{max(0, self.pulls - self.used[source])};w={self.window_s}",
            "Docker-RateLimit-Source": source,
        }


def _account(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return base64.b64decode(token).decode().partition(":")[0] if scheme.lower() == "basic" else ""
