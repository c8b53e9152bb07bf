"""Which workers live: each says so by its heartbeat, whatever it is doing."""

from __future__ import annotations

from mirror.ledger.gauges import HEARTBEAT_S
from mirror.ledger.keys import Client, Keys


class Workforce:
    """By region and worker, on the server's clock."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys

    def beat(self, region: str, worker: str) -> None:
        """Say that a worker of a region lives."""
        now = self._now()
        self._redis.zadd(self._keys.workers, {f"{region}\n{worker}": now})
        self._redis.zremrangebyscore(self._keys.workers, "-inf", now - 10 * HEARTBEAT_S)

    def leave(self, region: str, worker: str) -> None:
        """Say that a worker is gone."""
        self._redis.zrem(self._keys.workers, f"{region}\n{worker}")

    def live_regions(self) -> set[str]:
        """Regions with a worker that was heard of in the last minute."""
        members = self._redis.zrangebyscore(self._keys.workers, self._now() - HEARTBEAT_S, "+inf")
        return {member.decode().partition("\n")[0] for member in members}

    def _now(self) -> float:
        seconds, micros = self._redis.time()
        return float(seconds + micros / 1e6)
