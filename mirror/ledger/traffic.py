"""Requests to registries, counted in each process and told to the ledger every few seconds.

No request waits for that, and what a flush tells counts once, however often it is sent. A process that is
killed takes its last few seconds with it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import redis

from mirror.ledger.keys import Client, Keys
from mirror.ledger.scripts import NOW
from mirror.ledger.totals import COUNT, counts, series

FLUSH_S = 5.0
KEEP_S = 3600
"""How long it is known which flush of a process was the last, and so how long one is tried again."""

_TELL = (
    NOW
    + COUNT
    + """
-- KEYS totals, flushed; ARGV number of the flush, seconds to keep it, counts, (series, ago in ms) ...
if tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
count(KEYS[1], ARGV[3])
for i = 4, #ARGV, 2 do
  local field = bounded_series(KEYS[1], ARGV[i])
  local held = tonumber(redis.call('HGET', KEYS[1], field) or 0)
  local at = math.floor(now * 1000) - tonumber(ARGV[i + 1])
  if at > held then redis.call('HSET', KEYS[1], field, string.format('%.0f', at)) end
end
return 1
"""
)


@dataclass(slots=True)
class _Flush:
    """What is told at a time; times by this process's own clock, which is like no other's."""

    number: int
    asked: Counter[str]
    met: dict[str, float]
    began_s: float = field(default_factory=time.monotonic)

    def words(self) -> list[str | int]:
        """As the script takes it at this moment."""
        now = time.monotonic()
        ages = (part for one, at in self.met.items() for part in (one, int((now - at) * 1000)))
        return [self.number, KEEP_S, counts(self.asked), *ages]


class Traffic:
    """What this process asked registries since its last flush. Thread-safe."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._keys = keys
        self._process = secrets.token_hex(8)
        self._tell = client.register_script(_TELL)
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._counts: Counter[str] = Counter()
        self._met: dict[str, float] = {}
        self._flushes = 0
        self._unsure: _Flush | None = None
        """A flush that may or may not have arrived."""
        self._teller: threading.Thread | None = None

    def met(self, host: str, method: str, kind: str, status: int | None) -> None:
        """One request was answered so; None: it was not answered at all."""
        asked = series("requests", registry=host, method=method, kind=kind, status=_class_of(status))
        fared = "failure" if status is None or status >= 500 else "success"
        with self._lock:
            self._counts[asked] += 1
            self._met[series("met", registry=host, fared=fared)] = time.monotonic()
            if self._teller is None:
                self._teller = threading.Thread(target=self._tell_on, name="traffic", daemon=True)
                self._teller.start()

    def flush(self) -> None:
        """Tell what there is; where Redis is away it is kept and told with a later flush.

        What may have arrived is kept for KEEP_S: after that nobody knows any more whether it has.
        """
        with self._telling, contextlib.suppress(redis.RedisError):
            if self._unsure is not None and time.monotonic() - self._unsure.began_s > KEEP_S:
                self._unsure = None
            self._send()
            with self._lock:
                asked, self._counts = self._counts, Counter()
                met, self._met = self._met, {}
            if asked:
                self._flushes += 1
                self._unsure = _Flush(self._flushes, asked, met)
                self._send()

    def _send(self) -> None:
        if self._unsure is not None:
            self._tell([self._keys.totals, self._keys.flushed(self._process)], self._unsure.words())
            self._unsure = None

    def _tell_on(self) -> None:
        """Until there is nothing to tell, or nobody to tell it to; the next request begins anew."""
        pause = threading.Event()
        while True:
            pause.wait(FLUSH_S)
            self.flush()
            with self._lock:
                if not self._counts or self._unsure is not None:
                    self._teller = None
                    return


def _class_of(status: int | None) -> str:
    return "none" if status is None else f"{status // 100}xx"
