"""Deep passes: reading every byte that a verifying mirror's targets hold, over as many runs as that takes.

A pass begins with the first run that reads and ends with a run that left nothing unread. What was read, and
when, is kept by content, in one sorted set for all; runs on the same terms are of one pass, and pay together
for what was read beyond the bytes of one run. A sample is a pass of its own: other tags are in the next one.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from mirror.ledger.keys import Client, Keys
from mirror.ledger.scripts import NOW
from mirror.report import DeepReport, FoundReport
from mirror.spec import MirrorSpec

PASS_S = 90 * 86400
"""A pass that takes longer begins anew, and debts are forgotten."""
MOST_READ = 500_000
"""Contents of which it is remembered when they were read: about 100 bytes each."""
Place = tuple[str, str, str]
"""(host, repository, digest)."""
_WRONG = "!"
"""How the members end that say that a content was read and is not what it should be."""

_BEGIN = (
    NOW
    + """
-- KEYS pass, run; ARGV seconds to keep it, whether the run is a pass of its own
local began = redis.call('HGET', KEYS[2], 'pass_began')
if began or redis.call('EXISTS', KEYS[2]) == 0 then return began or string.format('%.3f', now) end
began = redis.call('HGET', KEYS[1], 'began')
if ARGV[2] == '1' or not began or now - began > tonumber(ARGV[1]) then
  began = string.format('%.3f', now)
  if ARGV[2] ~= '1' then
    redis.call('HSET', KEYS[1], 'began', began)
    redis.call('EXPIRE', KEYS[1], ARGV[1])
  end
end
redis.call('HSET', KEYS[2], 'pass_began', began)
return began
"""
)

# Whatever its size, the first content that a run comes to is read: a layer is hashed in one go or not at all.
# What it took beyond the run's bytes the next runs have less, from when it was read: else whoever is killed
# meanwhile would have them pay for what nobody has read.
_RESERVE = """
-- KEYS run, pass; ARGV bytes, most of all
local size, most = tonumber(ARGV[1]), tonumber(ARGV[2])
if most > 0 then
  local held = redis.call('HMGET', KEYS[1], 'read_bytes', 'read_paid')
  local paid = tonumber(held[2] or -1)
  if paid < 0 then
    paid = math.min(most, tonumber(redis.call('HGET', KEYS[2], 'owed') or 0))
    if paid > 0 then redis.call('HINCRBY', KEYS[2], 'owed', -paid) end
    redis.call('HSET', KEYS[1], 'read_paid', paid)
  end
  local spent = tonumber(held[1] or 0) + paid
  if spent > 0 and spent + size > most then
    redis.call('HSET', KEYS[1], 'read_short', '1')
    return 0
  end
end
redis.call('HINCRBY', KEYS[1], 'read_bytes', size)
return 1
"""

_NOTE_READ = (
    NOW
    + """
-- KEYS read; ARGV member, its opposite, most
redis.call('ZREM', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - tonumber(ARGV[3]))
return 1
"""
)

_TURN = (
    NOW
    + """
