"""Scripts about what waits: until when, why, and whose turn it is then."""

from __future__ import annotations

from mirror.ledger.scripts import NOW

# What is parked waits for its time and is nobody's business until then, the sweeper's least of all. It was
# attended to: how often it waits says nothing about whether it moves.
PARK = """
-- KEYS document, open, parked; ARGV member, expected state, due time
if redis.call('HGET', KEYS[1], 'state') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'attempts', '0')
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
return 1
"""

# Whoever takes a member has it: ten sweepers send it on once.
TAKE_DUE = (
    NOW
    + """
-- KEYS open, parked; ARGV seconds without a move, most members
local taken = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZREM', KEYS[2], member)
  redis.call('ZADD', KEYS[1], now, member)
  table.insert(taken, member)
end
local cutoff = now - tonumber(ARGV[1])
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. cutoff, 'LIMIT', 0, ARGV[2])) do
  redis.call('ZADD', KEYS[1], now, member)
  table.insert(taken, member)
end
return taken
"""
)

# However many tags fail at once, an outage is one trouble: it counts again when its pause is over.
TROUBLE = (
    NOW
    + """
-- KEYS document; ARGV first pause, longest pause: (since when, until when) as text
local held = redis.call('HMGET', KEYS[1], 'trouble', 'troubles', 'trouble_until')
local since, count, till = tonumber(held[1] or now), tonumber(held[2] or 0), tonumber(held[3] or 0)
if till <= now then
  till = now + math.min(tonumber(ARGV[2]), tonumber(ARGV[1]) * 2 ^ math.min(count, 20))
  redis.call('HSET', KEYS[1], 'trouble', string.format('%.6f', since), 'troubles', count + 1,
    'trouble_until', string.format('%.6f', till))
end
return {string.format('%.6f', since), string.format('%.6f', till)}
"""
)

# The longest wait says most, and one that is over says nothing.
NOTE_WAIT = (
    NOW
    + """
-- KEYS run; ARGV member, reason, until when
local held = redis.call('HMGET', KEYS[1], 'waits_by', 'waits_until')
local till = tonumber(held[2] or 0)
if held[1] and held[1] ~= ARGV[1] and till > now and till > tonumber(ARGV[3]) then return 0 end
return redis.call('HSET', KEYS[1], 'waits_by', ARGV[1], 'waits', ARGV[2], 'waits_until', ARGV[3])
"""
)

NO_TROUBLE = (
    NOW
    + """
-- KEYS batch, run; ARGV batch id: what others wait for, they still do
redis.call('HDEL', KEYS[1], 'trouble', 'troubles', 'trouble_until')
local held = redis.call('HMGET', KEYS[2], 'waits_by', 'waits_until')
if held[1] ~= ARGV[1] and tonumber(held[2] or 0) > now then return 0 end
return redis.call('HDEL', KEYS[2], 'waits', 'waits_until', 'waits_by')
"""
)
