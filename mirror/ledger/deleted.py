"""Deletions on a side of a two-way mirror that the others are to follow: since when, and on which sides.

Which sides lack the tag is kept so that one which has it again is known: what it has is a push, although its
digest is the one that all had.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from mirror.ledger.keys import Client, Keys
from mirror.ledger.values import Merged, Resolved
from mirror.spec import MirrorSpec

PAGE = 500

LACKS = """
-- KEYS deleted; ARGV tag, side: it lacks the tag from now on, because we have deleted it there
local held = redis.call('HGET', KEYS[1], ARGV[1])
if not held then return 0 end
local row = cjson.decode(held)
for _, side in ipairs(row[5]) do
  if side == ARGV[2] then return 0 end
end
table.insert(row[5], ARGV[2])
row[6] = row[6] .. ARGV[2] .. ' '
return redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(row))
"""


@dataclass(frozen=True, slots=True)
class Missed:
    """A tag that sides have deleted and others still have."""

    since_s: int
    """Unix time at which it was first seen so."""
    first: str
    """The run that saw that."""
    last: str
    """The run that saw it last."""
    base: str
    """The digest that all had."""
    lacking: tuple[str, ...]
    """Sides that do not have the tag: somebody or a run of ours has deleted it there."""
    ours: tuple[str, ...] = ()
    """Of those: where a run of ours has."""

    @classmethod
    def of(cls, run: str, one: Resolved, merged: Merged, spec: MirrorSpec) -> Missed:
        """As a run has just seen it, which goes on with what was seen before."""
        sides = zip(spec.targets, merged.seen, strict=True)
        lacking = tuple(target.repository for target, digest in sides if digest is None)
        before = cls.parse(merged.read.deleted) if merged.read.deleted else None
        if before is None or before.base != merged.base:
            return cls(int(one.at), run, run, merged.base or "", lacking)
        ours = tuple(side for side in before.ours if side in lacking)
        return cls(before.since_s, before.first, run, before.base, lacking, ours)

    @classmethod
    def parse(cls, text: str) -> Missed:
        since_s, first, last, base, lacking, ours = json.loads(text)
        return cls(int(since_s), first, last, base, tuple(lacking), tuple(ours.split()))

    def row(self) -> str:
        ours = "".join(f"{side} " for side in self.ours)  # in Lua an empty list is an object
        return json.dumps([self.since_s, self.first, self.last, self.base, self.lacking, ours])


class Deleted:
    """Of each two-way mirror a hash by tag; rows are written as batches conclude."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        self._lacks = client.register_script(LACKS)

    def of(self, mirror: str) -> Iterator[tuple[str, Missed]]:
        """In no order of tags."""
        for tag, row in self._redis.hscan_iter(self._keys.deleted(mirror), count=PAGE):
            yield tag.decode(), Missed.parse(row.decode())

    def lacks(self, mirror: str, tag: str, side: str) -> None:
        """Note that a side has it no more, because a run of ours has deleted it there."""
        self._lacks([self._keys.deleted(mirror)], [tag, side])

    def forget(self, mirror: str, tags: list[str]) -> None:
        """For how long sides lack those tags is counted anew."""
        if tags:
            self._redis.hdel(self._keys.deleted(mirror), *tags)

    def forget_all(self, mirror: str) -> None:
        """Nobody follows deletions in this mirror."""
        self._redis.unlink(self._keys.deleted(mirror))
