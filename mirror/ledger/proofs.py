"""What targets were seen to hold under their tags: a mirror with ``trust_ledger_for`` does not ask again.

A proof is void as soon as a run claims the tag for anything else, and while one takes its move back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mirror.ledger import claim_scripts as scripts
from mirror.ledger.keys import Client, Keys

Seen = tuple[str, str, float]
"""Tag, digest and when it was asked for, in Unix time of the server."""


class Proofs:
    """By target repository and tag; an exchange for each repository."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys

    def known(self, repository: str, wanted: Mapping[str, str], since: float) -> set[str]:
        """Those of the tags that were seen there with the digest that is ``wanted``, not before ``since``."""
        if not wanted:
            return set()
        rows: list[bytes | None] = self._redis.hmget(self._keys.proved(repository), list(wanted))
        return {
            tag
            for (tag, digest), row in zip(wanted.items(), rows, strict=True)
            if row is not None and _is_fresh(row.decode(), digest, since)
        }

    def keep(self, repository: str, seen: Iterable[Seen], seconds: int, on: Client) -> None:
        """Remember what was seen, together with what else is ``on`` its way; claims go before it."""
        if words := [word for one in seen for word in one]:
            names = self._keys.newest(repository), self._keys.proved(repository)
            on.eval(scripts.PROVE, len(names), *names, seconds, *words)

    def drop(self, repository: str, tags: Iterable[str]) -> None:
        """They were seen to be otherwise."""
        if names := list(tags):
            self._redis.hdel(self._keys.proved(repository), *names)


def _is_fresh(row: str, digest: str, since: float) -> bool:
    held, _, at = row.partition(" ")
    return held == digest and float(at) >= since
