"""The two indivisible steps of a budget: a request is admitted, and its answer is taken into account.

The server's clock is used throughout, unless a test hands in its own.
"""

from __future__ import annotations

from mirror.ledger.event_scripts import TELL

# A pull that is under way counts as spent until its answer says what is left; one that was never answered
# (its worker died) stays spent until an answer says otherwise. `remaining` is what the registry said last,
# `at` when; `until` ends the window at the latest; `sure` is not what was only reckoned.
ADMIT = (
    TELL
    + """
-- KEYS pause, pace, pulls, pulling, events, what is known to have been told
-- ARGV clock or '', token or '' (no pull), whether it was looked, share kept back (0: may use all),
--   seconds between requests (0: no pace), how many of them at once besides one, longest wait, lease,
--   shortest and number of pauses between two looks per window, the registry
-- {verdict, seconds, now, left, limit, window} as text
local t = redis.call('TIME')
local now = tonumber(ARGV[1]) or (tonumber(t[1]) + tonumber(t[2]) / 1000000)
local left, limit, window = '', '', ''
local function answer(verdict, seconds)
  return {verdict, string.format('%.3f', seconds or 0), string.format('%.6f', now),
    tostring(left), tostring(limit), tostring(window)}
end

local pause = redis.call('PTTL', KEYS[1])
if pause > 0 then return answer('paused', pause / 1000) end

local delay, spacing, next_at = 0, tonumber(ARGV[5]), nil
if spacing > 0 then
  next_at = math.max(tonumber(redis.call('GET', KEYS[2]) or now), now)
  delay = math.max(0, next_at - tonumber(ARGV[6]) * spacing - now)
  if delay > tonumber(ARGV[7]) then return answer('paced', delay) end
end

local token = ARGV[2]
if token ~= '' then
  local lost = redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - tonumber(ARGV[8]))
  local flying = redis.call('ZCARD', KEYS[4])
  local held = redis.call('HMGET', KEYS[3], 'limit', 'remaining', 'window', 'at', 'until', 'sure', 'looking')
  local looked = ARGV[3] == '1'
  if not held[2] and not looked then return answer('look') end
  if held[2] then
    limit, window = tonumber(held[1]), tonumber(held[3])
    local kept = math.ceil(limit * tonumber(ARGV[4]) - 0.000001)
    local remaining, ends, sure = tonumber(held[2]), tonumber(held[5]), held[6] == '1'
    if lost > 0 then
      remaining, sure = math.max(0, remaining - lost), false
      redis.call('HSET', KEYS[3], 'remaining', remaining, 'sure', '0')
    end
    left = remaining - flying
    if (now >= ends and not looked) or left <= kept then
      if now < ends and flying > 0 and remaining > kept then return answer('busy', 2) end
      local every = math.max(tonumber(ARGV[9]), window / tonumber(ARGV[10]))
      local look_at = tonumber(held[4]) + every
      if not looked and (now >= ends or now >= look_at or not sure) then
        if held[7] and tonumber(held[7]) > now then return answer('busy', 2) end
        redis.call('HSET', KEYS[3], 'looking', string.format('%.6f', now + 15))
        return answer('look')
      end
      if left <= kept and not sure then return answer('busy', 2) end
      if left <= kept then
        local rest_s = math.max(1, math.ceil(ends - now))  -- once in a window
        local more = {registry = ARGV[11], limit = limit, window_s = window, until_s = ends, kept = kept > 0}
        tell(KEYS[5], KEYS[6], '1', rest_s, 'budget', '', more)
        return answer('empty', math.max(1, math.min(ends, look_at) - now))
      end
    end
    left = left - 1
  end
  redis.call('ZADD', KEYS[4], now + delay, token)
  redis.call('EXPIRE', KEYS[4], 3600)
end
if next_at then
  local reserved = next_at + spacing
  redis.call('SET', KEYS[2], string.format('%.6f', reserved), 'PX', math.ceil((reserved - now) * 1000) + 1000)
end
return answer('go', delay)
"""
)

# Answers overtake each other. One whose request left after the last answer came in is newer, whatever it
# says: somebody else uses the account too, or a window has ended. Of others the smaller number holds.
ANSWERED = """
-- KEYS pulls, pulling, budgets
-- ARGV clock or '', token or '', when it was sent or '', seconds since then at most, whether it may have
--   been counted, limit or '', remaining, window, name of the budget
-- what is left, as text; '' where nothing is known
local t = redis.call('TIME')
local now = tonumber(ARGV[1]) or (tonumber(t[1]) + tonumber(t[2]) / 1000000)
if ARGV[2] ~= '' then redis.call('ZREM', KEYS[2], ARGV[2]) end
local held = redis.call('HMGET', KEYS[1], 'remaining', 'at', 'until', 'sure')
local known, at, ends = tonumber(held[1] or ''), tonumber(held[2] or 0), tonumber(held[3] or 0)
local flying, counted = redis.call('ZCARD', KEYS[2]), ARGV[5] == '1'
if ARGV[6] == '' then
  if known and counted then
    known = math.max(0, known - 1)
    redis.call('HSET', KEYS[1], 'remaining', known, 'sure', '0')
  end
  return known and tostring(known - flying) or ''
end
local said, window = tonumber(ARGV[7]), tonumber(ARGV[8])
local sent = tonumber(ARGV[3]) or (now - tonumber(ARGV[4]))
local newer = not known or sent >= at
local remaining = said
if not newer then
  remaining = math.max(0, math.min(said, known - (counted and 1 or 0)))
end
-- One that taught nothing must not make those look old that are still on their way.
if newer or counted or remaining ~= known then at = now end
if not known or now >= ends or (remaining > known and held[4] == '1') then ends = now + window end
redis.call('HSET', KEYS[1], 'limit', ARGV[6], 'remaining', remaining, 'window', window,
  'at', string.format('%.6f', at), 'until', string.format('%.6f', ends),
  'sure', (newer and flying == 0) and '1' or '0')
redis.call('HDEL', KEYS[1], 'looking')
redis.call('EXPIRE', KEYS[1], window + 86400)
redis.call('ZADD', KEYS[3], now, ARGV[9])
return tostring(remaining - flying)
"""

# However many requests are refused at once, they are one trouble: without a Retry-After the pause doubles
# only when the last one is over.
PAUSE = """
-- KEYS pause, pauses, budgets; ARGV Retry-After or '', first pause, longest pause, name: seconds of the pause
local t = redis.call('TIME')
local left = math.max(0, redis.call('PTTL', KEYS[1])) / 1000
local asked = tonumber(ARGV[1])
if not asked then
  if left > 0 then return string.format('%.3f', left) end
  local count = tonumber(redis.call('GET', KEYS[2]) or 0)
  asked = math.min(tonumber(ARGV[3]), tonumber(ARGV[2]) * 2 ^ math.min(count, 20))
  redis.call('SET', KEYS[2], count + 1, 'PX', math.ceil(asked * 1000) + 600000)
end
asked = math.max(1, asked)
if asked > left then
  redis.call('SET', KEYS[1], '429', 'PX', math.ceil(asked * 1000))
  left = asked
end
redis.call('ZADD', KEYS[3], tonumber(t[1]), ARGV[4])
return string.format('%.3f', left)
"""

# What one account was told is not taken back because another one was not.
NOTE_COUNTING = """
-- KEYS counting; ARGV whether it counts, seconds
if ARGV[1] == '0' and redis.call('GET', KEYS[1]) == '1' then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
