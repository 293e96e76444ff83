-- What is believed of what the server holds: nothing. Whoever may write to it may have put it there.
--
-- An operation looks at what it is about to change before it changes anything, and answers GARBAGE with the key
-- where that cannot be ours. What is wrong with a job is that job's alone: it is noted in holdfast:unsound, dealt no
-- more, and made known anew from its directory (reconciler.py). An odd member of what all share is dropped and counted.
--   holdfast:unsound           hash job -> the key that is garbage
--   holdfast:dropped           hash shared key -> how many odd members of it were dropped

local COUNT_MOST = 1e15      -- of a shard or a worker; a job's sums stay below 1e18
local SUM_MOST = 1e18
local INDEX_MOST = 1e7
local AHEAD_MS = 30 * 86400 * 1000  -- a token that is so far ahead of the clock was not given by us
local PACE_MOST = 1e15
local TEXT_MOST = 4096       -- of what is decoded here, in bytes
local UNSOUND_MOST = 1000

local call = redis.call

local function now()
  local time = call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function key(job, name) return 'holdfast:{' .. job .. '}:' .. name end

local function garbage(where) error({ garbage = where }, 0) end

-- A number from `least` to `most`; nil for all else, as NaN, infinity and 10 MB of digits are.
local function bounded(text, most, least)
  local value = text and #tostring(text) <= 40 and tonumber(text)
  if value and value >= (least or -most) and value <= most then return value end
end

local function whole(text, most, least)
  local value = bounded(text, most, least)
  if value and value == math.floor(value) and not string.find(tostring(text), '[xXnN]') then return value end
end

local function is_job(text)
  return type(text) == 'string' and #text == 21 and string.find(text, '^[0-9a-f]+%-[0-9a-f]+$') == 1
    and string.sub(text, 13, 13) == '-'
end

local function is_worker(text)
  return #text <= 300 and string.find(text, '^[%w_.%-]+@[^%s|]+$') == 1
end

-- The job and the index of a member of what all share; nothing where it names none.
local function job_and_index(member)
  local job, index = string.match(#member <= 40 and member or '', '^(%S+) (%d+)$')
  if job and is_job(job) and tonumber(index) <= INDEX_MOST then return job, index end
end

local function drop(name) redis.pcall('HINCRBY', 'holdfast:dropped', name, 1) end

-- ---- a job

local OF_A_JOB = {
  job = 'hash', shards = 'hash', pending = 'zset', dealt = 'hash', running = 'zset', held = 'hash', beats = 'hash',
  signed = 'hash', figures = 'hash', failed = 'set', errors = 'hash', tried = 'hash', avoid = 'hash', paces = 'hash',
  trouble = 'hash', quarantine = 'hash', samples = 'list', events = 'list',
}
local JOB_STATES = { ingesting = 1, running = 1, paused = 1, done = 1, failed = 1, cancelled = 1 }
local KINDS = { cpu = 1, cuda = 1 }
local SUMS = { 'pending', 'running', 'done', 'failed', 'num_shards', 'sequences_total', 'sequences_done',
  'sequences_quarantined', 'cost_total', 'cost_done' }

local function token_most() return now() * 1000 + AHEAD_MS end

local function require_field(name, field, is_fine)
  if not is_fine then garbage(name .. ' ' .. field) end
end

-- Everything of the job has the type that it should have, and its record holds what can be counted with.
local function require_sound(job)
  if not is_job(job) then garbage('no id of a job') end
  for part, kind in pairs(OF_A_JOB) do
    local found = call('TYPE', key(job, part)).ok
    if found ~= kind and found ~= 'none' then garbage(key(job, part)) end
  end
  local name = key(job, 'job')
  local state, kind, priority, most, epoch, pace = unpack(call('HMGET', name, 'state', 'kind', 'priority',
    'max_workers', 'epoch', 'pace'))
  require_field(name, 'state', not state or JOB_STATES[state])
  require_field(name, 'kind', not kind or KINDS[kind])
  require_field(name, 'state', (not state) == (not kind))
  require_field(name, 'priority', not priority or whole(priority, 1e9))
  require_field(name, 'max_workers', not most or most == '' or whole(most, COUNT_MOST, 0))
  require_field(name, 'epoch', not epoch or whole(epoch, token_most(), 0))
  require_field(name, 'pace', not pace or bounded(pace, SUM_MOST))
  for at, text in ipairs(call('HMGET', name, unpack(SUMS))) do
    require_field(name, SUMS[at], not text or string.find(text, '^%-?%d+$') and bounded(text, SUM_MOST))
  end
end

-- Nobody is dealt of it any more, until it is made known anew.
local function note_unsound(job, where)
  if not is_job(job) then return end
  if redis.pcall('HLEN', 'holdfast:unsound') == UNSOUND_MOST then return end
  redis.pcall('HSET', 'holdfast:unsound', job, string.sub(where, 1, 200))
  for kind in pairs(KINDS) do redis.pcall('ZREM', 'holdfast:ready:' .. kind, job) end
end

-- The server's user lacks a right to what was called: the words of Redis 7.0, and of later ones and Valkey.
local function is_missing_right(text)
  return string.find(text, "The user executing the script can't", 1, true) or string.find(text, 'ACL failure in script', 1, true)
end

-- The key that an operation stopped at; nil where the server itself refused, as one that is full does.
local function garbage_in(answer)
  local function shown(where) return (string.gsub(string.sub(where, 1, 200), '[^%w%p ]', '?')) end
  if type(answer) == 'table' and answer.garbage then return shown(answer.garbage) end
  local text = type(answer) == 'table' and answer.err or tostring(answer)
  if is_missing_right(text) then return nil end
  local code = string.match(text, '^%-?(%u[%u%d]+) ') or string.match(text, ': (%u%u%u+) ')
  if code and code ~= 'ERR' and code ~= 'WRONGTYPE' then return nil end
  return shown(text)
end

-- The answer of `work` on one job of several; nil where that one's garbage stopped it: others are served all the same.
local function contained(job, work, ...)
  local ok, answer = pcall(work, job, ...)
  if ok then return answer end
  local where = garbage_in(answer)
  if not where then error(answer, 0) end
  note_unsound(job, where)
end

-- ---- what all share

local SHARED = {
  ['holdfast:dealt_to'] = 'hash', ['holdfast:delayed'] = 'zset', ['holdfast:leases'] = 'zset',
  ['holdfast:held_by'] = 'hash', ['holdfast:held_before'] = 'hash', ['holdfast:ring'] = 'zset', ['holdfast:seen'] = 'zset',
  ['holdfast:workers'] = 'hash', ['holdfast:drain'] = 'hash', ['holdfast:unended'] = 'set', ['holdfast:unexported'] = 'set', ['holdfast:jobs'] = 'hash',
  ['holdfast:unsound'] = 'hash', ['holdfast:dropped'] = 'hash', ['holdfast:fleet'] = 'string',
}
for kind in pairs(KINDS) do
  for _, name in ipairs({ 'ready', 'idle', 'dealt', 'hosts' }) do SHARED['holdfast:' .. name .. ':' .. kind] = 'zset' end
end

local function mend(name, kind)
  local found = call('TYPE', name).ok
  if found ~= kind and found ~= 'none' then
    call('UNLINK', name)
    drop(name)
  end
end

-- What has another type than it should have holds nothing of ours: it is an index, and filled again.
local function mend_shared()
  for name, kind in pairs(SHARED) do mend(name, kind) end
end
