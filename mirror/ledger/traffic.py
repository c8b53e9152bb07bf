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

import redis

from mirror.ledger.keys import Client, Keys
from mirror.ledger.totals import COUNT, counts, series

FLUSH_S = 5.0
KEEP_S = 3600
"""How long it is known which flush of a process was the last: longer than one is tried again."""

_TELL = (
    COUNT
    + """
-- KEYS totals, told; ARGV number of the flush, seconds to keep it, counts, (series, Unix ms) ...
if tonumber(redis.call('GET', KEYS[2]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])
count(KEYS[1], ARGV[3])
for i = 4, #ARGV, 2 do
  local field = bounded_series(KEYS[1], ARGV[i])
  local held = tonumber(redis.call('HGET', KEYS[1], field) or 0)
  if tonumber(ARGV[i + 1]) > held then redis.call('HSET', KEYS[1], field, ARGV[i + 1]) end
end
return 1
"""
)


class Traffic:
    """What this process asked registries since its last flush. Thread-safe."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._keys = keys
        self._process = secrets.token_hex(8)
        self._tell = client.register_script(_TELL)
        self._lock, self._telling = threading.Lock(), threading.Lock()
        self._counts: Counter[str] = Counter()
        self._met: dict[str, int] = {}
        self._flushes = 0
        self._unsure: tuple[list[str], list[str | int]] | None = None
        """A flush that may or may not have arrived."""
        self._teller: threading.Thread | None = None

    def met(self, host: str, method: str, kind: str, status: int | None) -> None:
        """One request was answered so; None: it was not answered at all."""
        asked = series("requests", registry=host, method=method, kind=kind, status=_class_of(status))
        fared = "failure" if status is None or status >= 500 else "success"
        with self._lock:
            self._counts[asked] += 1
            self._met[series("met", registry=host, fared=fared)] = int(time.time() * 1000)
            if self._teller is None:
                self._teller = threading.Thread(target=self._tell_on, name="traffic", daemon=True)
                self._teller.start()

    def flush(self) -> None:
        """Tell what there is; where Redis is away it is kept and told with a later flush."""
        with self._telling, contextlib.suppress(redis.RedisError):
            if self._unsure is not None:
                self._tell(*self._unsure)
                self._unsure = None
            with self._lock:
                asked, self._counts = self._counts, Counter()
                met, self._met = self._met, {}
            if asked:
                self._flushes += 1
                words: list[str | int] = [self._flushes, KEEP_S, counts(asked)]
                words += [part for one in met.items() for part in one]
                names = [self._keys.totals, self._keys.told(self._process)]
                self._unsure = names, words
                self._tell(names, words)
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
