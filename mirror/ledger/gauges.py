"""How the fleet stands at this moment, for whoever watches it: read only, and never tag by tag."""

from __future__ import annotations

from dataclasses import dataclass, field

import redis

from mirror.ledger.keys import Client, Keys
from mirror.ledger.totals import Told

HEARTBEAT_S = 60
"""A worker not heard of for this long is not counted as living."""
MOST_RUNS = 200
"""Open runs that are looked at one by one, the oldest first; the rest are only counted."""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """One run that has not ended."""

    mirror: str
    lane: str
    state: str
    """``active``, ``paused``, or ``waiting``: something of it waits for a time that is to come."""
    started_s: float
    """Unix time."""


@dataclass(slots=True)
class Facts:
    """What was read at one moment."""

    now_s: float
    """The server's clock in Unix time."""
    told: Told
    workers: dict[str, list[float]] = field(default_factory=dict)
    """By region: when each worker was last heard of, in Unix time."""
    runs_open: int = 0
    runs: list[OpenRun] = field(default_factory=list)
    """The oldest MOST_RUNS of them."""
    parked: int = 0
    """Runs and batches that wait in the ledger for a time that is to come."""

    def alive(self, region: str) -> int:
        """Workers of the region that were heard of in the last minute."""
        return sum(at > self.now_s - HEARTBEAT_S for at in self.workers.get(region, ()))


class Gauges:
    """The ledger's answers to a scrape. What they cost depends on workers and open runs, never on tags."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys

    def read(self) -> Facts:
        """Two exchanges; raises LedgerError."""
        keys, pipe = self._keys, self._redis.pipeline(transaction=False)
        pipe.time().hgetall(keys.totals).zrange(keys.workers, 0, -1, withscores=True)
        pipe.zcard(keys.underway).zrange(keys.underway, 0, MOST_RUNS - 1, withscores=True).zcard(keys.parked)
        (seconds, micros), totals, workers, runs_open, oldest, parked = pipe.execute()
        facts = Facts(seconds + micros / 1e6, Told.parse(totals), runs_open=runs_open, parked=parked)
        for member, at in workers:
            facts.workers.setdefault(member.decode().partition("\n")[0], []).append(at)
        facts.runs = self._runs([(run.decode(), at) for run, at in oldest], facts.now_s)
        return facts

    def memory(self) -> tuple[int, int] | None:
        """Bytes that the server holds, and the most that it may (0: no limit).

        None where the user may not ask (INFO is one of the commands that an ACL calls dangerous).
        """
        try:
            told = self._redis.info("memory")
        except redis.ResponseError:
            return None
        return int(told["used_memory"]), int(told.get("maxmemory", 0))

    def _runs(self, oldest: list[tuple[str, float]], now_s: float) -> list[OpenRun]:
        pipe = self._redis.pipeline(transaction=False)
        for run, _ in oldest:
            pipe.hmget(self._keys.run(run), "known_as", "mirror", "lane", "paused", "waits_until")
        answers = pipe.execute() if oldest else []
        return [
            OpenRun((known_as or mirror).decode(), lane.decode(), _state(paused, until, now_s), started)
            for (_, started), (known_as, mirror, lane, paused, until) in zip(oldest, answers, strict=True)
            if mirror and lane
        ]


def _state(paused: bytes | None, until: bytes | None, now_s: float) -> str:
    if paused:
        return "paused"
    return "waiting" if until and float(until) > now_s else "active"
