"""What a worker leaves behind once it has brought a blob, or tried to, and what is counted of it."""

from __future__ import annotations

from mirror.ledger.scripts import NOW
from mirror.ledger.totals import COUNT

# Where there is too much, what ends first goes first; each time a little more than was added.
_SEE = (
    NOW
    + """
local function see(present, holder, known, repository, present_s, holder_s, root, most)
  redis.call('SET', present, '1', 'EX', present_s)
  redis.call('SET', holder, repository, 'EX', holder_s)
  redis.call('ZADD', known, now + present_s, string.sub(present, #root + 1))
  redis.call('ZADD', known, now + holder_s, string.sub(holder, #root + 1))
  redis.call('EXPIRE', known, math.max(present_s, holder_s))
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', known, '-inf', now, 'LIMIT', 0, 4)) do
    redis.call('ZREM', known, one)
  end
  for _ = 1, math.min(4, redis.call('ZCARD', known) - most) do
    redis.call('DEL', root .. redis.call('ZPOPMIN', known)[1])
  end
end
"""
)

# Counted where it is written what became of the blob in that target: what a step finds that was taken twice
# is what its first time has left there, and a step that the batch has left behind has nothing to say. A blob
# that failed and is there after all, or was believed to be there and had to be copied, counts as both.
_NOTE = (
    COUNT
    + """
local function note(batch, placed, totals, item, how, row, keep_s, pairs)
  local state = redis.call('HGET', batch, 'state')
  if not state or state == 'concluded' then return end
  local held = redis.call('HGET', placed, item)
  local before = held and cjson.decode(held)['how']
  if before and before ~= 'failed' and not (before == 'present' and how == 'copied') then return end
  redis.call('HSET', placed, item, row)
  redis.call('EXPIRE', placed, keep_s)
  if before ~= how then count(totals, pairs) end
end
"""
)

LEAVE = (
    _SEE
    + _NOTE
    + """
-- KEYS present, holder, known, session, lease; where it is for a batch, batch, placed, totals
-- ARGV token (empty: the lease is not ours), what the blob became, repository, seconds of present and of
--   holder, root of these keys, most; then blob and target, how, row, seconds to keep it, totals
if ARGV[2] ~= 'unknown' then
  see(KEYS[1], KEYS[2], KEYS[3], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7]))
end
if ARGV[2] == 'uploaded' then redis.call('DEL', KEYS[4]) end
local left = 0
if redis.call('GET', KEYS[5]) == ARGV[1] then left = redis.call('DEL', KEYS[5]) end
-- Last: should it fail, nobody waits for the blob.
if #KEYS > 5 then note(KEYS[6], KEYS[7], KEYS[8], unpack(ARGV, 8, 12)) end
return left
"""
)
