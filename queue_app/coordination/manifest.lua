
-- ---- making a job known

-- Shards from `first` on, each "records cost", or "records cost sequences quarantined" where it is done. What is
-- known already stays as it is.
function op.add(job, first, ...)
  local name, time = key(job, 'job'), now()
  -- Tokens begin at the time: a server that lost its data must not give one again that is still held.
  call('HSETNX', name, 'epoch', string.format('%.0f', time * 1000))
  local indices, new = {}, { ... }
  for offset = 1, #new do indices[offset] = tostring(tonumber(first) + offset - 1) end
  local known = call('HMGET', key(job, 'shards'), unpack(indices))
  local records, waiting, sums = {}, {}, { pending = 0, done = 0, cost = 0, cost_done = 0, sequences = 0, quarantined = 0 }
  for offset, text in ipairs(new) do
    if not known[offset] then
      local it = words(text)
      local is_done = it[3] ~= nil
      local shard = {
        state = is_done and 'd' or 'p', num_records = tonumber(it[1]), cost = tonumber(it[2]), token = 0, attempts = 0,
        batches = 0, sequences = tonumber(it[3] or '0'), quarantined = tonumber(it[4] or '0'),
        cost_done = is_done and tonumber(it[2]) or 0,
      }
      records[#records + 1], records[#records + 2] = indices[offset], encode(shard)
      if not is_done then waiting[#waiting + 1], waiting[#waiting + 2] = indices[offset], indices[offset] end
      sums[STATES[shard.state]] = sums[STATES[shard.state]] + 1
      sums.cost, sums.cost_done = sums.cost + shard.cost, sums.cost_done + shard.cost_done
      sums.sequences, sums.quarantined = sums.sequences + shard.sequences, sums.quarantined + shard.quarantined
    end
  end
  if #records > 0 then call('HSET', key(job, 'shards'), unpack(records)) end
  if #waiting > 0 then call('ZADD', key(job, 'pending'), unpack(waiting)) end
  for field, sum in pairs({
    pending = sums.pending, done = sums.done, cost_total = sums.cost, cost_done = sums.cost_done,
    sequences_done = sums.sequences, sequences_quarantined = sums.quarantined,
  }) do call('HINCRBY', name, field, string.format('%.0f', sum)) end
  return { 'ok' }
end

-- The end of ingest: from here on shards are dealt.
function op.open(job)
  if call('HGET', key(job, 'job'), 'state') == 'ingesting' then call('HSET', key(job, 'job'), 'state', 'running') end
  settle(job)
  return { 'ok', call('HGET', key(job, 'job'), 'state') }
end

-- ---- the holder's side

-- Attempts at a shard come to an end, but not all of them on one host where there are several. Answers "elsewhere"
-- for a host that had its share, and "exhausted" when the shard has failed.
local function judge_attempts(job, index, shard, host, attempt_limit)
  if shard.attempts < tonumber(attempt_limit) then return nil end
  local tried = call('HGET', key(job, 'tried'), index) or host
  local kind = call('HGET', key(job, 'job'), 'kind')
  local hosts = call('ZREVRANGE', 'holdfast:hosts:' .. kind, 0, 1, 'WITHSCORES')
  local others = false
  for at = 1, #hosts, 2 do
    local seen = bounded(hosts[at + 1], COUNT_MOST)
    if hosts[at] ~= tried and seen and math.abs(now() - seen) < 60 then others = true end
  end
  if not string.find(tried, ' ', 1, true) then
    if host ~= tried then
      shard.attempts = 0
      call('HDEL', key(job, 'avoid'), index)
      return nil
    elseif others then
      call('HSET', key(job, 'avoid'), index, host)
      undeal(job, index)
      call('ZADD', key(job, 'pending'), index - FIRST, index)
      rank(job)
      return 'elsewhere'
    end
  end
  local reason = call('HGET', key(job, 'errors'), index) or ''
  tell(job, 'failed', 'shard ' .. index .. ' given up after ' .. attempt_limit .. ' attempts without progress: ' .. reason)
  move(job, index, shard, 'f')
  settle(job)
  return 'exhausted'
end

local function note_host(job, index, host)
  local tried = call('HGET', key(job, 'tried'), index)
  if not tried or #tried > TEXT_MOST then call('HSET', key(job, 'tried'), index, host)
  elseif not string.find(' ' .. tried .. ' ', ' ' .. host .. ' ', 1, true) then
    call('HSET', key(job, 'tried'), index, tried .. ' ' .. host)
  end
end

function op.acquire(job, index, owner, floor, request, attempt_limit)
  local name, shard = key(job, 'job'), read(job, index)
  local job_state = call('HGET', name, 'state')
  if not shard or not job_state then return { 'unknown' } end
  if shard.state == 'r' then
    local held = lease(job, index) or garbage(key(job, 'held') .. ' ' .. index)
    if held.request == request then return { 'ok', held.token } end
    return { 'held', held.token, held.owner }
  end
  if shard.state == 'd' or shard.state == 'f' and job_state ~= 'cancelled' then return { STATES[shard.state] } end
  if job_state ~= 'running' then
    if call('HEXISTS', key(job, 'dealt'), index) == 1 then -- its message was taken, and nothing came of it
      undeal(job, index)
      call('ZADD', key(job, 'pending'), index - FIRST, index)
      rank(job)
    end
    return { job_state }
  end
  local worker = worker_of(owner)
  local pace = number(key(job, 'paces'), worker)
  local refused = judge_attempts(job, index, shard, host_of(owner), attempt_limit)
  if refused then return { refused } end
  shard.token = math.max(shard.token, number(name, 'epoch'), tonumber(floor)) + 1
  shard.attempts = shard.attempts + 1
  move(job, index, shard, 'r')
  note_host(job, index, host_of(owner))
  local token = string.format('%.0f', shard.token)
  call('ZADD', key(job, 'running'), now(), index)
  call('HSET', key(job, 'held'), index, string.format('%s %s %.6f %d %s', token, request, pace, shard.cost_done, owner))
  call('HSET', key(job, 'beats'), index, 0)
  call('ZADD', 'holdfast:leases', place(job .. ' ' .. index), job .. ' ' .. index)
  note_held(worker, job .. ' ' .. index)
  call('ZREM', 'holdfast:idle:' .. (call('HGET', name, 'kind') or ''), worker)
  call('HINCRBYFLOAT', name, 'pace', string.format('%.6f', pace))
  rank(job)
  return { 'ok', token }
end

-- Still alive, at this pace, and so far (without counts: not known yet). The answer carries the job's state: pause and
-- cancel reach the holder so. It signs its lease where the fleet has a key.
function op.beat(job, index, token, signature, figures, batches, sequences, quarantined, share)
  if not holds(job, index, token) then return { 'lost' } end
  local shard = read(job, index) or garbage(key(job, 'shards') .. ' ' .. index)
  local beat = call('HGET', key(job, 'beats'), index)
  call('HSET', key(job, 'beats'), index, string.format('%.0f', (whole(beat, COUNT_MOST, 0) or 0) + 1))
  if signature ~= '' then call('HSET', key(job, 'signed'), index, signature) end
  call('HSET', key(job, 'figures'), index, figures)
  if batches then
    count(job, index, shard, batches, sequences, quarantined, share)
    write(job, index, shard)
  end
  sample(job)
  return { 'ok', call('HGET', key(job, 'job'), 'state') }
end

-- What the holder quarantines, for those who look: some at a time, as a call takes no more arguments than that.
function op.list(job, index, token, ...)
  if not holds(job, index, token) then return { 'lost' } end
  call('HSET', key(job, 'quarantine'), ...)
  return { 'ok' }
end

-- How fast the holder was over this lease: what a slow device is known by.
local function note_pace(job, index, shard, held)
  local seconds = now() - (bounded(call('ZSCORE', key(job, 'running'), index), COUNT_MOST) or now())
  local gained = shard.cost - held.cost_done
  if seconds > 0 and gained > 0 then
    call('HSET', key(job, 'paces'), worker_of(held.owner), string.format('%.6f', gained / seconds))
  end
end

-- Refuses unless every record of the shard is accounted for: embedded + quarantined = read. `set_aside` tells
-- of the records that were quarantined; empty when there are none.
function op.complete(job, index, token, batches, sequences, quarantined, set_aside)
  local name, shard = key(job, 'job'), read(job, index)
  local replayed = shard and shard.state == 'd' and string.format('%.0f', shard.token) == token
  if not replayed then
    local held = shard and holds(job, index, token)
    if not held then return { 'lost' } end
    if tonumber(sequences) + tonumber(quarantined) ~= shard.num_records then
      return { 'incomplete', tostring(shard.num_records) }
    end
    count(job, index, shard, batches, sequences, quarantined, 1)
    sample(job)
    note_pace(job, index, shard, held)
    move(job, index, shard, 'd')
    if set_aside ~= '' then tell(job, 'quarantined', 'shard ' .. index .. ': ' .. set_aside) end
    settle(job)
  end
  return { 'ok', call('HGET', name, 'state'), call('HGET', name, 'export_by') or '' }
end

local function to_pending(job, index, shard, reason, delay)
  move(job, index, shard, 'p', true)
  call('HSET', key(job, 'errors'), index, reason)
  if delay > 0 then
    call('ZREM', key(job, 'pending'), index)
    call('ZADD', 'holdfast:delayed', now() + delay, job .. ' ' .. index)
  end
  settle(job)
end

-- The holder gives the shard back; `spent` is 0 when the attempt should not count against it.
function op.release(job, index, token, reason, delay, spent)
  if not holds(job, index, token) then return { 'lost' } end
  local shard = read(job, index) or garbage(key(job, 'shards') .. ' ' .. index)
  if spent == '0' then
    shard.attempts = math.max(0, shard.attempts - 1)
    if shard.attempts == 0 then call('HDEL', key(job, 'tried'), index) end
  else
    call('HSET', key(job, 'job'), 'trouble', 'shard ' .. index .. ': ' .. reason)
    tell(job, 'retried', 'tried again: shard ' .. index .. ': ' .. reason)
  end
  to_pending(job, index, shard, reason, tonumber(delay))
  return { 'ok' }
end

function op.fail(job, index, token, reason)
  if not holds(job, index, token) then return { 'lost' } end
  local shard = read(job, index) or garbage(key(job, 'shards') .. ' ' .. index)
  call('HSET', key(job, 'errors'), index, reason)
  tell(job, 'failed', 'shard ' .. index .. ' given up: ' .. reason)
  move(job, index, shard, 'f')
  settle(job)
  return { 'ok' }
end

-- ---- the whole job

local LEASES_ENDED_AT_ONCE = 500

-- Nobody holds a shard any more: who thought so hears of it at the next beat. Of very many the others stop there,
-- as the answer says what the job's state is: no call is to hold up the server.
local function end_leases(job)
  local held = {}
  for _, index in ipairs(call('ZRANGE', key(job, 'running'), 0, LEASES_ENDED_AT_ONCE - 1)) do
    held[index] = read(job, index) or garbage(key(job, 'running') .. ' ' .. index)
    lease(job, index)
  end
  for index, shard in pairs(held) do move(job, index, shard, 'p', true) end
end

local function give_up(job, reason)
  end_leases(job)
  tell(job, 'failed', 'given up: ' .. reason)
  call('HSET', key(job, 'job'), 'state', 'failed', 'gave_up', reason)
  rank(job)
end

-- What is wrong with one shard is wrong with all: nobody goes on.
function op.fail_job(job, index, token, reason)
  if not holds(job, index, token) then return { 'lost' } end
  give_up(job, reason)
  return { 'ok' }
end

-- No worker can begin a shard: those that wait are given up. While one is at work, there is hope.
function op.abandon(job, reason)
  local name = key(job, 'job')
  if call('HGET', name, 'state') ~= 'running' or number(name, 'running') > 0 then return { 'refused' } end
  give_up(job, reason)
  return { 'ok' }
end

function op.cancel(job)
  local state = call('HGET', key(job, 'job'), 'state')
  if state ~= 'done' then
    end_leases(job)
    call('HSET', key(job, 'job'), 'state', 'cancelled')
    rank(job)
    return { 'ok', 'cancelled' }
  end
  return { 'ok', state }
end

-- Nothing is dealt any more; holders stop at their next batch boundary and give their shards back.
function op.pause(job)
  if call('HGET', key(job, 'job'), 'state') == 'running' then call('HSET', key(job, 'job'), 'state', 'paused') end
  rank(job)
  return { 'ok', call('HGET', key(job, 'job'), 'state') }
end

function op.unpause(job)
  if call('HGET', key(job, 'job'), 'state') == 'paused' then
    call('HSET', key(job, 'job'), 'state', 'running')
    call('DEL', key(job, 'samples'))
    settle(job)
  end
  return { 'ok', call('HGET', key(job, 'job'), 'state') }
end

-- Failed and cancelled shards get another chance, their attempts forgotten, `most` of them a call; answers whether
-- there are more. What lay between two runs is no part of the job's speed.
function op.revive(job, most)
  local name = key(job, 'job')
  local state, gave_up = unpack(call('HMGET', name, 'state', 'gave_up'))
  if number(name, 'running') == 0 then call('DEL', key(job, 'samples')) end
  local is_whole_job = state == 'cancelled' or gave_up
  local tried = is_whole_job and call('HRANDFIELD', key(job, 'tried'), most) or {}
  local failed = call('SRANDMEMBER', key(job, 'failed'), most) or {}
  local shards = {}
  for _, indices in ipairs({ tried, failed }) do
    for _, index in ipairs(indices) do
      shards[index] = read(job, index) or garbage(key(job, 'shards') .. ' ' .. index)
    end
  end
  for index, shard in pairs(shards) do
    shard.attempts = 0
    call('HDEL', key(job, 'tried'), index)
    call('SREM', key(job, 'failed'), index)
    if shard.state == 'f' then move(job, index, shard, 'p') else write(job, index, shard) end
  end
  if #tried >= tonumber(most) or call('SCARD', key(job, 'failed')) > 0 then return { 'more' } end
  call('HDEL', name, 'gave_up')
  if state == 'failed' or state == 'cancelled' or state == 'paused' then call('HSET', name, 'state', 'running') end
  settle(job)
  return { 'ok' }
end

-- ---- the observer's side

-- An observer takes a lease away, if it is still the one whose beat stood still.
function op.expire(job, index, token, beat, reason)
  local held, shard = holds(job, index, token), read(job, index)
  local known = whole(call('HGET', key(job, 'beats'), index), COUNT_MOST, 0)
  if not held or not shard or known ~= tonumber(beat) then return { 'refused' } end
  tell(job, 'recovered', 'shard ' .. index .. ' taken back from ' .. worker_of(held.owner) .. ': ' .. reason)
  to_pending(job, index, shard, reason, 0)
  return { 'ok' }
end

-- The result of a finished shard was found damaged: its missing batches are computed again.
function op.reopen(job, index)
  local shard = read(job, index)
  if not shard or shard.state ~= 'd' then return { 'refused' } end
  count(job, index, shard, 0, 0, 0, 0)
  shard.attempts = 0
  tell(job, 'damaged', 'shard ' .. index .. ' is computed again: its result is missing or damaged')
  move(job, index, shard, 'p', true)
  settle(job)
  return { 'ok' }
end

-- A finished shard that Redis took for unfinished (the job directory is the truth).
function op.restore(job, index, sequences, quarantined)
  local shard = read(job, index)
  if not shard or shard.state == 'd' then return { 'refused' } end
  lease(job, index)
  count(job, index, shard, shard.batches, sequences, quarantined, 1)
  move(job, index, shard, 'd')
  settle(job)
  return { 'ok' }
end

-- All that the server holds of the job, whatever that is.
function op.forget(job)
  for kind in pairs(KINDS) do call('ZREM', 'holdfast:ready:' .. kind, job) end
  call('SREM', 'holdfast:unexported', job)
  call('SREM', 'holdfast:unended', job)
  call('HDEL', 'holdfast:jobs', job)
  call('HDEL', 'holdfast:unsound', job)
  for name in pairs(OF_A_JOB) do call('UNLINK', key(job, name)) end
  call('UNLINK', key(job, 'canary'), key(job, 'begun'))
  return { 'ok' }
end

-- Somebody met what cannot be ours: the job is dealt no more until it is made known anew.
function op.note_unsound(job, where)
  note_unsound(job, where)
  return { 'ok' }
end

-- The garbage may be gone by itself: a job that is sound again is dealt again.
function op.look_again(job)
  require_sound(job)
  call('HDEL', 'holdfast:unsound', job)
  rank(job)
  return { 'ok' }
end
