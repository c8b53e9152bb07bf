"""What the end of a verifying run sets off, for the script that ends runs: functions, and their terms."""

from __future__ import annotations

# When a mirror was verified is said by runs about what it has, all or a sample, which their beginning says.
# A pass over bytes ends with a run of it that was not stopped by how many it may read. What is owed stays.
NOTE_VERIFIED = """
local function note_verified(run_key, open_key)
  local names = {'verifies', 'known_as', 'error', 'deep_pass', 'pass_began', 'read_short', 'mirror'}
  local r = redis.call('HMGET', run_key, unpack(names))
  if r[3] and r[3] ~= '' then return end
  if r[1] then
    local totals, mirror = beside(open_key, 'totals'), r[2] or r[7]
    redis.call('HSET', totals, bounded_series(totals, 'verified\\nmirror=' .. mirror), math.floor(now))
  end
  if not r[4] or r[6] then return end
  local pass = beside(open_key, 'deep-pass:' .. r[4])
  if redis.call('HGET', pass, 'began') == r[5] then redis.call('HDEL', pass, 'began') end
end
"""

# Whoever is killed now owes nothing: the run stays with those that the sweeper looks at until the script that
# creates its repair takes it out.
OWE_REPAIR = """
local function wants_repair(run_key)
  local r = redis.call('HMGET', run_key, 'repairs', 'spec', 'kind')
  if r[1] or not r[2] or r[3] ~= 'verify' then return r[1] == 'wanted' end
  local how = cjson.decode(r[2])['verification'] -- a run that was begun before the field was
  return type(how) == 'table' and how['repairs'] == true
end
local function owe_repair(run_key, open_key, run_id, state)
  if state ~= 'failed' or not wants_repair(run_key) then return end
  redis.call('HSET', run_key, 'repairs', 'due')
  redis.call('ZADD', open_key, now, run_id)
end
"""

PAY_REPAIR = """
local function owes_repair(run_key)
  return redis.call('HGET', run_key, 'repairs') == 'due'
end
local function pay_repair(run_key, open_key, run_root, repair)
  redis.call('HSET', run_key, 'repairs', repair)
  redis.call('ZREM', open_key, string.sub(run_key, #run_root + 1))
end
"""
"""``repairs``: ``wanted``, ``due``, then the run that repairs, or ``none``."""

NO_REPAIR = (
    PAY_REPAIR
    + """
-- KEYS run, open; ARGV run root
if owes_repair(KEYS[1]) then pay_repair(KEYS[1], KEYS[2], ARGV[1], 'none') end
return 1
"""
)
