"""What each kind of key in a fleet's Redis takes, and whether it has an end: all counted, some weighed."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mirror.ledger.keys import Keys

EVERY, FEW = 16, 64
"""One key of so many is weighed; of kinds with few keys, which may differ much, all are."""
_KINDS = (
    (re.compile(rb":batch:[^:]+$"), "batch"),
    (re.compile(rb":batch:[^:]+:(\w+)"), "batch: {}"),
    (re.compile(rb":run:[^:]+$"), "run"),
    (re.compile(rb":run:[^:]+:([\w-]+)"), "run: {}"),
    (re.compile(rb":ledger:([\w-]+)"), "{}"),
)


@dataclass(frozen=True, slots=True)
class Kind:
    """All keys of one kind."""

    name: str
    keys: int
    bytes: int
    """Reckoned from those that were weighed."""
    longest_s: int
    """Longest time to live of those that were weighed; -1: some have no end."""


@dataclass(frozen=True, slots=True)
class Held:
    """Batches in one state."""

    batches: int
    tags: int
    bytes: int
    """Of all keys that are theirs alone."""

    @classmethod
    def of(cls, redis: Any, keys: Keys, batches: Sequence[str], regions: Sequence[str]) -> Held:
        own = (keys.batch, keys.tags, keys.outcomes, keys.associates, keys.ended)
        names = [key(batch) for batch in batches for key in own]
        names += [key(b, region) for b in batches for region in regions for key in (keys.due, keys.placed)]
        pipe = redis.pipeline(transaction=False)
        for name in names:
            pipe.memory_usage(name, samples=0)
        size = sum(found or 0 for found in pipe.execute())
        for batch in batches:
            pipe.hget(keys.batch(batch), "tags")
        return cls(len(batches), sum(len(json.loads(tags or b"[]")) for tags in pipe.execute()), size)


def kinds(redis: Any) -> list[Kind]:
    """Every kind, the largest first."""
    counts: dict[str, int] = defaultdict(int)
    weighed: dict[str, list[tuple[int, int]]] = defaultdict(list)
    cursor = 0
    while True:
        cursor, names = redis.scan(cursor, count=5000)
        chosen = []
        for name in names:
            kind = kind_of(name)
            if counts[kind] < FEW or counts[kind] % EVERY == 0:
                chosen.append((kind, name))
            counts[kind] += 1
        for kind, pair in zip((kind for kind, _ in chosen), _weigh(redis, chosen), strict=True):
            weighed[kind].append(pair)
        if not cursor:
            break
    found = [_kind(name, counts[name], weighed[name]) for name in counts]
    return sorted(found, key=lambda kind: -kind.bytes)


def under_way(redis: Any, keys: Keys, runs: Sequence[str], regions: Sequence[str]) -> dict[str, Held]:
    """What batches take that wait for room (``waiting``) and those that are in flight."""
    waiting = [name.decode() for run in runs for name in redis.lrange(keys.queue(run), 0, -1)]
    flying = [name.decode() for run in runs for name in redis.smembers(keys.flight(run))]
    return {
        "waiting": Held.of(redis, keys, waiting, regions),
        "in flight": Held.of(redis, keys, flying, regions),
    }


def kind_of(name: bytes) -> str:
    """``batch: ended`` for ``sealift:ledger:batch:07c…:ended``; ``other`` for Celery's."""
    for pattern, kind in _KINDS:
        if match := pattern.search(name):
            return kind.format(*(group.decode() for group in match.groups()))
    return "other"


def _weigh(redis: Any, chosen: Sequence[tuple[str, bytes]]) -> list[tuple[int, int]]:
    pipe = redis.pipeline(transaction=False)
    for _, name in chosen:
        pipe.memory_usage(name, samples=0).ttl(name)
    answers = pipe.execute()
    return [(size or 0, ttl) for size, ttl in zip(answers[::2], answers[1::2], strict=True)]


def _kind(name: str, keys: int, weighed: Sequence[tuple[int, int]]) -> Kind:
    mean = sum(size for size, _ in weighed) / len(weighed)
    ttls = [ttl for _, ttl in weighed]
    return Kind(name, keys, round(mean * keys), -1 if -1 in ttls else max(ttls))
