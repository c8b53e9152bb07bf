"""Lines of the log that anybody could have us write: one a minute, with how many there were."""

from __future__ import annotations

import logging
import threading
import time

EVERY_S = 60.0


class Seldom:
    """Thread-safe; of each kind of line, whose kinds the caller bounds."""

    def __init__(self, logger: logging.Logger, every_s: float = EVERY_S) -> None:
        self._logger, self._every_s = logger, every_s
        self._said: dict[str, float] = {}
        self._kept: dict[str, int] = {}
        self._lock = threading.Lock()

    def say(self, kind: str, text: str) -> None:
        """Warn of it now, or count it for the next time."""
        with self._lock:
            now = time.monotonic()
            if now - self._said.get(kind, -self._every_s) < self._every_s:
                self._kept[kind] = self._kept.get(kind, 0) + 1
                return
            self._said[kind], kept = now, self._kept.pop(kind, 0)
        more = f" (and {kept} more like it since the last line)" if kept else ""
        self._logger.warning("%s%s", text, more)
