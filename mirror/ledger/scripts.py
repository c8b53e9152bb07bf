"""The ledger's compare-and-set steps, each one Lua script and so one indivisible change.

The server's clock is used throughout: the clocks of a fleet's machines differ.
"""

from __future__ import annotations

from mirror.ledger.event_scripts import TELL, TELL_ENDED, TELL_TAGS
from mirror.ledger.failures import COUNT_FAILURE
from mirror.ledger.lagging import DROP_UNSEEN, NOTE_LAGGING
from mirror.ledger.lasting import KEEP
from mirror.ledger.totals import COUNT, COUNT_LAGS
from mirror.ledger.verify_scripts import NOTE_VERIFIED, OWE_REPAIR, PAY_REPAIR

KEEP_RUN_S = 30 * 86400
"""How long a run can be looked up."""

NOW = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
"""

ADVANCE = (
    NOW
    + """
-- KEYS batch, open; ARGV batch id, expected state, new state
if redis.call('HGET', KEYS[1], 'state') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'attempts', '0')
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
"""
)


# A late word of a step that the batch has left behind must not undo what came after it.
RECORD = """
-- KEYS outcomes, batch; ARGV states that may be replaced (space before and after each), field, value, ...
if redis.call('HGET', KEYS[2], 'state') == 'concluded' then return 0 end
local written = 0
for i = 2, #ARGV, 2 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if not held or string.find(ARGV[1], ' ' .. cjson.decode(held)['state'] .. ' ', 1, true) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    written = written + 1
  end
end
return written
"""


TOUCH = (
    NOW
    + """
-- KEYS open; ARGV member: only what is still open is touched
redis.call('ZADD', KEYS[1], 'XX', now, ARGV[1])
return 1
"""
)

# What is watched stands beside the key of what is open.
_WATCH_RUNS = (
    COUNT
    + TELL
    + TELL_ENDED
    + """
local function beside(open_key, name) return string.sub(open_key, 1, -5) .. name end
local function count_run(run_key, open_key, name, labels)
  local r = redis.call('HMGET', run_key, 'known_as', 'mirror', 'lane')
  local series = name .. '\\nmirror=' .. (r[1] or r[2] or '') .. '\\nlane=' .. (r[3] or '') .. labels
  count(beside(open_key, 'totals'), cjson.encode({{series, '1'}}))
end
local function note_begun(run_key, open_key, run_id)
  redis.call('ZADD', beside(open_key, 'underway'), now, run_id)
  count_run(run_key, open_key, 'runs_started', '')
end
local function note_ended(run_key, open_key, run_id, state)
  redis.call('ZREM', beside(open_key, 'underway'), run_id)
  count_run(run_key, open_key, 'runs_ended', '\\nstate=' .. state)
  tell_ended(run_key, beside(open_key, ''), run_id, state)
end
"""
)

CREATE_RUN = (
    NOW
    + _WATCH_RUNS
    + PAY_REPAIR
    + """
-- KEYS run, runs, open, repositories, staged, then the key of all runs like it where it may join one, then a
--   verifying run where this is the repair that it owes
-- ARGV run id, run root, seconds to keep that key, seconds to keep a run that is only planned (0: it is not)
--   field, value, ...
-- The id of the run, this one or that one; nothing where the id is taken; empty where no repair is owed.
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
if KEYS[7] and not owes_repair(KEYS[7]) then
  redis.call('DEL', KEYS[5])
  return ''
end
if KEYS[6] then
  local other = redis.call('GET', KEYS[6])
  if other and redis.call('HGET', ARGV[2] .. other, 'state') == 'open' then
    redis.call('DEL', KEYS[5])
    if KEYS[7] then pay_repair(KEYS[7], KEYS[3], ARGV[2], other) end
    return other
  end
  redis.call('SET', KEYS[6], ARGV[1], 'EX', ARGV[3])
end
if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('RENAME', KEYS[5], KEYS[4])
  redis.call('PERSIST', KEYS[4])
end
for i = 5, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'started', tostring(now), 'listed', '0', 'cursor', '',
  'batches', '0', 'concluded', '0', 'tags', '0')
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - KEEP_RUN_S)
if ARGV[4] == '0' then
  redis.call('ZADD', KEYS[3], now, ARGV[1])
  note_begun(KEYS[1], KEYS[3], ARGV[1])
