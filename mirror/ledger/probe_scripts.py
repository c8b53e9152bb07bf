"""The step that takes a measurement: history, whether the registry is down, and the change that this is."""

from __future__ import annotations

from mirror.ledger import scripts
from mirror.ledger.event_scripts import TELL

# The one place that tells of a change, in the script that makes it: so exactly once. The list is what
# outages are read from: other events would push them out of the stream.
_TELL_CHANGE = (
    TELL
    + """
local function tell_change(change)
  redis.call('LPUSH', KEYS[4], cjson.encode(change))
  redis.call('LTRIM', KEYS[4], 0, ARGV[12] - 1)
  redis.call('EXPIRE', KEYS[4], ARGV[11])
  local more = {registry = change.host, region = change.region, reason = change.reason}
  tell(KEYS[5], '', '', 0, change.kind, '', more)
end
"""
)

_SAMPLES = """
local function numbers(lines, at, since)
  local found = {}
  for _, line in ipairs(lines) do
    local words = {}
    for word in string.gmatch(line, '%S+') do words[#words + 1] = word end
    local value = tonumber(words[at])
    if value and tonumber(words[1]) >= since then found[#found + 1] = value end
  end
  return found
end
local function median(values)
  if #values == 0 then return '-' end
  table.sort(values)
  local half = math.floor(#values / 2)
  if #values % 2 == 1 then return string.format('%.9g', values[half + 1]) end
  return string.format('%.9g', (values[half] + values[half + 1]) / 2)
end
local function counted(row, is_up)
  local ok, failed = string.match(row or '', '^(%d+) (%d+)')
  ok, failed = tonumber(ok or 0), tonumber(failed or 0)
  if is_up then ok = ok + 1 else failed = failed + 1 end
  return ok .. ' ' .. failed
end
"""

# A probe that is told of twice, or after a later one (a worker that hung), changes nothing.
RECORD = (
    scripts.NOW
    + _SAMPLES
    + _TELL_CHANGE
    + """
-- KEYS probes of the region and host, probed, the host as regions see it, outages, events
-- ARGV the probe's id, when it began, 1 where it is up, latency, speed, its document, for how long it is
--   fresh, how many failures in a row are an outage, region, host, seconds to keep, how many changes to
--   keep, why it is not up
local held = redis.call('HMGET', KEYS[1], 'id', 'at', 'samples', 'fails', 'failing', 'was_up')
local at, is_up, keep = tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[11])
if held[1] == ARGV[1] then return '' end
if held[2] and tonumber(held[2]) > at and tonumber(held[2]) <= now + 60 then return '' end

local lines = {}
for line in string.gmatch(held[3] or '', '[^\\n]+') do lines[#lines + 1] = line end
lines[#lines + 1] = string.format('%.0f', at) .. ' ' .. ARGV[4] .. ' ' .. ARGV[5]
while #lines > 60 do table.remove(lines, 1) end
local few = {}
for i = math.max(1, #lines - 4), #lines do few[#few + 1] = lines[i] end

local hour, day = math.floor(at / 3600), math.floor(at / 86400)
local row = counted(redis.call('HGET', KEYS[1], 'h' .. hour), is_up)
local hourly = ' ' .. median(numbers(lines, 2, hour * 3600)) .. ' ' .. median(numbers(lines, 3, hour * 3600))
redis.call('HSET', KEYS[1], 'h' .. hour, row .. hourly)
local hours = {}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local kind, number = string.match(name, '^([hd])(%d+)$')
  number = tonumber(number)
  if (kind == 'h' and number < hour - 24) or (kind == 'd' and number < day - 29) then
    redis.call('HDEL', KEYS[1], name)
  elseif kind == 'h' and number >= day * 24 then
    hours[#hours + 1] = '0 ' .. string.gsub(redis.call('HGET', KEYS[1], name), '^%d+ %d+ ', '')
  end
end
row = counted(redis.call('HGET', KEYS[1], 'd' .. day), is_up)
redis.call('HSET', KEYS[1], 'd' .. day, row .. ' ' .. median(numbers(hours, 2, 0)) .. ' '
  .. median(numbers(hours, 3, 0)))

local fails = is_up and 0 or tonumber(held[4] or 0) + 1
local failing = fails > 1 and tonumber(held[5] or at) or at
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'at', ARGV[2], 'samples', table.concat(lines, '\\n'),
  'fails', fails, 'failing', string.format('%.3f', failing),
  'last', ARGV[6], 'fresh', string.format('%.3f', now + ARGV[7]),
  'latency', median(numbers(few, 2, 0)), 'speed', median(numbers(few, 3, 0)))
redis.call('EXPIRE', KEYS[1], keep)
redis.call('ZADD', KEYS[2], now, ARGV[9] .. '\\n' .. ARGV[10])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - keep)

local before = redis.call('HGET', KEYS[3], ARGV[9])
before = before and cjson.decode(before) or {}
local seen, kind = {fresh = now + ARGV[7]}, nil
if not is_up then
  seen.since, seen.reason = before.since, before.reason
  if not before.since and fails >= tonumber(ARGV[8]) then
    seen.since, seen.reason, kind = failing, ARGV[13], 'registry_down'
  end
elseif before.since then
  kind = 'registry_back'
end
redis.call('HSET', KEYS[3], ARGV[9], cjson.encode(seen))
redis.call('EXPIRE', KEYS[3], keep)
if seen.since then redis.call('HSET', KEYS[1], 'since', seen.since, 'reason', seen.reason)
else redis.call('HDEL', KEYS[1], 'since', 'reason') end
if is_up then redis.call('HSET', KEYS[1], 'was_up', 1) end
if not kind or not held[6] then return '' end

local down_in, up_in, all = {}, {}, redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do
  local own = cjson.decode(all[i + 1])
  if own.fresh < now - keep then redis.call('HDEL', KEYS[3], all[i])
  elseif own.fresh < now then  -- nobody looked lately
  elseif own.since then down_in[#down_in + 1] = all[i]
  else up_in[#up_in + 1] = all[i] end
end
local told = kind == 'registry_down' and seen or before
tell_change({kind = kind, at = at, region = ARGV[9], host = ARGV[10], since = told.since,
  reason = told.reason, down_in = down_in, up_in = up_in})
return kind
"""
)

