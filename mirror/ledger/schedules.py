"""Schedules: which slots were run, which were missed and why, and which of several beats sends.

A slot is the Unix time at which a mirror's schedule has it run. It is dealt with once, by one script that
creates its run too: two beats that both believe to lead, or one that is killed in between, change nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import redis

from mirror.ledger import lease_scripts, scripts
from mirror.ledger.beginnings import Beginnings
from mirror.ledger.keys import Client, Keys
from mirror.ledger.leases import is_orphaned, new_token
from mirror.ledger.newer import own_fields
from mirror.spec import Lane, MirrorSpec

LEAD_S = 15.0
"""After so long without a word from it another beat takes a beat's place."""
KEEP_S = 400 * 86400
"""How long a schedule that nobody looks after is remembered: longer than the longest usual one, a year."""
KEPT_MISSES = 20
AHEAD_S = 60
"""A server's clock that is set back by less makes no slot of the future: it would be run twice."""
ScheduleRefused = redis.ResponseError
"""Redis answers, and refuses what one schedule asks: one of its keys is of another kind, say."""

Why = Literal["under way", "no beat"]

# Leads: the server's time; else who does.
_LEAD = (
    scripts.NOW
    + """
-- KEYS beat, when a beat was seen last; ARGV token, milliseconds
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, holder} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], tostring(now))
return {1, tostring(now)}
"""
)

# A schedule that is new, or not what it was, begins with its next slot. So does one whose slot is yet to
# come: the server's clock was ahead when it was dealt with.
_LOOK = """
-- KEYS schedule; ARGV cron, its last slot, the latest time that a slot can be of, seconds to keep it
local held = redis.call('HMGET', KEYS[1], 'cron', 'slot')
if held[1] ~= ARGV[1] or not held[2] or tonumber(held[2]) > tonumber(ARGV[3]) then
  redis.call('HSET', KEYS[1], 'cron', ARGV[1], 'slot', ARGV[2])
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
return redis.call('HGET', KEYS[1], 'slot')
"""

# What is scheduled no more begins anew, should it come back: its slots until then are nobody's.
_KEEP_ONLY = """
-- KEYS scheduled; ARGV the root of schedules' keys, seconds to keep it, mirrors that have a schedule
local kept = {}
for i = 3, #ARGV do kept[ARGV[i]] = true end
for _, mirror in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if not kept[mirror] then redis.pcall('HDEL', ARGV[1] .. mirror, 'cron') end
end
redis.call('DEL', KEYS[1])
for mirror in pairs(kept) do redis.call('SADD', KEYS[1], mirror) end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

# What may go wrong is read before the run is created, and the slot is written right after it: a script that
# ends in between would create a run each time that it is tried.
_TAKE = (
    f"local function create_run(KEYS, ARGV)\n{scripts.CREATE_RUN}\nend\n"
    + scripts.NOW
    + """
-- KEYS schedule, its misses, then those of CREATE_RUN
-- ARGV cron, the slot before, slot, first, last and number of the slots in between, how many misses to keep,
--   seconds to keep them, then those of CREATE_RUN
-- {'started', run}; {'missed', the run that is under way}; {'again'}: the id is taken; {}: the slot is.
if redis.call('HGET', KEYS[1], 'cron') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'slot') ~= ARGV[2] then
  return {}
end
local head = redis.call('LINDEX', KEYS[2], 0)
local held = head and cjson.decode(head)
local function miss(first, last, count, why, run)
  if held and run ~= '' and held.run == run then
    held.last_s, held.count = last, held.count + count
    redis.call('LSET', KEYS[2], 0, cjson.encode(held))
  else
    held = {first_s = first, last_s = last, count = count, why = why, run = run}
    redis.call('LPUSH', KEYS[2], cjson.encode(held))
    redis.call('LTRIM', KEYS[2], 0, ARGV[7] - 1)
  end
  redis.call('EXPIRE', KEYS[2], ARGV[8])
  redis.call('HINCRBY', KEYS[1], 'missed', count)
end
local function under_way()
  local last = redis.call('HGET', KEYS[1], 'run')
  if last and redis.call('HGET', ARGV[10] .. last, 'state') == 'open' then return last end
end
local other = under_way()
if not other then
  local run = create_run({unpack(KEYS, 3)}, {unpack(ARGV, 9)})
  if not run then return {'again'} end
  if run ~= ARGV[9] then other = run end
end
redis.call('HSET', KEYS[1], 'slot', ARGV[3])
if tonumber(ARGV[6]) > 0 then miss(tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), 'no beat', '') end
if other then
  miss(tonumber(ARGV[3]), tonumber(ARGV[3]), 1, 'under way', other)
  return {'missed', other}
