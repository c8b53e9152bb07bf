"""The steps of a lease: taken, renewed and given up by its token; each is indivisible."""

from __future__ import annotations

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
