"""What happens inside Redis: scripts with one key each, so that they work in a cluster as well.

Times of the index are milliseconds of the server's own clock, so that Frontlas hosts with differing clocks
agree; a caller may pass a time instead (0 means the server's).
"""

from __future__ import annotations

from frontier_tx.redis.interfaces import Script

_NOW = """
local now = tonumber(ARGV[1])
if now == 0 then
  local t = redis.call('TIME')
  now = t[1] * 1000 + math.floor(t[2] / 1000)
end
local function put(entry)
  local text = cjson.encode(entry)
  redis.call('HSET', KEYS[1], 'f:' .. entry.id, text)
  return text
end
local function get(id)
  local text = redis.call('HGET', KEYS[1], 'f:' .. id)
  if text then return cjson.decode(text) end
end
"""

_NUMBERS = """
local most = 4095
local function places()
  local marks = redis.call('HGET', KEYS[1], 'taken')
  if marks then return marks end
  local made = {}
  for n = 1, most do made[n] = '0' end
  for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
    local taken = string.match(text, '"n":(%d+)')
    if taken then made[tonumber(taken)] = '1' end
  end
  return table.concat(made)
end
local function mark(marks, n, as)
  redis.call('HSET', KEYS[1], 'taken', string.sub(marks, 1, n - 1) .. as .. string.sub(marks, n + 1))
end
local function number(wanted)
  local marks = places()
  local n = wanted and string.sub(marks, wanted, wanted) == '0' and wanted or string.find(marks, '0', 1, true)
  if n then mark(marks, n, '1') end
  return n
end
"""
"""Numbers of Frontiers: a character for each says whether it is taken, so that nobody looks at all entries for one."""

_ROOM = """
local function make_room(lease, origin)
  local all, share, best, rank = {}, {}, nil, math.huge
  for _, text in ipairs(redis.call('HVALS', KEYS[1])) do
    if string.sub(text, 1, 1) == '{' then
      local entry = cjson.decode(text)
      entry.ip = entry.ip or ''
      all[#all + 1], share[entry.ip] = entry, (share[entry.ip] or 0) + 1
    end
  end
  for _, entry in ipairs(all) do
    local over, full, mine = entry.left > 0 or now >= entry.at + lease, (entry.has or 1) > 0, math.huge
    if over then
      mine = (entry.left > 0 and entry.left or entry.at + lease) + (full and 1e13 or 0)
    elseif not full and share[entry.ip] >= (share[origin] or 0) then
      mine = 1e14 + (4096 - share[entry.ip]) * 2e12 + entry.at
    end
    if mine < rank then best, rank = entry, mine end
  end
  if not best then return end
  redis.call('HDEL', KEYS[1], 'f:' .. best.id, 't:' .. best.id)
  return best
end
"""
"""The rules of ``directory.dispensable``."""

POLL = Script(
    _NOW
    + """
local all, found, signs, marks, told = redis.call('HGETALL', KEYS[1]), {}, {}, {}, {}
local epoch, gap, last = nil, '', 0
for i = 1, #all, 2 do
  local name, kind = all[i], string.sub(all[i], 1, 2)
  if kind == 'f:' then
    found[#found + 1] = all[i + 1]
  elseif kind == 'i:' then
    local seen = tonumber(all[i + 1])
    signs[name], last = seen, math.max(last, seen)
  elseif kind == 't:' then
    marks[string.sub(name, 3)] = all[i + 1]
  elseif name == 'epoch' then
    epoch = all[i + 1]
  elseif name == 'gap' then
    gap = all[i + 1]
  end
end
for name, seen in pairs(signs) do
  if last - seen > 3600000 then redis.call('HDEL', KEYS[1], name) end
end
redis.call('HSET', KEYS[1], 'i:' .. ARGV[2], string.format('%.0f', now))
if not epoch then
  epoch = ARGV[3]
  redis.call('HSET', KEYS[1], 'epoch', epoch)
end
if last > 0 and now - last > tonumber(ARGV[4]) then
  gap = string.format('%.0f %.0f', last, now)
  redis.call('HSET', KEYS[1], 'gap', gap)
end
for id, mark in pairs(marks) do
  if mark == epoch then told[#told + 1] = id end
end
return {now, epoch, '[' .. table.concat(found, ',') .. ']', gap, told}
"""
)
"""now, instance, epoch if there is none, ms without any sign of a Frontlas that make a gap -> server time,
epoch, JSON list of entries, the last gap (its first and last ms) or empty, Frontiers all of whose peers were
written since the epoch began."""

CLAIM = Script(
    _NOW
    + _NUMBERS
    + _ROOM
    + """
local id, sb, eb, boot, token = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local lease, stale, dead, origin = tonumber(ARGV[7]), ARGV[8], tonumber(ARGV[9]), ARGV[10]
local current = get(id)
if current and current.token == token then return {1, cjson.encode(current), cjson.encode(current)} end
if current and current.left == 0 and now < current.at + lease then
  local free = (boot ~= '' and current.boot == boot) or current.token == stale
  if not free then
    local instance = string.match(current.token, '^(.-)/')
    local seen = instance and redis.call('HGET', KEYS[1], 'i:' .. instance)
    free = not seen or now - tonumber(seen) > dead
  end
  if not free then return {0, cjson.encode(current)} end
end
local entry = {id = id, sb = sb, eb = eb, boot = boot, token = token, at = now, left = 0, up = 0}
local gone
entry.ip, entry.has, entry.ver, entry.up_at = origin, 0, ARGV[11], tonumber(ARGV[12])
if current then
  entry.has = current.has or 1
  local replaced = current.boot ~= boot or (boot == '' and current.up == 1)
  entry.n, entry.born, entry.gen, entry.re = current.n, current.born, current.gen, current.re
  if replaced then
    entry.born, entry.gen, entry.re = math.floor(now / 1000), current.gen + 1, 1 - current.re
  end
else
  entry.n, entry.born, entry.gen, entry.re = number(), 0, 1, 0
  if not entry.n then
    gone = make_room(lease, origin)
    if not gone then return {2} end
    entry.n = gone.n
  end
end
return {1, put(entry), current and cjson.encode(current) or '', gone and cjson.encode(gone) or ''}
"""
)
"""now, id, both addresses, boot id, token, lease ms, token known to be dead, ms after which an unseen instance is dead,
address that the link comes from, version and beginning of the process -> 1, entry, former entry, entry that made room
for it; 0, entry of the holder; 2 if the index is full."""

