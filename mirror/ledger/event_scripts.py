"""What is worth telling somebody is written down by the script that changes the state: once, or not at all.

An event whose condition is known and unchanged is not written again: a key that lapses remembers it.
"""

from __future__ import annotations

MOST_EVENTS = 2000
"""Events that are kept; before them the oldest go."""
REMIND_S = 86400
"""So long the same failure of a mirror, or the same tags that are split, are told once."""
KEEP_S = 30 * 86400
"""A condition that nobody has spoken of for so long is told anew."""
MOST_NAMES = 5
MOST_MARKS = 300
"""Tags of a mirror that are known to have failed; beyond them it is the whole mirror."""

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

TELL_ENDED = (
    """
local function lines(text)
  local found = {}
  for one in string.gmatch(text or '', '[^\\n]+') do table.insert(found, one) end
  return found
end
-- Where not all tags that failed are known by name it is what the run was about, or the whole mirror (''): of
-- a run of too many to be named, too.
local function mark(failing, run, names, count)
  if redis.call('HLEN', failing) >= MOST_MARKS then names = {''}
  elseif count == 0 or #names ~= count then names = run.about and #run.about > 0 and run.about or {''} end
  for _, one in ipairs(names) do redis.call('HSET', failing, 'tag:' .. one, '1') end
end
local function unmark(failing, about)
  local well, left = {}, 0
  for _, one in ipairs(about) do well[one] = true end
  for _, name in ipairs(redis.call('HKEYS', failing)) do
    local one = string.match(name, '^tag:(.*)$')
    if one and (well[one] or well[string.match(one, '^(.*):') or '']) then redis.call('HDEL', failing, name)
    elseif one then left = left + 1 end
  end
  return left == 0
end
local function tell_failing(root, run, kinds, names, more)
  local failing = root .. 'failing:' .. run.subject
  local held = redis.call('HMGET', failing, 'at', 'most', 'untold')
  local is_news = not held[1] or now - held[1] >= REMIND_S or more.count > tonumber(held[2])
  for one in string.gmatch(table.concat(kinds, ','), '[^,]+') do
    if redis.call('HSETNX', failing, 'kind:' .. one, '1') == 1 then is_news = true end
  end
  mark(failing, run, names, more.count)
  redis.call('HSETNX', failing, 'since', math.floor(now))
  redis.call('HINCRBY', failing, 'runs', 1)
  more.runs = redis.call('HINCRBY', failing, 'untold', 1)
  redis.call('EXPIRE', failing, KEEP_S)
  if not is_news then return end
  local most = math.max(more.count, held[2] or 0)
  redis.call('HSET', failing, 'untold', '0', 'at', math.floor(now), 'most', most)
  tell(root .. 'events', '', '', 0, 'failed', run.mirror, more)
end
local function tell_recovered(root, run)
  local failing = root .. 'failing:' .. run.subject
  local held = redis.call('HMGET', failing, 'runs', 'since')
  if not held[1] or (run.about and not unmark(failing, run.about)) then return end
  redis.call('DEL', failing)
  local more = {run = run.id, kind = run.kind, runs = tonumber(held[1]), since_s = tonumber(held[2])}
  tell(root .. 'events', '', '', 0, 'recovered', run.mirror, more)
end
local function tell_failed(root, run_key, run)
  local is_damage, kinds, reason, most, examples, names = false, {run.error_kind}, run.error, 0, '', {}
  local rows = redis.call('HGETALL', run_key .. ':failures')
  for i = 1, #rows, 2 do
    local of, why = string.match(rows[i], '^([^\\n]*)\\n(.*)$')
    local number, known = string.match(rows[i + 1], '^(%d+)(.*)$')
    table.insert(kinds, of or '')
    for one in string.gmatch(of or '', '[^,]+') do
      if one == 'Missing' or one == 'Different' or one == 'Damaged' then is_damage = true end
    end
    for _, one in ipairs(lines(known)) do table.insert(names, one) end
    if reason == '' or (most > 0 and tonumber(number) > most) then
      reason, most, examples = why, tonumber(number), known
    end
  end
  local more = {run = run.id, kind = run.kind, reason = reason, tags = run.tags, count = run.failed,
    names = {unpack(lines(examples), 1, MOST_NAMES)}}
  if not is_damage then return tell_failing(root, run, kinds, names, more) end
  if run.repairs == 'wanted' then more.repairs = true end
  table.sort(kinds)
  local signature = table.concat(kinds, ',') .. ' ' .. more.count
  local told = root .. 'told:damage:' .. run.subject
  tell(root .. 'events', told, signature, REMIND_S, 'damage', run.mirror, more)
end
local function tell_ended(run_key, root, run_id, state)
  local r = redis.call('HMGET', run_key, 'known_as', 'mirror', 'kind', 'about', 'lane', 'error', 'error_kind',
    'n:failed', 'd:failed', 'tags', 'n:updated', 'repairs')
  local mirror = r[1] or r[2] or ''
  local kind, tags = r[3] or nil, tonumber(r[10] or 0)
  local run = {id = run_id, mirror = mirror, kind = kind, subject = kind and mirror .. '/' .. kind or mirror,
    about = r[4] and lines(r[4]), error = r[6] or '', error_kind = r[7] or '', tags = tags,
    failed = tonumber(r[8] or 0) + tonumber(r[9] or 0), repairs = r[12]}
  if state == 'failed' then return tell_failed(root, run_key, run) end
  if state ~= 'done' then return end
  tell_recovered(root, run)
  redis.call('DEL', root .. 'told:damage:' .. run.subject)
  local more = {run = run_id, tags = tags, count = tonumber(r[11] or 0)}
  local told, signature = root .. 'told:backfill_done:' .. mirror, more.count > 0 and run_id or 'nothing'
  if kind == 'repair' then
    redis.call('DEL', root .. 'told:damage:' .. mirror .. '/verify')
    tell(root .. 'events', '', '', 0, 'repaired', mirror, more)
  elseif r[5] == 'backfill' and not kind then
    tell(root .. 'events', told, signature, REMIND_S, 'backfill_done', mirror, more)
  end
end
""".replace("REMIND_S", str(REMIND_S))
    .replace("KEEP_S", str(KEEP_S))
    .replace("MOST_NAMES", str(MOST_NAMES))
    .replace("MOST_MARKS", str(MOST_MARKS))
)
"""After TELL, for scripts that know ``now``: what the end of a run is worth telling.

A mirror that fails is one condition, whatever number of runs fails: it is told as it begins, when it gets
worse, and once a day. It is over when a run of the whole mirror, or of all tags that failed, went well.
"""

TELL_TAGS = """
local function tell_tags(root, rows)
  for _, one in ipairs(cjson.decode(rows)) do
    local fresh = {}
    for _, tag in ipairs(one.tags) do
      if one.unless == '' or redis.call('HEXISTS', one.unless, tag) == 0 then table.insert(fresh, tag) end
    end
    if #fresh > 0 then
      local told = one.subject ~= '' and root .. 'told:' .. one.event .. ':' .. one.subject or ''
      local names = {}
      for i = 1, math.min(#fresh, MOST_NAMES) do names[i] = one.prefix .. fresh[i] end
      local more = {run = one.run, count = #fresh, names = names, place = one.place}
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
