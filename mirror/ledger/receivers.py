"""How far each receiver of notifications is: what it was told last, what failed, how much it was told lately.

Whoever tells a receiver has its lease, and moves its standing on by compare-and-set: a process that is
killed in between leaves it as it was, and the next one tells it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mirror.ledger.events import FIRST
from mirror.ledger.keys import Client, Keys
from mirror.ledger.totals import COUNT, counts

_PUT = (
    COUNT
    + """
-- KEYS receivers, totals; ARGV receiver, its standing before, its standing now, what is counted
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
count(KEYS[2], ARGV[4])
return 1
"""
)

_MEET = """
-- KEYS receivers, events; ARGV the id before all events, a standing without its id, receivers
-- Who is new is told what happens from now on.
local last = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)[1]
local cursor, number = ARGV[1], 0
if last then
  cursor = last[1]
  for i = 1, #last[2], 2 do
    if last[2][i] == 'number' then number = tonumber(last[2][i + 1]) end
  end
end
for i = 3, #ARGV do
  local standing = cjson.decode(ARGV[2])
  standing.cursor, standing.number = cursor, number
  redis.call('HSETNX', KEYS[1], ARGV[i], cjson.encode(standing))
end
return 1
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """One receiver's; times in Unix time, by the server's clock."""

    cursor: str = FIRST
    """The last event that it needs not be told any more."""
    number: int = 0
    """... and its number."""
    until: str = ""
    """While it is being told: the last event of the message."""
    tries: int = 0
    """Attempts that failed since the last that did not."""
    next_s: float = 0.0
    """It is let be until then."""
    failing_s: float = 0.0
    """Since when nothing reaches it; 0: all is well."""
    error: str = ""
    """Why the last attempt failed; never with a secret in it."""
    sent: tuple[float, ...] = ()
    """When it was told something, within the last hour."""
    is_held: bool = False
    """It has had as many messages as it may have in an hour: what has come since waits."""

    def text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str | bytes) -> Standing:
        values = json.loads(text)
        return cls(**{**values, "sent": tuple(values.get("sent") or ())})


class Receivers:
    """One fleet's."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._put, self._meet = client.register_script(_PUT), client.register_script(_MEET)

    def meet(self, names: Iterable[str]) -> None:
        """These are receivers from now on; who was one before stays where it is."""
        if words := list(names):
            keys = [self._keys.receivers, self._keys.events]
            self._meet(keys, [FIRST, Standing().text(), *words])

    def keep_only(self, names: Iterable[str]) -> None:
        """All others are forgotten: should one come back, it begins anew."""
        gone = {name.decode() for name in self._redis.hkeys(self._keys.receivers)} - set(names)
        if gone:
            self._redis.hdel(self._keys.receivers, *gone)

    def standings(self) -> dict[str, Standing]:
        """Of all receivers that were ever met."""
        rows = self._redis.hgetall(self._keys.receivers)
        return {name.decode(): Standing.parse(text) for name, text in rows.items()}

    def last_event(self) -> str:
        """The id of the last event."""
        found = self._redis.xrevrange(self._keys.events, count=1)
        return found[0][0].decode() if found else FIRST

    def standing(self, name: str) -> Standing | None:
        """None: nobody has met it."""
        text = self._redis.hget(self._keys.receivers, name)
        return Standing.parse(text) if text else None

    def put(self, name: str, before: Standing, now: Standing, counted: Mapping[str, int]) -> bool:
        """Move a standing on and count, in one step; False where it is not what it was before."""
        text: Any = self._redis.hget(self._keys.receivers, name)
        if text is None or Standing.parse(text) != before:
            return False
        words = [name, text, now.text(), counts(counted)]
        return bool(self._put([self._keys.receivers, self._keys.totals], words))
