"""Deletions as compare-and-set steps: a run's last one, which it has only where a tag is gone."""

from __future__ import annotations

from mirror.ledger.lasting import KEEP
from mirror.ledger.scripts import END_RUN, NOW

ARM = """
-- KEYS run, repositories; ARGV repository, seconds to keep
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
if redis.call('HGET', KEYS[1], 'state') ~= 'open' then return 0 end
return redis.call('HSETNX', KEYS[1], 'prunes', 'wanted')
"""

RECORD = (
    NOW
    + KEEP
    + """
-- KEYS run, deletions, open; ARGV run id, field, state, row, seconds to keep, what is kept for good
local held = redis.call('HGET', KEYS[2], ARGV[2])
local before = held and cjson.decode(held)['state']
if before == 'deleted' or before == 'absent' then return 0 end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[5])
if before then redis.call('HINCRBY', KEYS[1], 'd:' .. before, -1) end
redis.call('HINCRBY', KEYS[1], 'd:' .. ARGV[3], 1)
keep(ARGV[6])
redis.call('ZADD', KEYS[3], 'XX', now, ARGV[1])
return 1
"""
)

REGION_DONE = (
    NOW
    + END_RUN
    + """
-- KEYS run, open; ARGV run id, the region, then all regions
local held = redis.call('HMGET', KEYS[1], 'state', 'prunes')
if held[1] ~= 'open' or held[2] ~= 'due' then return 0 end
redis.call('HSET', KEYS[1], 'pruned:' .. ARGV[2], '1')
for i = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[1], 'pruned:' .. ARGV[i]) == 0 then return 0 end
end
redis.call('HSET', KEYS[1], 'prunes', 'done')
return end_run(KEYS[1], KEYS[2], ARGV[1])
"""
)