end
redis.call('HSET', KEYS[1], 'run', ARGV[9], 'run_slot', ARGV[3], 'started', tostring(now))
return {'started', ARGV[9]}
"""
)


@dataclass(frozen=True, slots=True)
class Miss:
    """Slots in a row that were not run, for one reason; times in Unix time."""

    first_s: int
    last_s: int
    count: int
    why: Why
    """``under way``: ``run`` was; ``no beat``: none was there to start it."""
    run: str = ""

    @property
    def reason(self) -> str:
        return f"run {self.run} was under way" if self.run else "no beat was at work"


@dataclass(frozen=True, slots=True)
class ScheduleReport:
    """What became of one mirror's slots; times in Unix time, None where there was none."""

    mirror: str
    slot_s: int | None = None
    """The last one that was dealt with: run or missed, or the one before the schedule was first seen."""
    run: str = ""
    """The last that was started."""
    run_slot_s: int | None = None
    """Its slot."""
    started_s: float | None = None
    missed: int = 0
    """Slots so far."""
    misses: tuple[Miss, ...] = ()
    """The last of them, newest first."""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        misses = [{**asdict(miss), "reason": miss.reason} for miss in self.misses]
        return {**asdict(self), "misses": misses}


@dataclass(frozen=True, slots=True)
class Taken:
    """A slot was dealt with: by this ``run``, which begins, or not, because that one is under way."""

    run: str
    is_started: bool


class Schedules:
    """One fleet's schedules, and which beat sends."""

    def __init__(self, client: Client, keys: Keys, beginnings: Beginnings) -> None:
        self._redis, self._keys, self._beginnings = client, keys, beginnings
        script = client.register_script
        self._lead, self._look, self._take = script(_LEAD), script(_LOOK), script(_TAKE)
        self._keep_only, self._release = script(_KEEP_ONLY), script(lease_scripts.RELEASE)
        self._token = new_token()

    def lead(self) -> float | None:
        """The server's time where this process is the beat that sends, for LEAD_S; None: another one is.

        To be asked more often than that. The place of a dead process of this machine is taken at once.
        """
        keys, words = [self._keys.beat, self._keys.beat_seen], [self._token, int(LEAD_S * 1000)]
        leads, word = self._lead(keys, words)
        if not leads and is_orphaned(word.decode()) and self._release(keys[:1], [word]):
            leads, word = self._lead(keys, words)
        return float(word) if leads else None

    def step_down(self) -> None:
        """Let another beat send at once."""
        self._release([self._keys.beat], [self._token])

    def beat_seen_s(self) -> float | None:
        """When a beat last was the one that sends, in Unix time; None: never."""
        seen = self._redis.get(self._keys.beat_seen)
        return float(seen) if seen else None

    def keep_only(self, mirrors: Iterable[str]) -> None:
        """These mirrors have a schedule, and no others: one that comes back later begins anew."""
        self._keep_only([self._keys.scheduled], [self._keys.schedule(""), KEEP_S, *mirrors])

    def look(self, mirror: str, cron: str, last_slot_s: int, now_s: float) -> int:
        """The slot of the mirror that was dealt with last; ``last_slot_s`` where this schedule is new."""
        words = [cron, last_slot_s, int(now_s) + AHEAD_S, KEEP_S]
        return int(self._look([self._keys.schedule(mirror)], words))

    def take(
        self,
        spec: MirrorSpec,
        lane: Lane,
        cron: str,
        before_s: int,
        slot_s: int,
        between: tuple[int, int, int] = (0, 0, 0),
        name: str = "",
    ) -> Taken | None:
        """Deal with a slot, once: create its run, unless the last one is still under way.

        ``name``: what the schedule is looked after by, where that is not the mirror's name.

        ``before_s`` is the slot that :meth:`look` gave, ``between`` the first, the last and the number of
        those that nobody dealt with: they are noted as missed. None where another beat has done all this.
        """
        own = [key(name or spec.name) for key in (self._keys.schedule, self._keys.misses)]
        words = [cron, before_s, slot_s, *between, KEPT_MISSES, KEEP_S]
        while True:
            proposal = self._beginnings.propose(spec, lane, joins=lane == "backfill")
            answer = self._take([*own, *proposal.keys], [*words, *proposal.words])
            if not answer:
                return None
            if answer[0] != b"again":
                return Taken(answer[1].decode(), answer[0] == b"started")

    def report(self, mirror: str) -> ScheduleReport:
        """What is known of the mirror's slots; of one that no beat has seen, nothing."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hgetall(self._keys.schedule(mirror)).lrange(self._keys.misses(mirror), 0, -1)
        fields, misses = pipe.execute()
        row = {key.decode(): value.decode() for key, value in fields.items()}
        return ScheduleReport(
            mirror,
            slot_s=int(row["slot"]) if "slot" in row else None,
            run=row.get("run", ""),
            run_slot_s=int(row["run_slot"]) if "run_slot" in row else None,
            started_s=float(row["started"]) if "started" in row else None,
            missed=int(row.get("missed", "0")),
            misses=tuple(Miss(**own_fields(Miss, json.loads(miss))) for miss in misses),
        )