else
  redis.call('EXPIRE', KEYS[1], ARGV[4])
  redis.call('EXPIRE', KEYS[4], ARGV[4])
end
if KEYS[7] then pay_repair(KEYS[7], KEYS[3], ARGV[2], ARGV[1]) end
return ARGV[1]
""".replace("KEEP_RUN_S", str(KEEP_RUN_S))
)

_KEEP_RUN = """
local function keep_run(run_key)
  for _, part in ipairs({'', ':progress', ':failures', ':repositories', ':flight', ':behind', ':extra'}) do
    redis.call('EXPIRE', run_key .. part, KEEP_RUN_S)
  end
end
""".replace("KEEP_RUN_S", str(KEEP_RUN_S))

# Ends the run when everything is listed and every batch is concluded; it can be looked up for 30 days.
# Where tags are gone from the source it first has to delete them, unless another one failed.
END_RUN = (
    _KEEP_RUN
    + _WATCH_RUNS
    + NOTE_VERIFIED
    + OWE_REPAIR
    + DROP_UNSEEN
    + """
local function end_run(run_key, open_key, run_id)
  local r = redis.call('HMGET', run_key, 'listed', 'batches', 'concluded', 'state', 'n:failed', 'error',
    'd:failed', 'prunes')
  if r[1] ~= '1' or r[2] ~= r[3] or r[4] ~= 'open' or r[8] == 'due' then return 0 end
  local state = 'done'
  for i = 5, 7 do
    if r[i] and r[i] ~= '0' and r[i] ~= '' then state = 'failed' end
  end
  if state == 'done' and r[8] == 'wanted' then
    redis.call('HSET', run_key, 'prunes', 'due')
    redis.call('ZADD', open_key, now, run_id)
    return 0
  end
  redis.call('HSET', run_key, 'state', state, 'finished', tostring(now))
  redis.call('ZREM', open_key, run_id)
  note_ended(run_key, open_key, run_id, state)
  note_verified(run_key, open_key)
  owe_repair(run_key, open_key, run_id, state)
  drop_unseen(run_key, open_key)
  keep_run(run_key)
  return 1
end
"""
)

# From here on the run is one like any other: what it was planned with is its queue.
BEGIN_PLAN = (
    NOW
    + END_RUN
    + """
-- KEYS run, open, queue, repositories, the key of all runs like it
-- ARGV run id, run root, seconds to keep that key
-- The id of the run, or of another like it that is open.
if redis.call('HGET', KEYS[1], 'state') ~= 'planned' then return ARGV[1] end
local other = redis.call('GET', KEYS[5])
if other and redis.call('HGET', ARGV[2] .. other, 'state') == 'open' then return other end
redis.call('SET', KEYS[5], ARGV[1], 'EX', ARGV[3])
redis.call('HSET', KEYS[1], 'state', 'open', 'started', tostring(now))
for _, key in ipairs({KEYS[1], KEYS[3], KEYS[4], KEYS[1] .. ':failures'}) do redis.call('PERSIST', key) end
redis.call('ZADD', KEYS[2], now, ARGV[1])
note_begun(KEYS[1], KEYS[2], ARGV[1])
end_run(KEYS[1], KEYS[2], ARGV[1])
return ARGV[1]
"""
)

# What is listed next is moved on by one of those who list. What belongs to a plan goes with it.
_LIST = """
local function may_list(run_key, cursor)
  local r = redis.call('HMGET', run_key, 'cursor', 'listed', 'state')
  return r[1] == cursor and r[2] ~= '1' and (r[3] == 'open' or r[3] == 'planned')
end
local function move_list(run_key, open_key, run_id, cursor, listed)
  redis.call('HSET', run_key, 'cursor', cursor, 'listed', listed)
  if redis.call('HGET', run_key, 'state') == 'open' then redis.call('ZADD', open_key, now, run_id) end
  end_run(run_key, open_key, run_id)
end
local function keep_with(run_key, key)
  local ttl = redis.call('TTL', run_key)
  if ttl > 0 then redis.call('EXPIRE', key, ttl) end