-- KEYS pace; ARGV bytes, bytes a second
local at = math.max(now, tonumber(redis.call('GET', KEYS[1]) or 0)) + ARGV[1] / ARGV[2]
redis.call('SET', KEYS[1], string.format('%.6f', at), 'EX', math.ceil(at - now) + 60)
return string.format('%.6f', at - now)
"""
)
Known = Literal["unread", "read", "wrong"]


def pass_of(spec: MirrorSpec) -> str:
    """The name of the passes of all runs on these terms, whatever they may read and how fast."""
    told = spec.document()
    for name in ("kind", "verification", "name", "ad_hoc"):
        told.pop(name, None)
    terms = sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"{spec.mirror}:{terms[:12]}"


@dataclass(frozen=True, slots=True)
class Pass:
    """What one run has to know of the pass that it is of."""

    run: str
    name: str
    since: float
    """Unix time: what was read later is read."""
    most_bytes: int
    """... that the run may read, 0: any number."""
    repairs: bool
    """The run is about what was found wrong, in whatever pass."""


class Passes:
    """One process's way to them."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self._redis, self._keys = client, keys
        script = client.register_script
        self._begin, self._turn = script(_BEGIN), script(_TURN)
        self._reserve = script(_RESERVE)

    def of(self, run: str, spec: MirrorSpec) -> Pass:
        """The pass that the run is of, which begins now if none is under way; the first answer stays.

        ``spec``: the run's.
        """
        name, how = pass_of(spec), spec.verification
        own = spec.kind == "repair" or how is None or how.sample > 0
        since = self._begin([self._keys.deep_pass(name), self._keys.run(run)], [PASS_S, int(own)])
        return Pass(run, name, float(since), how.most_bytes if how else 0, spec.kind == "repair")

    def known(self, one: Pass, places: Sequence[Place]) -> list[Known]:
        """What is known of contents since the pass began."""
        if not places:
            return []
        members = [_member(place) for place in places]
        scores = self._redis.zmscore(self._keys.read, [*members, *(name + _WRONG for name in members)])
        read = [score is not None and score >= one.since for score in scores[: len(places)]]
        since = 0.0 if one.repairs else one.since
        wrong = [score is not None and score >= since for score in scores[len(places) :]]
        pairs = zip(read, wrong, strict=True)
        return ["wrong" if is_wrong else ("read" if is_read else "unread") for is_read, is_wrong in pairs]

    def note(
        self, run: str, place: Place, size: int, *, is_wrong: bool, reserved: Pass | None = None
    ) -> None:
        """It was read just now, by that run. Beyond MOST_READ the oldest are forgotten.

        ``reserved``: the pass in which its bytes were; what they are beyond a run's the next runs pay.
        """
        member = _member(place)
        names = (member + _WRONG, member) if is_wrong else (member, member + _WRONG)
        pipe = self._redis.pipeline(transaction=False)
        pipe.eval(_NOTE_READ, 1, self._keys.read, *names, MOST_READ)
        pipe.hincrby(self._keys.run(run), "hashed_bytes", size)
        if reserved and 0 < reserved.most_bytes < size:
            key = self._keys.deep_pass(reserved.name)
            pipe.hincrby(key, "owed", size - reserved.most_bytes)
            pipe.expire(key, PASS_S)
        pipe.execute()

    def forget(self, places: Sequence[Place]) -> None:
        """They are not there any more: what comes in their place is something else."""
        members = [_member(place) for place in places]
        if members:
            self._redis.zrem(self._keys.read, *members, *(name + _WRONG for name in members))

    def reserve(self, one: Pass, size: int) -> bool:
        """Whether the run may read so many bytes more; else it stops short of the pass' end."""
        keys = [self._keys.run(one.run), self._keys.deep_pass(one.name)]
        return bool(self._reserve(keys, [size, one.most_bytes]))

    def give_back(self, one: Pass, size: int) -> None:
        """What could not be read must not keep others from being read in this run."""
        self._redis.hincrby(self._keys.run(one.run), "read_bytes", -size)

    def take_turn(self, run: str, size: int, bytes_per_s: int) -> float:
        """Count bytes that were read; how many seconds the run's workers together are ahead of the rate."""
        return float(self._turn([self._keys.deep_pace(run)], [size, bytes_per_s]))


def deep_of(row: Mapping[str, str], found: Sequence[FoundReport]) -> DeepReport | None:
    """How far the pass is that a run is of, from the run's fields; None where it read nothing yet."""
    if "pass_began" not in row:
        return None
    is_whole = row["state"] in {"done", "failed"} and not row.get("error") and "read_short" not in row
    return DeepReport(
        began_s=float(row["pass_began"]),
        read=sum(one.read for one in found),
        tags=int(row["tags"]) * len(found),
        bytes=int(row.get("hashed_bytes", 0)),
        is_over=is_whole,
    )


def _member(place: Place) -> str:
    return urlsafe_b64encode(sha256("\n".join(place).encode()).digest()[:12]).decode()
