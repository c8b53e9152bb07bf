"""How far each receiver of notifications is: what it was told last, what failed, how much it was told lately.

Whoever tells a receiver has its lease, and moves its standing on by compare-and-set: a process that is
killed in between leaves it as it was, and the next one tells it again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mirror.ledger.events import FIRST
from mirror.ledger.keys import Client, Keys
from mirror.ledger.newer import own_fields
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
    written: str = field(default="", compare=False, repr=False)
    """What the ledger has of it: what it is compared with when it is moved on."""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        values = asdict(self)
        del values["written"]
        return values

    @classmethod
    def parse(cls, text: str) -> Standing:
        """From what is in the ledger."""
        values = own_fields(cls, json.loads(text))
        return cls(**{**values, "sent": tuple(values.get("sent") or ()), "written": text})


class Receivers:
    """One fleet's."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._put = client.register_script(_PUT)

    def meet(self, names: Iterable[str]) -> None:
        """These are receivers, and are told what happens from now on; who is one already stays as it is."""
        if not (new := list(names)):
            return
        last = self._redis.xrevrange(self._keys.events, count=1)
        cursor, number = (last[0][0].decode(), int(last[0][1][b"number"])) if last else (FIRST, 0)
        text = json.dumps(Standing(cursor, number).document())
        pipe = self._redis.pipeline(transaction=False)
        for name in new:
            pipe.hsetnx(self._keys.receivers, name, text)
        pipe.execute()

    def keep_only(self, names: Iterable[str]) -> None:
        """All others are forgotten: should one come back, it begins anew."""
        gone = {name.decode() for name in self._redis.hkeys(self._keys.receivers)} - set(names)
        if gone:
            self._redis.hdel(self._keys.receivers, *gone)

    def standings(self) -> dict[str, Standing]:
        """Of all receivers that were ever met."""
        rows = self._redis.hgetall(self._keys.receivers)
        return {name.decode(): Standing.parse(text.decode()) for name, text in rows.items()}

    def last_event(self) -> str:
        """The id of the last event."""
        found = self._redis.xrevrange(self._keys.events, count=1)
        return found[0][0].decode() if found else FIRST

    def standing(self, name: str) -> Standing | None:
        """None: nobody has met it."""
        text = self._redis.hget(self._keys.receivers, name)
        return Standing.parse(text.decode()) if text else None

    def put(self, name: str, before: Standing, now: Standing, counted: Mapping[str, int]) -> Standing | None:
        """Move a standing on and count, in one step; as it is then. None where it is not as ``before``."""
        text = json.dumps(now.document())
        words = [name, before.written, text, counts(counted)]
        moved = self._put([self._keys.receivers, self._keys.totals], words)
        return replace(now, written=text) if moved else None
