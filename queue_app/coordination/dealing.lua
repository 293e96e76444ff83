
-- ---- dealing: a worker gets its next shard when it is about to be free, and not before

local SOON_SECONDS = 3        -- a message that was dealt may be under way for so long
local PATIENCE_SECONDS = 30   -- or its worker is getting ready: loading a model
local LOOKED_AT = 8           -- so many shards or jobs are looked at for one that fits: constant work
local RING_LOOKED_AT = 32     -- so many workers for the three behind whose leases one observes
local OBSERVERS = 3
local GONE_SECONDS = 60       -- a worker that was not heard of for so long is forgotten
local HOST_GONE_SECONDS = 86400
local DELAY_MOST = 600

local function rests(job, worker, time)
  local trouble = call('HGET', key(job, 'trouble'), worker)
  if not trouble then return false end
  local found, told = pcall(cjson.decode, trouble)
  local left = found and (tonumber(told.retry_at) or 0) - time or 0
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
    local is_avoided = avoids and call('HGET', key(job, 'avoid'), index) == host
    local is_slow = pace > 0 and is_too_slow(job, read(job, index).cost, pace)
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

-- What was dealt and nobody began: its worker is gone or takes its time, or its message was lost.
local function dealt_in_vain(worker, kind, host, time)
  for _, member in ipairs(call('ZRANGE', 'holdfast:dealt:' .. kind, 0, LOOKED_AT - 1)) do
    local job, index = string.match(member, '^(%S+) (%S+)$')
    local to = call('HGET', key(job, 'dealt'), index)
    if not to then
      call('ZREM', 'holdfast:dealt:' .. kind, member)
    else
      local age = math.abs(time - tonumber(call('ZSCORE', 'holdfast:dealt:' .. kind, member)))
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

-- One shard for a worker that is free, as { worker, job, index }; nil when there is none for it.
local function deal(worker, kind, host)
  local time, dealt = now(), call('HGET', 'holdfast:dealt_to', worker)
  if dealt then
    local job, index, at = unpack(words(dealt))
    -- What waits in a public queue that nobody serves waits there however long it takes.
    local still_waits = host == '' and call('HGET', key(job, 'dealt'), index) == worker
    if still_waits or math.abs(time - tonumber(at)) < SOON_SECONDS then return nil end
    op.undeal(job, index)
    call('HDEL', 'holdfast:dealt_to', worker)
  end
  for _, job in ipairs(call('ZRANGE', 'holdfast:ready:' .. kind, 0, LOOKED_AT - 1)) do
    local index = not rests(job, worker, time) and pick(job, worker, host)
    if index then return hand(job, index, worker, kind, time) end
  end
  return dealt_in_vain(worker, kind, host, time)
end

-- For a worker that is about to be free.
function op.deal(worker, kind, host)
  return deal(worker, kind, host) or {}
end