end
local function add_batch(run_key, root, run_id, state, repository)
  local id = run_id .. '.' .. (redis.call('HINCRBY', run_key, 'batches', 1) - 1)
  redis.call('HSET', root .. id, 'run', run_id, 'state', state, 'attempts', '0')
  if repository ~= '' then redis.call('HSET', root .. id, 'repository', repository) end
  keep_with(run_key, root .. id)
  return id
end
"""

ADD_BATCHES = (
    NOW
    + END_RUN
    + _LIST
    + """
-- KEYS run, queue, open, repositories; ARGV run id, expected cursor, new cursor, listed, batch root,
-- repository, whether it is through, how many repositories come next, those, (tags JSON, count) ...
if not may_list(KEYS[1], ARGV[2]) then return 0 end
-- It goes well: an outage of the source, if there was one, is over.
if redis.call('HDEL', KEYS[1], 'trouble', 'troubles', 'trouble_until') > 0 then
  redis.call('HDEL', KEYS[1], 'waits', 'waits_until')
end
local first = 9 + ARGV[8]
for i = 9, first - 1 do redis.call('RPUSH', KEYS[4], ARGV[i]) end
if ARGV[7] == '1' then
  redis.call('LPOP', KEYS[4])
  redis.call('HINCRBY', KEYS[1], 'repositories', 1)
end
for i = first, #ARGV, 2 do
  local id = add_batch(KEYS[1], ARGV[5], ARGV[1], 'queued', ARGV[6])
  redis.call('HSET', ARGV[5] .. id, 'tags', ARGV[i])
  redis.call('RPUSH', KEYS[2], id)
  redis.call('HINCRBY', KEYS[1], 'tags', ARGV[i + 1])
end
keep_with(KEYS[1], KEYS[2])
keep_with(KEYS[1], KEYS[4])
move_list(KEYS[1], KEYS[3], ARGV[1], ARGV[3], ARGV[4])
return 1
"""
)

# What cannot be listed is reported as what it would have been: a batch, concluded, of one nameless tag.
FAIL_REPOSITORY = (
    NOW
    + END_RUN
    + _LIST
    + COUNT_FAILURE
    + """
-- KEYS run, open, repositories, failures
-- ARGV run id, expected cursor, new cursor, listed, batch root, repository, how it ended, seconds to keep,
--   most failures, the name of all others, most examples of one, then failure, count, examples, totals
if not may_list(KEYS[1], ARGV[2]) then return 0 end
redis.call('LPOP', KEYS[3])
local id = add_batch(KEYS[1], ARGV[5], ARGV[1], 'concluded', ARGV[6])
redis.call('EXPIRE', ARGV[5] .. id, ARGV[8])
redis.call('SET', ARGV[5] .. id .. ':ended', ARGV[7], 'EX', ARGV[8])
for _, field in ipairs({'repositories', 'tags', 'concluded', 'n:failed'}) do
  redis.call('HINCRBY', KEYS[1], field, 1)
end
redis.call('HSET', KEYS[1], 'unlisted', '1')
count_failure(KEYS[4], ARGV[12], ARGV[13], ARGV[14], ARGV[9], ARGV[10], ARGV[11])
keep_with(KEYS[1], KEYS[4])
if redis.call('HGET', KEYS[1], 'state') == 'open' then count(beside(KEYS[2], 'totals'), ARGV[15]) end
move_list(KEYS[1], KEYS[2], ARGV[1], ARGV[3], ARGV[4])
return 1
"""
)

OPEN_WINDOW = (
    NOW
    + """
-- KEYS queue, flight, open, run, behind; ARGV window, batch root, most that may be behind
local opened = {}
local held = redis.call('HMGET', KEYS[4], 'state', 'paused')
if held[1] ~= 'open' or held[2] then return opened end
local room = tonumber(ARGV[1]) + math.min(redis.call('SCARD', KEYS[5]), tonumber(ARGV[3]))
while redis.call('SCARD', KEYS[2]) < room do
  local id = redis.call('LPOP', KEYS[1])
  if not id then break end
  redis.call('SADD', KEYS[2], id)
  redis.call('HSET', ARGV[2] .. id, 'state', 'resolving')
  redis.call('ZADD', KEYS[3], now, id)
  table.insert(opened, id)
  local held = redis.call('HMGET', ARGV[2] .. id, 'tags', 'repository')
  table.insert(opened, held[1])
  table.insert(opened, held[2] or '')
