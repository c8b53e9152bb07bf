"""Tags that a target lets nobody move, as it said when somebody tried: for a while nobody tries again."""

from __future__ import annotations

from collections.abc import Mapping

from mirror.ledger.keys import Client, Keys

BELIEVED_S = 3600
"""A rule may be lifted: so often the registry is asked again, by a move."""


class Fixed:
    """By target repository and tag."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys

    def note(self, repository: str, tag: str, digest: str, reason: str) -> None:
        """The registry has just refused to move the tag from that digest."""
        key, now = self._keys.fixed(repository), int(self._redis.time()[0])
        pipe = self._redis.pipeline(transaction=False)
        pipe.hset(key, tag, f"{digest} {now} {reason}").expire(key, BELIEVED_S).execute()

    def known(self, repository: str, held: Mapping[str, str], now: float) -> dict[str, str]:
        """Why not, of those of the tags that were refused a while ago at the digest that they ``held``."""
        if not held:
            return {}
        rows: list[bytes | None] = self._redis.hmget(self._keys.fixed(repository), list(held))
        found: dict[str, str] = {}
        for (tag, digest), row in zip(held.items(), rows, strict=True):
            at, _, rest = (row or b"").decode().partition(" ")
            since, _, reason = rest.partition(" ")
            if at == digest and now - float(since) < BELIEVED_S:
                found[tag] = reason
        return found
