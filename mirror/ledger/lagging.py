"""Which of a mirror's tags are not what they are to be, in which target, since when: a hash of each mirror.

It is the truth about that, whichever runs came later: a row stays until a run finds the tag to be what it is
to be, the tag is deleted there, or a run about all tags has ended without coming across it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mirror.ledger.digests import full, short
from mirror.report import THERE, TagReport
from mirror.spec import MirrorSpec

MOST = 500
"""Rows of a mirror: what comes later is counted. The first ones say for how long something is behind."""
KEEP_S = 400 * 86400
"""From the last row that was written: of a mirror that no fleet file has nobody else drops it."""
_APART = "-"
"""In the place of a digest: nobody has decided what the tag is to be."""
LACKING = frozenset({"failed", "waiting"})
"""States of a tag that is to be something else than it is, once its digest is known."""


@dataclass(frozen=True, slots=True)
class Lag:
    """One tag in one target. Times are Unix times."""

    since_s: float
    seen_s: float
    """When a run last dealt with the tag and did not bring it there."""
    digest: str | None
    """What it is to be; None: its sides moved apart, and nobody has decided."""


@dataclass(slots=True)
class Lagging:
    """What is behind of one mirror."""

    tags: dict[str, dict[str, Lag]] = field(default_factory=dict)
    """By label, then by target as the mirror has it; ``""`` where only some target is known to be behind."""
    more: dict[str, int] = field(default_factory=dict)
    """By target: how many tags are behind there beside these."""

    def put(self, label: str, target: str, lag: Lag) -> None:
        self.tags.setdefault(label, {})[target] = lag

    def without(self, before_s: float) -> Lagging:
        """What has been seen since then."""
        left = Lagging(more=self.more)
        for label, own in self.tags.items():
            for target, lag in own.items():
                if lag.seen_s >= before_s:
                    left.put(label, target, lag)
        return left


def lagging_of(rows: Mapping[bytes, bytes]) -> Lagging:
    """From the hash."""
    found = Lagging()
    for name, row in rows.items():
        label, _, target = name.decode().partition("\n")
        since, *seen, last = row.decode().split(" ")
        if not label:
            found.more[target] = int(last)
            continue
        lag = Lag(float(since), float(*seen or [since]), None if last == _APART else full(last))
        found.put(label, target, lag)
    return found


def row_of(label: str, target: str) -> str:
    """The field of the tag in the target, as the mirror has it."""
    return f"{label}\n{target}"


def found_behind(reports: Iterable[TagReport], spec: MirrorSpec) -> tuple[str, bool]:
    """What NOTE_LAGGING takes of a batch that is being concluded: by target; and whether anything is behind.

    A run that only looks puts nothing behind: what it finds is not what a run has failed to bring.
    """
    found: dict[str, dict[str, list[str | list[str]]]] = {}
    is_any = False
    for report in reports:
        for target in report.targets:
            place = spec.place_of(target.repository)
            own = found.setdefault(place, {"there": [], "behind": [], "left": []})
            to_be = short(report.digest) if report.digest else ""
            if target.state == "held":
                to_be = _APART
            if target.state in THERE:
                own["there"].append(report.label)
            elif to_be and target.state in LACKING | {"held"} and not spec.verifies:
                own["behind"].append([report.label, to_be])
                is_any = True
            else:
                own["left"].append(report.label)
    return json.dumps(found, separators=(",", ":")), is_any


NOTE_LAGGING = """
local function count_more(key, target, run_key, at)
  local field = '\\n' .. target
  local run = redis.call('HMGET', run_key, 'whole', 'started')
  local since, seen, count = string.match(redis.call('HGET', key, field) or '', '^(%d+) (%S+) (%d+)$')
  if not since or (run[1] and tonumber(seen) < tonumber(run[2])) then count = 0 end -- it counts all anew
  redis.call('HSET', key, field, (since or string.format('%d', now)) .. ' ' .. at .. ' ' .. (count + 1))
end
local function note_lagging(key, run_key, text, is_behind)
  if key == '' or (is_behind ~= '1' and redis.call('EXISTS', key) == 0) then return end
  local found, at, gone = cjson.decode(text), string.format('%.3f', now), {}
  for target, own in pairs(found) do
    for _, row in ipairs(own.behind) do
      local field = row[1] .. '\\n' .. target
      local held = redis.call('HGET', key, field)
      if held or redis.call('HLEN', key) < MOST then
        held = held or redis.call('HGET', key, row[1]) -- of an older version, which named no target
        local since = string.match(held or '', '^%d+') or string.format('%d', now)
        redis.call('HSET', key, field, since .. ' ' .. at .. ' ' .. row[2])
      else
        count_more(key, target, run_key, at)
      end
      table.insert(gone, row[1])
    end
    for _, label in ipairs(own.left) do
      local field = label .. '\\n' .. target
      local since, digest = string.match(redis.call('HGET', key, field) or '', '^(%d+) %S+ (%S+)$')
      if since then redis.call('HSET', key, field, since .. ' ' .. at .. ' ' .. digest) end
    end
    for _, label in ipairs(own.there) do
      table.insert(gone, label .. '\\n' .. target)
      table.insert(gone, label)
    end
  end
  if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
  if is_behind == '1' then redis.call('EXPIRE', key, KEEP_S) end
end
""".replace("MOST", str(MOST)).replace("KEEP_S", str(KEEP_S))
"""For scripts that know ``now``: a function of the hash (empty: nothing is noted), the run, and what
:func:`found_behind` says. Where nothing is or was behind it costs one look whether the hash is there."""

DROP_UNSEEN = """
local function drop_unseen(run_key, open_key)
  local run = redis.call('HMGET', run_key, 'whole', 'mirror', 'started', 'unlisted')
  if not run[1] or run[4] then return end
  local key = beside(open_key, 'lagging:' .. run[2])
  local rows = redis.call('HGETALL', key)
  for i = 1, #rows, 2 do
    local seen = string.match(rows[i + 1], '^%d+ (%S+) %S+$')
    if not seen or tonumber(seen) < tonumber(run[3]) then redis.call('HDEL', key, rows[i]) end
  end
end
"""
"""A function for the script that ends runs: what a run about all tags did not come across is not behind."""
