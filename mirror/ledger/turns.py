"""The turn at moving one tag of one target: only one worker has it, and a newer run's claim stands (G5).

Taking the turn claims the tag, and ending it asks for newer claims, each in one exchange.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mirror.ledger import claim_scripts as scripts
from mirror.ledger import leases as of_leases
from mirror.ledger.keys import Client, Keys
from mirror.ledger.leases import Lease, Leases
from mirror.ledger.values import Resolved

Claim = Literal["ours", "newer", "unsure"]
"""``newer``: what a later question to the source found stands. ``unsure``: another digest was claimed after
ours was seen, though asked for earlier: the source has to say which is the newer one."""
_CLAIMS: dict[int, Claim] = {0: "newer", 1: "ours", 2: "unsure"}


@dataclass(slots=True)
class Turn:
    """Held until it is ended; ``claim`` is what became of the tag's claim as the turn began."""

    claim: Claim
    lease: Lease
    repository: str
    one: Resolved
    is_put: bool = False
    """Whether the tag was put, or may have been."""
    is_over: bool = False


class Turns:
    """One process's turns at moving tags, and what was claimed."""

    def __init__(self, client: Client, keys: Keys, leases: Leases) -> None:
        self._redis, self._keys, self._leases = client, keys, leases
        script = client.register_script
        self._claim, self._take, self._end = (
            script(scripts.CLAIM),
            script(scripts.TAKE_TURN),
            script(scripts.END_TURN),
        )
        self._unprove = script(scripts.UNPROVE)

    @contextlib.contextmanager
    def move(self, repository: str, one: Resolved) -> Iterator[Turn]:
        """Wait for the turn at a tag, and claim it for what was resolved."""
        words = _words(one)
        ms = int(of_leases.LEASE_S * 1000)
        claims = self._claims(repository)
        while (
            taken := self._leases.take_with(
                *_place(repository, one.tag),
                lambda key, token: self._take([key, *claims], [token, ms, *words]),
            )
        ) is None:
            time.sleep(of_leases.TURN_WAIT_S)
        turn = Turn(_CLAIMS[int(taken[1])], taken[0], repository, one)
        try:
            yield turn
        finally:
            if not turn.is_over:
                self._leases.release(turn.lease)

    def end(self, turn: Turn, trust_s: int = 0) -> str | None:
        """End the turn, unless a newer run has claimed the tag meanwhile: then the digest it wants there.

        ``trust_s``: how long it is proved that the tag is what the turn has made it.
        """
        keys = [self._leases.key(turn.lease.place, turn.lease.what), *self._claims(turn.repository)]
        tag, generation, digest, _ = _words(turn.one)
        held: bytes | None = self._end(keys, [turn.lease.token, tag, generation, digest, trust_s])
        if held is not None:
            return held.decode().split(" ")[1]
        self._leases.lay_down(turn.lease)
        turn.is_over = True
        return None

    @contextlib.contextmanager
    def take_back(self, repository: str, tag: str) -> Iterator[None]:
        """Wait for the turn at a tag without claiming it."""
        with self._leases.turn(*_place(repository, tag)):
            self._unprove(self._claims(repository), [tag])
            try:
                yield
            finally:
                self._unprove(self._claims(repository), [tag])

    def claim(self, repository: str, one: Resolved, *, sure: bool = False) -> Claim:
        """Claim the tag of a target for what was resolved; ``sure``: the source says it is the newer one."""
        return _CLAIMS[int(self._claim(self._claims(repository), [*_words(one), int(sure)]))]

    def claim_all(self, wanted: Sequence[tuple[str, Resolved]]) -> list[Claim]:
        """The same for tags of several targets, in one exchange; in their order."""
        pipe = self._redis.pipeline(transaction=False)
        for repository, one in wanted:
            self._claim(self._claims(repository), [*_words(one), 0], client=pipe)
        return [_CLAIMS[int(answer)] for answer in pipe.execute()]

    def claimed(self, repository: str, tag: str) -> tuple[int, str]:
        """The generation and digest of the newest claim of the tag; (0, "") if there is none."""
        value = self._redis.hget(self._keys.newest(repository), tag)
        generation, digest, _ = value.decode().split(" ") if value else ("0", "", "")
        return int(generation), digest

    def _claims(self, repository: str) -> tuple[str, str]:
        """Where claims are, and what they make void."""
        return self._keys.newest(repository), self._keys.proved(repository)


def _place(repository: str, tag: str) -> tuple[str, str]:
    return f"flip {repository}", tag


def _words(one: Resolved) -> tuple[str, int, str, float]:
    if one.descriptor is None:
        raise ValueError(f"{one.tag} is not resolved")
    return one.tag, one.generation, one.descriptor.digest, one.at
