"""The steps of whoever moves a tag: claims, turns, and what a tag was seen to be; each is indivisible."""

from __future__ import annotations

from mirror.ledger.scripts import NOW

CLAIM_KEEP_S = 90 * 86400
"""How long a repository's claims outlive the last run that asked about it: no batch is open for longer."""

# Newest wins (G5): a tag's last generation in a target only grows.
_CLAIM = (
    NOW
    + f"""
local keep_s = {CLAIM_KEEP_S}
"""
    + """
-- 0: a newer claim stands; 1: claimed; 2: another digest came in since ours was seen: which is the newer one?
local function claim(newest, proved, tag, generation, digest, seen, is_sure)
  local held = redis.call('HGET', newest, tag)
  if held then
    local last, other, at = string.match(held, '^(%d+) (%S+) (%S+)$')
    if tonumber(last) > tonumber(generation) then return 0 end
    if last == generation and other == digest then return 1 end
    if other ~= digest and tonumber(at) > tonumber(seen) and is_sure == '0' then return 2 end
  end
  redis.call('HSET', newest, tag, generation .. ' ' .. digest .. ' ' .. string.format('%.6f', now))
  redis.call('EXPIRE', newest, keep_s)
  redis.call('HDEL', proved, tag)
  return 1
end
"""
)

CLAIM = (
    _CLAIM
    + """
-- KEYS newest, proved
-- ARGV tag, generation, digest, when that digest was seen at the source, whether that is sure
return claim(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
"""
)

TAKE_TURN = (
    _CLAIM
    + """
-- KEYS lease, newest, proved; ARGV token, milliseconds, then as CLAIM; nothing where another has the turn
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
return claim(KEYS[2], KEYS[3], ARGV[3], ARGV[4], ARGV[5], ARGV[6], '0')
"""
)

_PROVE = """
local function prove(proved, tag, digest, at, seconds)
  redis.call('HSET', proved, tag, digest .. ' ' .. at)
  if redis.call('TTL', proved) < tonumber(seconds) then redis.call('EXPIRE', proved, seconds) end
end
"""

END_TURN = (
    NOW
    + _PROVE
    + """
-- KEYS lease, newest, proved; ARGV token, tag, generation, digest, for how many seconds that is believed
-- The claim of a newer run, if there is one; else nothing, and the turn is over.
local held = redis.call('HGET', KEYS[2], ARGV[2])
if held and tonumber(string.match(held, '^(%d+) ')) > tonumber(ARGV[3]) then return held end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  if ARGV[5] ~= '0' then prove(KEYS[3], ARGV[2], ARGV[4], string.format('%.6f', now), ARGV[5]) end
end
return false
"""
)

# What was seen before a claim says nothing about what the claim's run does after it, and what was seen while
# a claim of something else stands may be moved any moment.
PROVE = (
    _PROVE
    + """
-- KEYS newest, proved; ARGV for how many seconds that is believed, (tag, digest, when it was asked for) ...
for i = 2, #ARGV, 3 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  local other, at = string.match(held or '', '^%d+ (%S+) (%S+)$')
  if not held or (other == ARGV[i + 1] and tonumber(at) < tonumber(ARGV[i + 2])) then
    prove(KEYS[2], ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[1])
  end
end
return 1
"""
)

# Nobody claims what a tag goes back to: whoever has seen it before then has seen nothing.
UNPROVE = (
    NOW
    + """
-- KEYS newest, proved; ARGV tag
redis.call('HDEL', KEYS[2], ARGV[1])
local held = redis.call('HGET', KEYS[1], ARGV[1])
local claim = held and string.match(held, '^(%d+ %S+) ')
if claim then redis.call('HSET', KEYS[1], ARGV[1], claim .. ' ' .. string.format('%.6f', now)) end
return 1
"""
)
