"""What is kept for good about tags: written by the script that concludes their batch, and so once (G6)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass


@dataclass(frozen=True, slots=True)
class Lasting:
    """One field of a hash of the ledger, set, dropped or added to."""

    key: str
    field: str
    value: str
    """Empty: the field is dropped. Without a line break."""
    most: int = 0
    """Beyond 0: ``value`` is added as a line of its own that begins with the server's time (whole seconds of
    Unix time, and a space), and so many of the last lines stay."""
    over: str | None = None
    """Where given, and ``most`` is 0: what must be there (empty: nothing), or the field stays as it is."""
    tied: bool = False
    """Only where what comes before it, back to one that is not tied, has found what must be there."""


def rows(kept: Iterable[Lasting]) -> str:
    """As the script reads them."""
    return json.dumps([astuple(one) for one in kept])


KEEP = """
local function last_lines(text, most)
  local _, breaks = string.gsub(text, '\\n', '')
  for _ = most, breaks do text = string.match(text, '\\n(.*)$') end
  return text
end
local function keep(rows)
  local fits = true
  for _, row in ipairs(cjson.decode(rows)) do
    local key, field, value, most, over, tied = row[1], row[2], row[3], row[4], row[5], row[6]
    fits = (fits or not tied) and (over == cjson.null or (redis.call('HGET', key, field) or '') == over)
    if not fits then
      -- somebody has changed it since it was read
    elseif most > 0 then
      local line = string.format('%d ', now) .. value
      local held = redis.call('HGET', key, field)
      redis.call('HSET', key, field, held and last_lines(held .. '\\n' .. line, most) or line)
    elseif value == '' then
      redis.call('HDEL', key, field)
    else
      redis.call('HSET', key, field, value)
    end
  end
end
"""
"""For scripts that know ``now``: a function."""