-- Shards for workers that wait, `most` of them: three answers each, as `deal` gives them.
function op.deal_idle(kind, most)
  local found, time, idle = {}, now(), 'holdfast:idle:' .. kind
  for _, worker in ipairs(call('ZRANGE', idle, 0, most - 1)) do
    local seen = tonumber(call('ZSCORE', 'holdfast:seen', worker) or '0')
    local entry = call('HGET', 'holdfast:workers', worker)
    if entry and math.abs(time - seen) < PATIENCE_SECONDS then
      for _, part in ipairs(deal(worker, kind, host_of(cjson.decode(entry).owner)) or {}) do found[#found + 1] = part end
    else
      call('ZREM', idle, worker)
    end
  end
  return found
end

-- ---- workers

-- What was dealt to it goes back, and its queue with it: a message there is for nobody.
local function forget_worker(worker)
  local dealt = call('HGET', 'holdfast:dealt_to', worker)
  if dealt then
    local job, index = unpack(words(dealt))
    op.undeal(job, index)
    call('HDEL', 'holdfast:dealt_to', worker)
  end
  local entry = call('HGET', 'holdfast:workers', worker)
  if entry then call('ZREM', 'holdfast:on_host:' .. host_of(cjson.decode(entry).owner), worker) end
  for _, kind in ipairs({ 'cpu', 'cuda' }) do
    call('ZREM', 'holdfast:idle:' .. kind, worker)
    call('ZREMRANGEBYSCORE', 'holdfast:hosts:' .. kind, '-inf', now() - HOST_GONE_SECONDS)
  end
  call('HDEL', 'holdfast:workers', worker)
  call('HDEL', 'holdfast:drain', worker)
  call('HDEL', 'holdfast:held_by', worker)
  call('ZREM', 'holdfast:ring', worker)
  call('ZREM', 'holdfast:seen', worker)
  call('UNLINK', worker, '_kombu.binding.' .. worker, 'holdfast:unacked:' .. worker, 'holdfast:unacked_index:' .. worker,
    'holdfast:unacked_mutex:' .. worker)
end

function op.leave(worker)
  forget_worker(worker)
  return { 'ok' }
end

-- Shards whose pause is over may be dealt. So may those whose time lies too far ahead: the clock was set back.
local function wake_delayed(time)
  for _, range in ipairs({ { '-inf', time }, { time + DELAY_MOST, '+inf' } }) do
    for _, member in ipairs(call('ZRANGEBYSCORE', 'holdfast:delayed', range[1], range[2], 'LIMIT', 0, LOOKED_AT)) do
      local job, index = string.match(member, '^(%S+) (%S+)$')
      call('ZREM', 'holdfast:delayed', member)
      local shard = read(job, index)
      if shard and shard.state == 'p' then
        call('ZADD', key(job, 'pending'), index - FIRST, index)
        rank(job)
      end
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
    local silent = math.abs(time - tonumber(call('ZSCORE', 'holdfast:seen', before[at]) or '0'))
    if silent > GONE_SECONDS then
      forget_worker(before[at])
    elseif silent < PATIENCE_SECONDS then
      alive = alive + 1
      if alive == OBSERVERS then return tonumber(before[at + 1]) end
    end
  end
  return #before >= 2 * RING_LOOKED_AT and tonumber(before[#before]) or nil -- nil: so few observe everything
end

local function leases_between(first, last)
  if not first then return call('ZRANGE', 'holdfast:leases', 0, -1) end
  if first < last then return call('ZRANGEBYSCORE', 'holdfast:leases', '(' .. first, last) end
  local found = call('ZRANGEBYSCORE', 'holdfast:leases', '(' .. first, '+inf')
  for _, member in ipairs(call('ZRANGEBYSCORE', 'holdfast:leases', '-inf', last)) do found[#found + 1] = member end
  return found
end

-- Leases of this host's own workers: it can see at once whether a process is gone.
local function leases_on_host(host, time)
  call('ZREMRANGEBYSCORE', 'holdfast:on_host:' .. host, '-inf', time - GONE_SECONDS)
  local workers = call('ZRANGE', 'holdfast:on_host:' .. host, 0, RING_LOOKED_AT)
  return call('HMGET', 'holdfast:held_by', unpack(workers))
end

-- A request to leave is for the process that had the name when it was made.
local function forget_older_drain(worker, entry)
  if call('HEXISTS', 'holdfast:drain', worker) == 0 then return end
  local known = call('HGET', 'holdfast:workers', worker)
  if not known or cjson.decode(known).owner ~= cjson.decode(entry).owner then
    call('HDEL', 'holdfast:drain', worker)
  end
end

-- The worker lives. Answers what else its parent has to know, so that it need not ask: whether it was asked to leave,
-- how many of its queues, its own and that of its device, hold a message, the fleet's id; and the leases that it observes, five
-- answers each: job, index, beat, token, owner.
function op.tick(worker, kind, host, entry, queue)
  local time, own = now(), place(worker)
  forget_older_drain(worker, entry)
  call('HSET', 'holdfast:workers', worker, entry)
  call('ZADD', 'holdfast:seen', time, worker)
  call('ZADD', 'holdfast:ring', own, worker)
  call('ZADD', 'holdfast:hosts:' .. kind, time, host)
  call('ZADD', 'holdfast:on_host:' .. host, time, worker)
  wake_delayed(time)
  local members = {}
  for _, member in ipairs(leases_between(reach(own, time), own)) do members[member] = true end
  for _, member in ipairs(leases_on_host(host, time)) do if member then members[member] = true end end
  local found = { call('HEXISTS', 'holdfast:drain', worker), call('EXISTS', worker, queue), call('GET', 'holdfast:fleet') or '' }
  for member in pairs(members) do
    local job, index = string.match(member, '^(%S+) (%S+)$')
    local held, beat = lease(job, index), call('HGET', key(job, 'beats'), index)
    if held and beat then
      for _, part in ipairs({ job, index, beat, held.token, held.owner }) do found[#found + 1] = part end
    else
      call('ZREM', 'holdfast:leases', member)
    end
  end
  return found
end

-- A worker without anything to do: one shard, as `deal` gives it, or nothing, and then it waits for one.
function op.ask(worker, kind, host)
  local dealt = deal(worker, kind, host)
  if dealt then return dealt end
  call('ZADD', 'holdfast:idle:' .. kind, 'NX', now(), worker)
  return {}
end

return op[ARGV[1]](unpack(ARGV, 2))
