"""Pushes that somebody tells of: each becomes a run of its tag, but two of a tag never wait at once.

A run that has not begun to look will see whatever is pushed before it does. Behind one that has begun, one
more is enough: it begins when that one has ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from mirror.ledger import scripts
from mirror.ledger.beginnings import Beginnings
from mirror.ledger.conflicts import agreement
from mirror.ledger.keys import Client, Keys
from mirror.spec import Lane, MirrorSpec

LANE: Lane = "release"
KEEP_S = 86400
"""How long the runs of a tag are remembered after its last push: one that is open for longer has another
begin beside it, which does no harm."""
DELIVERED_S = 86400
"""How long a delivery is remembered, so that a copy of it is known as one."""
MOST_DELIVERED = 10_000
"""Of each webhook: the last so many."""

How = Literal["begins", "behind", "waits", "ours"]

# A run has begun to look from before it asks for a list. Where the ledger says that we put this very digest
# there, that all sides have it and that no run of the tag is open, nobody has pushed anything.
_ASK = (
    f"local function create_run(KEYS, ARGV)\n{scripts.CREATE_RUN}\nend\n"
    """
-- KEYS the tag's runs, claims of the side that was pushed to, what the sides have agreed on, CREATE_RUN's
-- ARGV the tag, the digest, how it would stand if agreed on, seconds to keep, CREATE_RUN's
-- {'begins' | 'behind' | 'waits', run}; {'ours'}; {}: the run's id is taken
local root = ARGV[6]
local function open_of(run)
  if not run then return nil end
  local r = redis.call('HMGET', root .. run, 'state', 'listed', 'looks')
  if r[1] == 'open' then return {run = run, has_begun = r[2] == '1' or r[3] == '1'} end
end
local held = redis.call('HMGET', KEYS[1], 'run', 'behind')
local first, second = open_of(held[1]), open_of(held[2])
for _, one in pairs({first, second}) do
  if not one.has_begun then return {'waits', one.run} end
end
local last = second or first
if not last and ARGV[2] ~= '' and redis.call('HGET', KEYS[3], ARGV[1]) == ARGV[3] then
  local claim = redis.call('HGET', KEYS[2], ARGV[1])
  if claim and string.match(claim, '^%d+ (%S+) ') == ARGV[2] then return {'ours'} end
end
local run = create_run({unpack(KEYS, 4)}, {unpack(ARGV, 5)})
if not run then return {} end
redis.call('DEL', KEYS[1])
if last then
  redis.call('HSET', KEYS[1], 'run', last.run, 'behind', run)
  redis.call('HSET', root .. run, 'after', last.run)
  redis.call('HSET', root .. last.run, 'followed_by', run)
else
  redis.call('HSET', KEYS[1], 'run', run)
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return {last and 'behind' or 'begins', run}
"""
)

_LOOK = """
-- KEYS run; ARGV root of runs: 1 where the run may ask for its list; what is pushed from now on comes behind
local r = redis.call('HMGET', KEYS[1], 'state', 'after')
if r[2] and redis.call('HGET', ARGV[1] .. r[2], 'state') == 'open' then return 0 end
if r[1] then redis.call('HSET', KEYS[1], 'looks', '1') end
return 1
"""

_REMEMBER = (
    scripts.NOW
    + """
-- KEYS delivered; ARGV seconds to keep, most, deliveries
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], 'NX', now, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What became of a push."""

    how: How
    """``begins``: a run of its own, about which a message is to be sent; ``behind``: one that begins when
    the tag's run before it has ended; ``waits``: one that waits already; ``ours``: nobody pushed, we did."""
    run: str = ""


class Pushes:
    """One process's way of telling the fleet."""

    def __init__(self, client: Client, keys: Keys, beginnings: Beginnings) -> None:
        self._redis, self._keys, self._beginnings = client, keys, beginnings
        self._ask, self._remember = client.register_script(_ASK), client.register_script(_REMEMBER)
        self._look = client.register_script(_LOOK)

    def ask(self, spec: MirrorSpec, tag: str = "", side: str = "", digest: str = "") -> Asked:
        """Have the terms run in the release lane, once for all that is pushed before it looks.

        ``tag`` is the one that the terms are about, else all; of a two-way mirror ``side`` is the repository
        that was pushed to, and ``digest`` what is there now, where that is known.
        """
        is_known = spec.is_two_way and bool(tag and digest)
        terms = sha256(json.dumps(spec.document(), sort_keys=True).encode()).hexdigest()
        own = [self._keys.pushed(terms), self._keys.newest(side), self._keys.agreed(spec.name)]
        words = [tag, digest if is_known else "", agreement(spec, digest) if is_known else "", KEEP_S]
        while True:
            proposal = self._beginnings.propose(spec, LANE, joins=False)
            answer = self._ask([*own, *proposal.keys], [*words, *proposal.words])
            if answer:
                how, *run = (word.decode() for word in answer)
                return Asked(how, *run)

    def look(self, run: str) -> bool:
        """Have the run begin to look, unless it is behind another one of its tag that has not ended.

        To be asked before anything is listed: what is pushed from then on may be missing in the list.
        """
        return bool(self._look([self._keys.run(run)], [self._keys.run_root]))

    def follower(self, run: str) -> str | None:
        """The run that waited for this one to end, once it has."""
        state, behind = self._redis.hmget(self._keys.run(run), ["state", "followed_by"])
        return behind.decode() if behind and state != b"open" else None

    def delivered(self, webhook: str, deliveries: Sequence[str]) -> set[str]:
        """Those of the deliveries that were dealt with before."""
        if not deliveries:
            return set()
        scores = self._redis.zmscore(self._keys.delivered(webhook), list(deliveries))
        return {one for one, score in zip(deliveries, scores, strict=True) if score is not None}

    def remember(self, webhook: str, deliveries: Iterable[str]) -> None:
        """They are dealt with: to be called when all that follows from them is in the ledger."""
        if words := list(deliveries):
            self._remember([self._keys.delivered(webhook)], [DELIVERED_S, MOST_DELIVERED, *words])