end
return opened
"""
)

LEAVE_BEHIND = """
-- KEYS flight, behind; ARGV batch id
if redis.call('SISMEMBER', KEYS[1], ARGV[1]) == 0 then return 0 end
return redis.call('SADD', KEYS[2], ARGV[1])
"""

PAUSE = """
-- KEYS run; ARGV paused: whether the run is open, and was not so before
if redis.call('HGET', KEYS[1], 'state') ~= 'open' then return 0 end
if ARGV[1] == '1' then return redis.call('HSET', KEYS[1], 'paused', '1') end
return redis.call('HDEL', KEYS[1], 'paused')
"""

# The list is read on by one of those who made room; the others find the key of the first.
WANTS_LISTING = """
-- KEYS run, queue, listing; ARGV least batches that should wait, seconds
local held = redis.call('HMGET', KEYS[1], 'state', 'listed', 'paused')
if held[1] ~= 'open' or held[2] == '1' or held[3] then return 0 end
if redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[1]) then return 0 end
if redis.call('SET', KEYS[3], '1', 'NX', 'EX', ARGV[2]) then return 1 end
return 0
"""

CONCLUDE = (
    NOW
    + END_RUN
    + COUNT_LAGS
    + COUNT_FAILURE
    + KEEP
    + NOTE_LAGGING
    + TELL_TAGS
    + """
-- KEYS batch, run, flight, open, parked, ended, failures, behind, then what is needed no more
-- ARGV batch id, run id, expected state, seconds to keep, what became of the tags, most failures, the name
--   of all others, most examples of one, totals, the mirror's name, when tags that moved were seen,
--   what is kept for good, what is told, the hash of what is behind, what is noted in it, whether anything is
--   behind, number of counts, (field of the run, count) ..., (failure, count, examples) ...
if redis.call('HGET', KEYS[1], 'state') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'concluded')
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('SREM', KEYS[8], ARGV[1])
count(beside(KEYS[4], 'totals'), ARGV[9])
local lane = redis.call('HGET', KEYS[2], 'lane') or ''
count_lags(beside(KEYS[4], 'totals'), 'mirror=' .. ARGV[10] .. '\\nlane=' .. lane, ARGV[11])
tell_tags(beside(KEYS[4], ''), ARGV[13])
keep(ARGV[12])
note_lagging(ARGV[14], KEYS[2], ARGV[15], ARGV[16])
local states_end = 17 + 2 * tonumber(ARGV[17])
for i = 18, states_end, 2 do redis.call('HINCRBY', KEYS[2], ARGV[i], ARGV[i + 1]) end
for i = states_end + 1, #ARGV, 3 do
  count_failure(KEYS[7], ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[6], ARGV[7], ARGV[8])
end
redis.call('HINCRBY', KEYS[2], 'concluded', 1)
redis.call('HDEL', KEYS[1], 'tags')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[6], ARGV[5], 'EX', ARGV[4])
for i = 9, #KEYS do redis.call('DEL', KEYS[i]) end
end_run(KEYS[2], KEYS[4], ARGV[2])
return 1
"""
)

FAIL_RUN = (
    NOW
    + _KEEP_RUN
    + _WATCH_RUNS
    + """
-- KEYS run, open, parked, queue; ARGV run id, new state, error, error kind, batch root
local state = redis.call('HGET', KEYS[1], 'state')
if state ~= 'open' and state ~= 'planned' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'error', ARGV[3], 'error_kind', ARGV[4],
  'finished', tostring(now))
if state == 'open' then note_ended(KEYS[1], KEYS[2], ARGV[1], ARGV[2]) end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
for _, id in ipairs(redis.call('LRANGE', KEYS[4], 0, -1)) do
  redis.call('EXPIRE', ARGV[5] .. id, KEEP_RUN_S)
end
redis.call('DEL', KEYS[4])
keep_run(KEYS[1])
return 1
""".replace("KEEP_RUN_S", str(KEEP_RUN_S))
)

SETTLE = """
-- KEYS due; ARGV item: how many items are still due once this one is done; -1 if it was not due any more
local removed = redis.call('HDEL', KEYS[1], ARGV[1])
local left = redis.call('HLEN', KEYS[1])
if removed == 0 and left > 0 then return -1 end
return left
"""