# A pass that nobody has begun keeps the next ones back: of a region that is busy they would only pile up.
SEND_SLOT = """
-- KEYS slots; ARGV region, slot, now, until when one that was sent may be lost, the latest time of a slot
local row = redis.call('HGET', KEYS[1], ARGV[1]) or '0 0 begun'
local held, sent, state = string.match(row, '^(%d+) (%d+) (%a+)$')
held = tonumber(held)
if held >= tonumber(ARGV[2]) and held <= tonumber(ARGV[5]) then return 0 end
if state == 'sent' and tonumber(sent) > tonumber(ARGV[4]) and held <= tonumber(ARGV[5]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f sent', ARGV[2], ARGV[3]))
return 1
"""

BEGIN_SLOT = """
-- KEYS slots; ARGV region, slot
local row = redis.call('HGET', KEYS[1], ARGV[1]) or '0 0 begun'
local held, sent, state = string.match(row, '^(%d+) (%d+) (%a+)$')
local slot = tonumber(ARGV[2])
local in_place = slot < tonumber(held) and state == 'sent' -- of the last one, whose message waits behind it
if slot ~= tonumber(held) and not in_place then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], held .. ' ' .. sent .. ' begun')
return 1
"""

KEEP_ONLY = """
-- KEYS probed; ARGV the roots of the keys of probes and of hosts as regions see them, then region, host ...
local kept = {}
for i = 3, #ARGV, 2 do kept[ARGV[i] .. '\\n' .. ARGV[i + 1]] = true end
local gone = 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if not kept[member] then
    local region, host = string.match(member, '^(.-)\\n(.*)$')
    redis.call('DEL', ARGV[1] .. region .. ':' .. host)
    redis.call('HDEL', ARGV[2] .. host, region)
    redis.call('ZREM', KEYS[1], member)
    gone = gone + 1
  end
end
return gone
"""
