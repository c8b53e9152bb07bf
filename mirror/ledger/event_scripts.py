"""What is worth telling somebody is written down by the script that changes the state: once, or not at all.

An event whose condition is known and unchanged is not written again: a key that lapses remembers it.
"""

from __future__ import annotations

MOST_EVENTS = 2000
"""Events that are kept; before them the oldest go."""
REMIND_S = 86400
"""So long the same failure of a mirror, or the same tags that are split, are told once."""
MOST_NAMES = 5

TELL = """
local function tell(events, told, signature, keep_s, name, mirror, more)
  if told ~= '' then
    if redis.call('GET', told) == signature then return 0 end
    redis.call('SET', told, signature, 'EX', keep_s)
  end
  redis.call('XADD', events, 'MAXLEN', MOST_EVENTS, '*', 'event', name, 'mirror', mirror,
    'number', redis.call('INCR', events .. '-counted'), 'more', cjson.encode(more))
  return 1
end
""".replace("MOST_EVENTS", str(MOST_EVENTS))
"""A function of the stream's key, the key and value of what is known already (empty: nothing has to be) and
for how many seconds that holds, the event's name, its mirror (or empty), and what else there is to say."""

TELL_ENDED = """
local function first_names(text)
  local names = {}
  for one in string.gmatch(text, '[^\\n]+') do
    if #names < MOST_NAMES then table.insert(names, one) end
  end
  return names
end
local function tell_failed(root, run_key, subject, mirror, r)
  local name, kinds, reason, most, examples = 'failed', {r[4] or ''}, r[3] or '', 0, ''
  local rows = redis.call('HGETALL', run_key .. ':failures')
  for i = 1, #rows, 2 do
    local of, why = string.match(rows[i], '^([^\\n]*)\\n(.*)$')
    local number, known = string.match(rows[i + 1], '^(%d+)(.*)$')
    table.insert(kinds, of or '')
    for one in string.gmatch(of or '', '[^,]+') do
      if one == 'Missing' or one == 'Different' or one == 'Damaged' then name = 'damage' end
    end
    if reason == '' or (most > 0 and tonumber(number) > most) then
      reason, most, examples = why, tonumber(number), known
    end
  end
  table.sort(kinds)
  local more = {run = r[7], reason = reason, names = first_names(examples), tags = tonumber(r[6] or 0),
    count = tonumber(r[5] or 0) + tonumber(r[8] or 0)}
  local signature = table.concat(kinds, ',') .. ' ' .. more.count
  tell(root .. 'events', root .. 'told:' .. name .. ':' .. subject, signature, REMIND_S, name, mirror, more)
end
local function tell_ended(run_key, root, run_id, state)
  local r = redis.call('HMGET', run_key, 'mirror', 'kind', 'error', 'error_kind', 'n:failed', 'tags', 'lane',
    'd:failed', 'n:updated')
  local mirror, kind, lane = r[1] or '', r[2] or '', r[7]
  local subject = kind == 'verify' and mirror .. '/verify' or mirror
  if state == 'failed' then
    r[7] = run_id
    return tell_failed(root, run_key, subject, mirror, r)
  end
  if state ~= 'done' then return end
  redis.call('DEL', root .. 'told:failed:' .. subject, root .. 'told:damage:' .. subject)
  local more = {run = run_id, tags = tonumber(r[6] or 0), count = tonumber(r[9] or 0)}
  local told, signature = root .. 'told:backfill_done:' .. mirror, more.count > 0 and run_id or 'nothing'
  if kind == 'repair' then
    redis.call('DEL', root .. 'told:damage:' .. mirror .. '/verify')
    tell(root .. 'events', '', '', 0, 'repaired', mirror, more)
  elseif lane == 'backfill' and kind == '' then
    tell(root .. 'events', told, signature, REMIND_S, 'backfill_done', mirror, more)
  end
end
""".replace("REMIND_S", str(REMIND_S)).replace("MOST_NAMES", str(MOST_NAMES))
"""After TELL: what the end of a run is worth telling."""

TELL_TAGS = """
local function tell_tags(root, rows)
  for _, one in ipairs(cjson.decode(rows)) do
    local fresh = {}
    for _, tag in ipairs(one.tags) do
      if one.unless == '' or redis.call('HEXISTS', one.unless, tag) == 0 then table.insert(fresh, tag) end
    end
    if #fresh > 0 then
      local told = one.subject ~= '' and root .. 'told:' .. one.event .. ':' .. one.subject or ''
      local names = {unpack(fresh, 1, math.min(#fresh, MOST_NAMES))}
      local more = {run = one.run, count = #fresh, names = names}
      tell(root .. 'events', told, '1', REMIND_S, one.event, one.mirror, more)
    end
  end
end
""".replace("REMIND_S", str(REMIND_S)).replace("MOST_NAMES", str(MOST_NAMES))
"""After TELL: what became of a batch's tags, as :func:`mirror.ledger.events.of_tags` says it."""

NOTE = (
    TELL
    + """
-- KEYS events, told; ARGV seconds to keep what is known, event, more: whether it is news
redis.call('EXPIRE', KEYS[2], ARGV[1])
return tell(KEYS[1], KEYS[2], '1', ARGV[1], ARGV[2], '', cjson.decode(ARGV[3]))
"""
)
