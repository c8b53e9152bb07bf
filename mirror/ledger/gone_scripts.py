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

ADD_PLACE = """
local function add_place(key, field, run, before, place, most)
  local held = redis.call('HGET', key, field) or ''
  local others, last = string.match(held, '^(.*\\n)(.-)$')
  if not last then others, last = '', held end
  local row = last ~= '' and cjson.decode(string.match(last, ' (.*)$'))
  local is_ours = row and row[1] == run and row[2] == ''
  if is_ours and type(row[3]) == 'table' and type(row[4]) == 'table' then -- one place was once a line
    row[3][#row[3] + 1], row[4][#row[4] + 1] = before, place
    held = others .. string.format('%d ', now) .. cjson.encode(row)
  else
    local line = string.format('%d ', now) .. cjson.encode({run, '', {before}, {place}})
    held = held == '' and line or last_lines(held .. '\\n' .. line, most)
  end
  redis.call('HSET', key, field, held)
end
"""
"""A tag's deletion is one line of its history, however many targets it goes from one after the other."""

RECORD = (
    NOW
    + KEEP
    + ADD_PLACE
    + """
-- KEYS run, deletions, open; ARGV run id, field, state, row, seconds to keep, what is kept for good;
--   and for a line of the history, where it is to have one: key, tag, digest before, place, most lines
local held = redis.call('HGET', KEYS[2], ARGV[2])
local before = held and cjson.decode(held)['state']
if before == 'deleted' or before == 'absent' then return 0 end
keep(ARGV[6])
if ARGV[7] then add_place(ARGV[7], ARGV[8], ARGV[1], ARGV[9], ARGV[10], tonumber(ARGV[11])) end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[5])
if before then redis.call('HINCRBY', KEYS[1], 'd:' .. before, -1) end
redis.call('HINCRBY', KEYS[1], 'd:' .. ARGV[3], 1)
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
