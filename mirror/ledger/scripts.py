"""The ledger's compare-and-set steps, each one Lua script and so one indivisible change.

The server's clock is used throughout: the clocks of a fleet's machines differ.
"""

from __future__ import annotations

_NOW = """
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
"""

ADVANCE = (
    _NOW
    + """
-- KEYS batch, open; ARGV batch id, expected state, new state
if redis.call('HGET', KEYS[1], 'state') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[3], 'attempts', '0')
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
"""
)

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
    _NOW
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

# However many tags fail at once, an outage is one trouble: it counts again when its pause is over.
TROUBLE = (
    _NOW
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

TOUCH = (
    _NOW
    + """
-- KEYS open; ARGV member: only what is still open is touched
redis.call('ZADD', KEYS[1], 'XX', now, ARGV[1])
return 1
"""
)

CREATE_RUN = (
    _NOW
    + """
-- KEYS run, runs, open, repositories, staged, then the key of all runs like it where it may join one
-- ARGV run id, run root, seconds to keep that key, field, value, ...
-- The id of the run, this one or that one; nothing where the id is taken.
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
if #KEYS == 6 then
  local other = redis.call('GET', KEYS[6])
  if other and redis.call('HGET', ARGV[2] .. other, 'state') == 'open' then
    redis.call('DEL', KEYS[5])
    return other
  end
  redis.call('SET', KEYS[6], ARGV[1], 'EX', ARGV[3])
end
if redis.call('EXISTS', KEYS[5]) == 1 then
  redis.call('RENAME', KEYS[5], KEYS[4])
  redis.call('PERSIST', KEYS[4])
end
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('HSET', KEYS[1], 'state', 'open', 'started', tostring(now), 'listed', '0', 'cursor', '',
  'batches', '0', 'concluded', '0', 'tags', '0')
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('ZADD', KEYS[3], now, ARGV[1])
return ARGV[1]
"""
)

_KEEP_RUN = """
local function keep_run(run_key)
  for _, part in ipairs({'', ':progress', ':repositories', ':flight'}) do
    redis.call('EXPIRE', run_key .. part, 30 * 86400)
  end
end
"""

# Ends the run when everything is listed and every batch is concluded; it can be looked up for 30 days.
_END_RUN = (
    _KEEP_RUN
    + """
local function end_run(run_key, open_key, run_id)
  local r = redis.call('HMGET', run_key, 'listed', 'batches', 'concluded', 'state', 'n:failed', 'error')
  if r[1] ~= '1' or r[2] ~= r[3] or r[4] ~= 'open' then return 0 end
  local state = 'done'
  if (r[5] and r[5] ~= '0') or (r[6] and r[6] ~= '') then state = 'failed' end
  redis.call('HSET', run_key, 'state', state, 'finished', tostring(now))
  redis.call('ZREM', open_key, run_id)
  keep_run(run_key)
  return 1
end
"""
)

# What is listed next is moved on by one of those who list.
_LIST = """
local function may_list(run_key, cursor)
  local r = redis.call('HMGET', run_key, 'cursor', 'listed', 'state')
  return r[1] == cursor and r[2] ~= '1' and r[3] == 'open'
end
local function move_list(run_key, open_key, run_id, cursor, listed)
  redis.call('HSET', run_key, 'cursor', cursor, 'listed', listed)
  redis.call('ZADD', open_key, now, run_id)
  end_run(run_key, open_key, run_id)
end
local function add_batch(run_key, root, run_id, state, repository)
  local id = run_id .. '.' .. (redis.call('HINCRBY', run_key, 'batches', 1) - 1)
  redis.call('HSET', root .. id, 'run', run_id, 'state', state, 'attempts', '0')
  if repository ~= '' then redis.call('HSET', root .. id, 'repository', repository) end
  return id
end
"""

ADD_BATCHES = (
    _NOW
    + _END_RUN
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
move_list(KEYS[1], KEYS[3], ARGV[1], ARGV[3], ARGV[4])
return 1
"""
)

# What cannot be listed is reported as what it would have been: a batch, concluded, of one nameless tag.
FAIL_REPOSITORY = (
    _NOW
    + _END_RUN
    + _LIST
    + """
-- KEYS run, open, repositories
-- ARGV run id, expected cursor, new cursor, listed, batch root, repository, how it ended, seconds to keep
if not may_list(KEYS[1], ARGV[2]) then return 0 end
redis.call('LPOP', KEYS[3])
local id = add_batch(KEYS[1], ARGV[5], ARGV[1], 'concluded', ARGV[6])
redis.call('EXPIRE', ARGV[5] .. id, ARGV[8])
redis.call('SET', ARGV[5] .. id .. ':ended', ARGV[7], 'EX', ARGV[8])
for _, field in ipairs({'repositories', 'tags', 'concluded', 'n:failed'}) do
  redis.call('HINCRBY', KEYS[1], field, 1)
end
move_list(KEYS[1], KEYS[2], ARGV[1], ARGV[3], ARGV[4])
return 1
"""
)

OPEN_WINDOW = (
    _NOW
    + """
-- KEYS queue, flight, open, run; ARGV window, batch root
local opened = {}
local held = redis.call('HMGET', KEYS[4], 'state', 'paused')
if held[1] ~= 'open' or held[2] then return opened end
while redis.call('SCARD', KEYS[2]) < tonumber(ARGV[1]) do
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
    _NOW
    + _END_RUN
    + """
-- KEYS batch, run, flight, open, parked, ended, then what is needed no more
-- ARGV batch id, run id, expected state, seconds to keep, what became of the tags, (tag state, count) ...
if redis.call('HGET', KEYS[1], 'state') ~= ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'concluded')
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
for i = 6, #ARGV, 2 do redis.call('HINCRBY', KEYS[2], 'n:' .. ARGV[i], ARGV[i + 1]) end
redis.call('HINCRBY', KEYS[2], 'concluded', 1)
redis.call('HDEL', KEYS[1], 'tags')
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('SET', KEYS[6], ARGV[5], 'EX', ARGV[4])
for i = 7, #KEYS do redis.call('DEL', KEYS[i]) end
end_run(KEYS[2], KEYS[4], ARGV[2])
return 1
"""
)

FAIL_RUN = (
    _NOW
    + _KEEP_RUN
    + """
-- KEYS run, open, parked; ARGV run id, new state, error, error kind
if redis.call('HGET', KEYS[1], 'state') ~= 'open' then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'error', ARGV[3], 'error_kind', ARGV[4],
  'finished', tostring(now))
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
keep_run(KEYS[1])
return 1
"""
)

CLAIM_KEEP_S = 90 * 86400
"""How long a repository's claims outlive the last run that asked about it: no batch is open for longer."""

# Newest wins (G5): a tag's last generation in a target only grows.
_CLAIM = (
    _NOW
    + f"""
local keep_s = {CLAIM_KEEP_S}
"""
    + """
-- 0: a newer claim stands; 1: claimed; 2: another digest came in since ours was seen: which is the newer one?
local function claim(newest, tag, generation, digest, seen, is_sure)
  local held = redis.call('HGET', newest, tag)
  if held then
    local last, other, at = string.match(held, '^(%d+) (%S+) (%S+)$')
    if tonumber(last) > tonumber(generation) then return 0 end
    if last == generation and other == digest then return 1 end
    if other ~= digest and tonumber(at) > tonumber(seen) and is_sure == '0' then return 2 end
  end
  redis.call('HSET', newest, tag, generation .. ' ' .. digest .. ' ' .. string.format('%.6f', now))
  redis.call('EXPIRE', newest, keep_s)
  return 1
end
"""
)

CLAIM = (
    _CLAIM
    + """
-- KEYS newest; ARGV tag, generation, digest, when that digest was seen at the source, whether that is sure
return claim(KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5])
"""
)

TAKE_TURN = (
    _CLAIM
    + """
-- KEYS lease, newest; ARGV token, milliseconds, then as CLAIM; nothing where another has the turn
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
return claim(KEYS[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], '0')
"""
)

END_TURN = """
-- KEYS lease, newest; ARGV token, tag, generation
-- The claim of a newer run, if there is one; else nothing, and the turn is over.
local held = redis.call('HGET', KEYS[2], ARGV[2])
if held and tonumber(string.match(held, '^(%d+) ')) > tonumber(ARGV[3]) then return held end
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return false
"""

SETTLE = """
-- KEYS due; ARGV item: how many items are still due once this one is done; -1 if it was not due any more
local removed = redis.call('HDEL', KEYS[1], ARGV[1])
local left = redis.call('HLEN', KEYS[1])
if removed == 0 and left > 0 then return -1 end
return left
"""

RELEASE = """
-- KEYS lease; ARGV token
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

RENEW = """
-- KEYS lease; ARGV token, milliseconds
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""

# All or none: two workers that each have what the other still needs would wait for each other.
TAKE = """
-- KEYS leases, then what to read; ARGV milliseconds, tokens; the number of a lease that another has
local count = #ARGV - 1
for i = 1, count do
  if redis.call('EXISTS', KEYS[i]) == 1 then return i end
end
for i = 1, count do redis.call('SET', KEYS[i], ARGV[i + 1], 'PX', ARGV[1]) end
if #KEYS == count then return {} end
return redis.call('MGET', unpack(KEYS, count + 1))
"""

LEAVE = """
-- KEYS lease, present, holder, session; ARGV token, repository, seconds of present and of holder, uploaded
redis.call('SET', KEYS[2], '1', 'EX', ARGV[3])
redis.call('SET', KEYS[3], ARGV[2], 'EX', ARGV[4])
if ARGV[5] == '1' then redis.call('DEL', KEYS[4]) end
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
