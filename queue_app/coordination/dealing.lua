
-- ---- dealing: a worker gets its next shard when it is about to be free, and not before

local SOON_SECONDS = 3        -- a message that was dealt may be under way for so long
local PATIENCE_SECONDS = 30   -- or its worker is getting ready: loading a model
local LOOKED_AT = 8           -- so many shards or jobs are looked at for one that fits: constant work
local LEASES_LOOKED_AT = 1000
local RING_LOOKED_AT = 32     -- so many workers for the three behind whose leases one observes
local OBSERVERS = 3
local GONE_SECONDS = 60       -- a worker that was not heard of for so long is forgotten
local HOST_GONE_SECONDS = 86400
local DELAY_MOST = 600
local BOOK_MOST = 100         -- messages that a worker may have held: it holds one, but for acknowledgements that got lost

-- An object of JSON; an empty one where it is none, or too much of one.
local function object(text)
  local found, told = pcall(cjson.decode, #text <= TEXT_MOST and text or '')
  return found and type(told) == 'table' and told or {}
end

local function rests(job, worker, time)
  local trouble = call('HGET', key(job, 'trouble'), worker)
  if not trouble then return false end
  local left = (bounded(object(trouble).retry_at, COUNT_MOST) or 0) - time
  return left > 0 and left < DELAY_MOST -- a server's clock that was set back makes nobody wait for ever
end

-- The others would be through with all else that is left, and one of them with this shard, before this worker had
-- ended it.
local function is_too_slow(job, cost, pace)
  local name = key(job, 'job')
  local others, left = number(name, 'pace'), number(name, 'cost_total') - number(name, 'cost_done')
  local pace_of_one = others / math.max(1, call('ZCARD', key(job, 'running')))
  return others > 0 and cost / pace > (left - cost) / others + cost / pace_of_one
end

local function first_that_fits(job, indices, host, pace)
  local avoids = call('EXISTS', key(job, 'avoid')) == 1
  for _, index in ipairs(indices) do
    local shard = whole(index, INDEX_MOST, 0) and read(job, index) or garbage(key(job, 'pending') .. ' ' .. index)
    local is_avoided = avoids and call('HGET', key(job, 'avoid'), index) == host
    local is_slow = pace > 0 and is_too_slow(job, shard.cost, pace)
    if not is_avoided and not is_slow then return index end
  end
end

-- The next in order; of those that are left the last, which are the smallest, to a worker whose pace is not known
-- yet, while there are plenty, or to one that is too slow for the next.
local function pick(job, worker, host)
  local pending, pace = key(job, 'pending'), number(key(job, 'paces'), worker)
  local next_ones = call('ZRANGE', pending, 0, LOOKED_AT - 1)
  local was_taken_back = next_ones[1] and tonumber(call('ZSCORE', pending, next_ones[1])) < 0
  local last_ones = call('ZREVRANGE', pending, 0, LOOKED_AT - 1)
  if pace > 0 or was_taken_back then
    return first_that_fits(job, next_ones, host, pace) or first_that_fits(job, last_ones, host, pace)
  end
  local is_plenty = call('ZCARD', pending) > 4 * call('ZCARD', 'holdfast:seen')
  return first_that_fits(job, is_plenty and last_ones or next_ones, host, pace)
end

local function hand(job, index, worker, kind, time)
  call('ZREM', key(job, 'pending'), index)
  call('HSET', key(job, 'dealt'), index, worker)
  call('ZADD', 'holdfast:dealt:' .. kind, time, job .. ' ' .. index)
  call('HSET', 'holdfast:dealt_to', worker, job .. ' ' .. index .. ' ' .. string.format('%.3f', time))
  call('ZREM', 'holdfast:idle:' .. kind, worker)
  rank(job)
  return { worker, job, index }
end

-- A shard that was dealt to another is dealt to this worker where that one takes too long.
local function deal_over(job, index, worker, kind, host, time)
  require_sound(job)
  local age = math.abs(time - tonumber(call('ZSCORE', 'holdfast:dealt:' .. kind, job .. ' ' .. index)))
  local pace = number(key(job, 'paces'), worker)
  local is_running = call('HGET', key(job, 'job'), 'state') == 'running'
  if not is_running and age > PATIENCE_SECONDS then
    op.undeal(job, index) -- or what nobody may begin would be all that is looked at
  elseif is_running and not rests(job, worker, time) and age > (pace > 0 and SOON_SECONDS or PATIENCE_SECONDS)
    and first_that_fits(job, { index }, host, pace) then
    undeal(job, index)
    return hand(job, index, worker, kind, time)
  end
end

-- What was dealt and nobody began: its worker is gone or takes its time, or its message was lost.
local function dealt_in_vain(worker, kind, host, time)
  local name = 'holdfast:dealt:' .. kind
  for _, member in ipairs(call('ZRANGE', name, 0, LOOKED_AT - 1)) do
    local job, index = job_and_index(member)
    local to = job and redis.pcall('HGET', key(job, 'dealt'), index)
    if type(to) ~= 'string' then
      if not job then drop(name) end
      call('ZREM', name, member)
    else
      local dealt = contained(job, deal_over, index, worker, kind, host, time)
      if dealt then return dealt end
      if call('HEXISTS', 'holdfast:unsound', job) == 1 then call('ZREM', name, member) end
    end
  end
end

-- A message was taken or lost, and the shard not begun: it waits for another.
function op.undeal(job, index)
  local shard = read(job, index)
  if not shard or shard.state ~= 'p' or call('HEXISTS', key(job, 'dealt'), index) == 0 then return { 'refused' } end
  undeal(job, index)
  call('ZADD', key(job, 'pending'), index - FIRST, index)
  rank(job)
  return { 'ok' }
end

-- What was dealt to a worker last: job, index and when; nothing where nothing was.
local function dealt_to(worker)
  local dealt = call('HGET', 'holdfast:dealt_to', worker)
  if not dealt then return end
  local member, at = string.match(#dealt <= 100 and dealt or '', '^(%S+ %S+) (%S+)$')
  local job, index = job_and_index(member or '')
  at = bounded(at, COUNT_MOST)
  if job and at then return job, index, at end
  call('HDEL', 'holdfast:dealt_to', worker)
  drop('holdfast:dealt_to')
end

local function undeal_of(job, index)
  require_sound(job)
  op.undeal(job, index)
end

-- It is to be had by others again.
local function take_back(worker, job, index)
  contained(job, undeal_of, index)
  call('HDEL', 'holdfast:dealt_to', worker)
end

local function deal_of(job, worker, kind, host, time)
  require_sound(job)
  local state, of_kind = unpack(call('HMGET', key(job, 'job'), 'state', 'kind'))
  if state ~= 'running' or of_kind ~= kind then
    call('ZREM', 'holdfast:ready:' .. kind, job)
    return nil
  end
  local index = not rests(job, worker, time) and pick(job, worker, host)
  return index and hand(job, index, worker, kind, time)
end

-- One shard for a worker that is free, as { worker, job, index }; nil when there is none for it.
local function deal(worker, kind, host)
  local time, job, index, at = now(), dealt_to(worker)
  if job then
    -- What waits in a public queue that nobody serves waits there however long it takes.
    local still_waits = host == '' and redis.pcall('HGET', key(job, 'dealt'), index) == worker
    if still_waits or math.abs(time - at) < SOON_SECONDS then return nil end
    take_back(worker, job, index)
  end
  for _, ready in ipairs(call('ZRANGE', 'holdfast:ready:' .. kind, 0, LOOKED_AT - 1)) do
    if not is_job(ready) then
      call('ZREM', 'holdfast:ready:' .. kind, ready)
      drop('holdfast:ready:' .. kind)
    else
      local dealt = contained(ready, deal_of, worker, kind, host, time)
      if dealt then return dealt end
    end
  end
  return dealt_in_vain(worker, kind, host, time)
end

-- For a worker that is about to be free.
function op.deal(worker, kind, host)
  return deal(worker, kind, host) or {}
end

-- What a worker told of itself, as far as it can be read.
local function entry_of(worker)
  local owner = object(call('HGET', 'holdfast:workers', worker) or '').owner
  return type(owner) == 'string' and owner or nil
end

local function seen_at(worker) return bounded(call('ZSCORE', 'holdfast:seen', worker), COUNT_MOST) or 0 end

-- Shards for workers that wait, `most` of them: three answers each, as `deal` gives them.
function op.deal_idle(kind, most)
  local found, time, idle = {}, now(), 'holdfast:idle:' .. kind
  for _, worker in ipairs(call('ZRANGE', idle, 0, most - 1)) do
    local owner = is_worker(worker) and entry_of(worker)
    if owner and math.abs(time - seen_at(worker)) < PATIENCE_SECONDS then
      for _, part in ipairs(deal(worker, kind, host_of(owner)) or {}) do found[#found + 1] = part end
    else
      call('ZREM', idle, worker)
      if not is_worker(worker) then drop(idle) end
    end
  end
  return found
end

-- ---- workers

-- What was dealt to it goes back, and its queue with it: a message there is for nobody.
local function forget_worker(worker)
  local job, index = dealt_to(worker)
  if job then take_back(worker, job, index) end
  local owner = entry_of(worker)
  if owner then redis.pcall('ZREM', 'holdfast:on_host:' .. host_of(owner), worker) end
  for _, kind in ipairs({ 'cpu', 'cuda' }) do
    call('ZREM', 'holdfast:idle:' .. kind, worker)
    call('ZREMRANGEBYSCORE', 'holdfast:hosts:' .. kind, '-inf', now() - HOST_GONE_SECONDS)
  end
  call('HDEL', 'holdfast:workers', worker)
  call('HDEL', 'holdfast:drain', worker)
  call('HDEL', 'holdfast:held_by', worker)
  call('HDEL', 'holdfast:held_before', worker)
  call('ZREM', 'holdfast:ring', worker)
  call('ZREM', 'holdfast:seen', worker)
  if not is_worker(worker) then return drop('holdfast:ring') end
  call('UNLINK', worker, '_kombu.binding.' .. worker, 'holdfast:unacked:' .. worker, 'holdfast:unacked_index:' .. worker,
    'holdfast:unacked_mutex:' .. worker)
end

-- What kombu wrote down of the messages that a worker held (kombu_repairs.py), each of `bytes_most` at most.
function op.take_book(worker, bytes_most)
  local book, found = 'holdfast:unacked:' .. worker, {}
  if call('TYPE', book).ok == 'hash' and call('HLEN', book) <= BOOK_MOST then
    for _, text in ipairs(call('HVALS', book)) do
      if #text <= tonumber(bytes_most) then found[#found + 1] = text end
    end
  end
  call('UNLINK', book, 'holdfast:unacked_index:' .. worker, 'holdfast:unacked_mutex:' .. worker)
  return found
end

function op.leave(worker)
  forget_worker(worker)
  return { 'ok' }
end

local function wake(job, index)
  require_sound(job)
  local shard = read(job, index)
  if shard and shard.state == 'p' then
    call('ZADD', key(job, 'pending'), index - FIRST, index)
    rank(job)
  end
end

-- Shards whose pause is over may be dealt. So may those whose time lies too far ahead: the clock was set back.
local function wake_delayed(time)
  for _, range in ipairs({ { '-inf', time }, { time + DELAY_MOST, '+inf' } }) do
    for _, member in ipairs(call('ZRANGEBYSCORE', 'holdfast:delayed', range[1], range[2], 'LIMIT', 0, LOOKED_AT)) do
      local job, index = job_and_index(member)
      call('ZREM', 'holdfast:delayed', member)
      if job then contained(job, wake, index) else drop('holdfast:delayed') end
    end
  end
end

-- The workers before this one on the ring, nearest first.
local function workers_before(own)
  local found = call('ZREVRANGEBYSCORE', 'holdfast:ring', '(' .. own, '-inf', 'WITHSCORES', 'LIMIT', 0, RING_LOOKED_AT)
  if #found < 2 * RING_LOOKED_AT then
    local rest = call('ZREVRANGEBYSCORE', 'holdfast:ring', '+inf', '(' .. own, 'WITHSCORES', 'LIMIT', 0, RING_LOOKED_AT)
    for _, part in ipairs(rest) do found[#found + 1] = part end
  end
  return found
end

-- The place of the third worker before this one that lives: what lies between is this one's to observe. Those that
-- are gone for good are forgotten on the way.
local function reach(own, time)
  local alive, before = 0, workers_before(own)
  for at = 1, #before, 2 do
    local silent = math.abs(time - seen_at(before[at]))
    if silent > GONE_SECONDS or not is_worker(before[at]) then
      forget_worker(before[at])
    elseif silent < PATIENCE_SECONDS then
      alive = alive + 1
      if alive == OBSERVERS then return bounded(before[at + 1], COUNT_MOST) end
    end
  end
  return #before >= 2 * RING_LOOKED_AT and bounded(before[#before], COUNT_MOST) or nil -- nil: so few observe everything
end

-- Some at a time, which is more than three live workers can hold for each that observes: what is no lease is dropped
-- as it is met.
local function leases_between(first, last)
  local function some(least, most)
    return call('ZRANGEBYSCORE', 'holdfast:leases', least, most, 'LIMIT', 0, LEASES_LOOKED_AT)
  end
  if not first then return some('-inf', '+inf') end
  if first < last then return some('(' .. first, last) end
  local found = some('(' .. first, '+inf')
  for _, member in ipairs(some('-inf', last)) do found[#found + 1] = member end
  return found
end

-- Leases of this host's own workers: it can see at once whether a process is gone.
local function leases_on_host(host, time)
  mend('holdfast:on_host:' .. host, 'zset')
  call('ZREMRANGEBYSCORE', 'holdfast:on_host:' .. host, '-inf', time - GONE_SECONDS)
  local workers = call('ZREVRANGE', 'holdfast:on_host:' .. host, 0, RING_LOOKED_AT)
  if #workers == 0 then return {} end
  local found = call('HMGET', 'holdfast:held_by', unpack(workers))
  for _, before in ipairs(call('HMGET', 'holdfast:held_before', unpack(workers))) do
    if before then found[#found + 1] = before end
  end
  return found
end

-- A request to leave is for the process that had the name when it was made.
local function forget_older_drain(worker, entry)
  if call('HEXISTS', 'holdfast:drain', worker) == 0 then return end
  if entry_of(worker) ~= object(entry).owner then
    call('HDEL', 'holdfast:drain', worker)
  end
end

-- What an observer has to know of a lease: beat, token, owner and the holder's signature; nothing where there is none.
-- A lease whose token is not that of its shard was put there by somebody else, and nobody has signed it.
local function lease_seen(job, index)
  local held, shard, beat = lease(job, index), read(job, index), call('HGET', key(job, 'beats'), index)
  if not (held and shard and beat) then return nil end
  beat = whole(beat, COUNT_MOST, 0) or garbage(key(job, 'beats') .. ' ' .. index)
  local is_current = shard.state == 'r' and string.format('%.0f', shard.token) == held.token
  local signature = is_current and call('HGET', key(job, 'signed'), index) or ''
  return { string.format('%.0f', beat), held.token, held.owner, #signature <= 200 and signature or '' }
end

local function tell_lease(member, found)
  local job, index = job_and_index(member)
  local seen = job and contained(job, lease_seen, index)
  if seen then
    for _, part in ipairs({ job, index, unpack(seen) }) do found[#found + 1] = part end
  else
    call('ZREM', 'holdfast:leases', member)
    if not job then drop('holdfast:leases') end
  end
end

local function relist(job)
  require_sound(job)
  for _, index in ipairs(call('ZRANGE', key(job, 'running'), 0, LOOKED_AT - 1)) do
    if whole(index, INDEX_MOST, 0) then call('ZADD', 'holdfast:leases', place(job .. ' ' .. index), job .. ' ' .. index) end
  end
end

-- Of one job, whichever it is, the oldest leases are listed again: what is not listed nobody observes.
local function relist_one()
  local job = call('SRANDMEMBER', 'holdfast:unended')
  if job and is_job(job) then return contained(job, relist) end
  if job then
    call('SREM', 'holdfast:unended', job)
    drop('holdfast:unended')
  end
end

local function num_dropped()
  local sum = 0
  for name in pairs(SHARED) do sum = sum + (bounded(call('HGET', 'holdfast:dropped', name), COUNT_MOST, 0) or 0) end
  return string.format('%.0f', sum)
end

local function some_unsound()
  local found = {}
  for _, job in ipairs(call('HRANDFIELD', 'holdfast:unsound', LOOKED_AT)) do
    if is_job(job) then found[#found + 1] = job else call('HDEL', 'holdfast:unsound', job) end
  end
  return table.concat(found, ' ')
end

-- In how many of these queues a message waits; a key of another type is none.
local function waiting_in(...)
  local found = 0
  for _, name in ipairs({ ... }) do if call('TYPE', name).ok == 'list' then found = found + 1 end end
  return found
end

-- The worker lives. Answers what else its parent has to know, so that it need not ask: how it was asked to leave,
-- how many of its queues, its own and that of its device, hold a message, the fleet's id, some unsound jobs, how much was
-- dropped; and the leases that it observes, six answers each: job, index, beat, token, owner, signature.
function op.tick(worker, kind, host, entry, queue)
  local time, own = now(), place(worker)
  forget_older_drain(worker, entry)
  call('HSET', 'holdfast:workers', worker, entry)
  call('ZADD', 'holdfast:seen', time, worker)
  call('ZADD', 'holdfast:ring', own, worker)
  call('ZADD', 'holdfast:hosts:' .. kind, time, host)
  mend('holdfast:on_host:' .. host, 'zset')
  call('ZADD', 'holdfast:on_host:' .. host, time, worker)
  wake_delayed(time)
  relist_one()
  local members = {}
  for _, member in ipairs(leases_between(reach(own, time), own)) do members[member] = true end
  for _, member in ipairs(leases_on_host(host, time)) do if member then members[member] = true end end
  local drain = call('HGET', 'holdfast:drain', worker) or ''
  local found = { #drain <= 300 and drain or '', waiting_in(worker, queue), call('GET', 'holdfast:fleet') or '',
    some_unsound(), num_dropped() }
  for member in pairs(members) do tell_lease(member, found) end
  return found
end

-- A worker without anything to do: one shard, as `deal` gives it, or nothing, and then it waits for one.
function op.ask(worker, kind, host)
  local dealt = deal(worker, kind, host)
  if dealt then return dealt end
  call('ZADD', 'holdfast:idle:' .. kind, 'NX', now(), worker)
  return {}
end

-- ---- one operation

-- What is called without end, and touches nothing that all share.
local IS_FREQUENT = { beat = true, list = true }
local OF_ALL = {
  take_book = true, deal = true, deal_idle = true, leave = true, tick = true, ask = true, forget = true, note_unsound = true,
}

local function run()
  local operation, job = ARGV[1], ARGV[2]
  if not IS_FREQUENT[operation] then mend_shared() end
  if not OF_ALL[operation] then require_sound(job) end
  return op[operation](unpack(ARGV, 2))
end

local ran, answer = pcall(run)
if ran then return answer end
local where = garbage_in(answer)
if not where then return redis.error_reply(type(answer) == 'table' and answer.err or tostring(answer)) end
if not OF_ALL[ARGV[1]] then note_unsound(ARGV[2], where) end
return redis.error_reply('GARBAGE ' .. where)