RENEW = Script(
    _NOW
    + _NUMBERS
    + """
local id, token = ARGV[2], ARGV[3]
local entry = get(id)
if not entry then
  entry = cjson.decode(ARGV[4])
  entry.n = number(entry.n)
  if not entry.n then return {2} end
elseif entry.token ~= token then
  return {0, cjson.encode(entry)}
end
entry.at, entry.left, entry.up, entry.has = now, 0, 0, tonumber(ARGV[5])
return {1, put(entry)}
"""
)
"""now, id, token, entry to write if there is none, number of peers -> 1, entry; 0, entry of another holder; 2 if there
is none and the index is full."""

RELEASE = Script(
    _NOW
    + """
local entry = get(ARGV[2])
if not entry or entry.token ~= ARGV[3] then return {0} end
entry.token, entry.left, entry.up, entry.has = '', now, tonumber(ARGV[4]), tonumber(ARGV[5])
return {1, put(entry)}
"""
)
"""now, id, token, whether the node's side hung up, number of peers -> 1, entry; 0 if somebody else holds it."""

FORGET = Script(
    _NUMBERS
    + """
local text = redis.call('HGET', KEYS[1], 'f:' .. ARGV[1])
if not text then return 0 end
local entry = cjson.decode(text)
if entry.at ~= tonumber(ARGV[2]) or entry.left ~= tonumber(ARGV[3]) then return 0 end
redis.call('HDEL', KEYS[1], 't:' .. ARGV[1])
mark(places(), entry.n, '0')
return redis.call('HDEL', KEYS[1], 'f:' .. ARGV[1])
"""
)
"""id, renewed, left -> 1 if the entry was still that one and is gone now."""

DROP_ALIVE = Script("""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
""")
"""token -> 1 if the life sign was ours and is gone now."""

_READ = """
local function read(text)
  local ok, old = pcall(cjson.decode, text)
  if not ok or type(old) ~= 'table' then return nil end
  old.update_time = old.update_time == nil and 0 or old.update_time
  return type(old.update_time) == 'number' and old or nil
end
"""

EDGE_WRITE = Script(
    _READ
    + """
local text = redis.call('GET', KEYS[1])
local mode = ARGV[4]
if text and mode ~= 'online' then
  local old = read(text)
  if old and old.frontier_id ~= ARGV[3] then return {3, text} end
  if old and (mode == 'beat' or old.addr == ARGV[6]) and old.update_time >= tonumber(ARGV[5]) then
    redis.call('EXPIRE', KEYS[1], ARGV[2])
    return {1}
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
if text then return {2, text} end
return {0}
"""
)
"""record, life, frontier id, mode, born, address -> 0 written, was missing; 1 (beat, sync) was there, life
renewed; 2 written over the given text; 3 (beat, sync) left alone, it names another Frontier."""

EDGE_SWAP = Script("""
local text = redis.call('GET', KEYS[1])
if text and text ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
""")
"""expected text, record, life -> 1 if written."""

EDGE_DROP = Script(
    _READ
    + """
local text = redis.call('GET', KEYS[1])
if not text then return false end
local old = read(text)
if old then
  if old.frontier_id ~= ARGV[1] then return false end
  if ARGV[2] ~= '' and old.addr ~= '' and old.addr ~= ARGV[2] then return 0 end
  if ARGV[3] ~= '0' and old.update_time >= tonumber(ARGV[3]) then return 0 end
end
redis.call('DEL', KEYS[1])
return text
"""
)
"""frontier id, address or empty, only if older than this second (0: any) -> the removed text; nil if there is none of
that Frontier, 0 if it is of another connection or younger and stays."""

SERVICE_WRITE = Script(
    _READ
    + """
local text = redis.call('HGET', KEYS[1], ARGV[1])
local write = not text or ARGV[4] ~= 'beat'
if not write then
  local old = read(text)
  write = not old or old.update_time < tonumber(ARGV[5])
end
if write then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
redis.call('EXPIRE', KEYS[1], ARGV[3])
if not write then return {1} end
if text then return {2, text} end
return {0}
"""
)
"""frontier id, record, life, mode, born -> 0 written, was missing; 1 was there; 2 written over the given
text."""

SERVICE_DROP = Script(
    _READ
    + """
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then return false end
local old = read(text)
if old then
  if ARGV[2] ~= '' and old.addr ~= '' and old.addr ~= ARGV[2] then return 0 end
  if ARGV[3] ~= '0' and old.update_time >= tonumber(ARGV[3]) then return 0 end
end
redis.call('HDEL', KEYS[1], ARGV[1])
return text
"""
)
"""frontier id, address or empty, only if older than this second (0: any) -> the removed text; nil if there is none of
that Frontier, 0 if it is of another connection or younger and stays."""

ALL = (POLL, CLAIM, RENEW, RELEASE, FORGET, DROP_ALIVE, EDGE_WRITE, EDGE_SWAP, EDGE_DROP, SERVICE_WRITE, SERVICE_DROP)
