-- The manifest's transitions: one call, one atomic step, checked against the fencing token.
--
-- KEYS[1]  holdfast:{job}:job         hash
--            state          ingesting | running | paused | done | failed | cancelled
--            job_dir, export_by (workers | coordinator)
--            num_shards; pending, running, done, failed, cancelled: how many shards are in that state
--            sequences_total, sequences_done, sequences_quarantined
--            cost_total, cost_done
--            trouble        why a shard failed last, until any of the job gets on
--            kind           by what kind of device alone the job is computed, once a shard of it is begun
-- KEYS[2]  holdfast:{job}:shard:      prefix of the shard hashes
--   ..:<i>   state          pending | running | done | failed | cancelled
--            num_records, cost, queue, sent_at, not_before (server time, seconds)
--            owner, request, token (only ever rises), beat, attempts (without a commit between them)
--            batches_done, sequences_done, quarantined, cost_done, error
--            figures        JSON of the holder's Figures
-- KEYS[3]  holdfast:{job}:running     set of shard indices
-- KEYS[4]  holdfast:{job}:quarantine  hash ordinal -> JSON
-- KEYS[5]  holdfast:{job}:samples     list of "time sequences cost", what was done, newest first
-- KEYS[6]  holdfast:{job}:events      list of "time kind text", newest first (events.py)
-- ARGV[1]  operation; the rest are its arguments, in the order of its function's parameters
--
-- Answers are arrays of strings; the first says "ok" or why not. Progress is reported in absolute
-- numbers, and acquire carries a request id: a call replayed after a lost reply changes nothing.

local job, shard_prefix, running, quarantine, samples = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local events = KEYS[6]

local SAMPLE_EVERY_SECONDS = 2
local SAMPLES_KEPT = 40
local EVENTS_KEPT = 50

local function now()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

local function number(key, field)
  return tonumber(redis.call('HGET', key, field) or '0') or 0
end

local function move(index, from, to)
  redis.call('HSET', shard_prefix .. index, 'state', to)
  redis.call('HINCRBY', job, from, -1)
  redis.call('HINCRBY', job, to, 1)
  if to == 'running' then redis.call('SADD', running, index) else redis.call('SREM', running, index) end
end

-- A job with nothing left to do has ended; one that got work back runs again.
local function settle()
  local state = redis.call('HGET', job, 'state')
  if state == 'ingesting' or state == 'cancelled' then return end
  local total = number(job, 'num_shards')
  local done, failed, cancelled = number(job, 'done'), number(job, 'failed'), number(job, 'cancelled')
  local settled = 'running'
  if done == total then settled = 'done'
  elseif done + failed + cancelled == total then settled = failed > 0 and 'failed' or 'cancelled' end
  if state == 'paused' and settled == 'running' then return end
  redis.call('HSET', job, 'state', settled)
end

local function holds(index, token)
  local key = shard_prefix .. index
  return redis.call('HGET', key, 'state') == 'running' and redis.call('HGET', key, 'token') == token
end

-- `share`, from 0 to 1, is what of the shard's batches is done.
local function count(index, batches, sequences, quarantined, share)
  local key = shard_prefix .. index
  local gained = tonumber(sequences) - number(key, 'sequences_done')
  redis.call('HINCRBY', job, 'sequences_done', gained)
  if gained > 0 then redis.call('HDEL', job, 'trouble') end
  redis.call('HINCRBY', job, 'sequences_quarantined', tonumber(quarantined) - number(key, 'quarantined'))
  local cost = math.floor(number(key, 'cost') * tonumber(share) + 0.5)
  redis.call('HINCRBY', job, 'cost_done', cost - number(key, 'cost_done'))
  if tonumber(batches) > number(key, 'batches_done') then redis.call('HSET', key, 'attempts', 0) end
  redis.call('HSET', key, 'batches_done', batches, 'sequences_done', sequences, 'quarantined', quarantined,
    'cost_done', cost)
end

local function sample()
  local time = now()
  local newest = redis.call('LINDEX', samples, 0)
  local last = newest and tonumber(string.match(newest, '^%S+')) or 0
  if math.abs(time - last) < SAMPLE_EVERY_SECONDS then return end
  redis.call('LPUSH', samples, string.format('%.3f %d %d', time, number(job, 'sequences_done'),
    number(job, 'cost_done')))
  redis.call('LTRIM', samples, 0, SAMPLES_KEPT - 1)
end

-- What a person may want to see of a transition.
local function tell(kind, text)
  redis.call('LPUSH', events, string.format('%.3f ', now()) .. kind .. ' ' .. text)
  redis.call('LTRIM', events, 0, EVENTS_KEPT - 1)
end

local function release_to_pending(index, reason, delay)
  move(index, 'running', 'pending')
  redis.call('HSET', shard_prefix .. index, 'owner', '', 'request', '', 'sent_at', 0,
    'not_before', now() + tonumber(delay), 'error', reason)
end

-- Every shard that is in one of these states goes to another.
local function move_all(from, to, ...)
  local moved = 0
  for index = 0, number(job, 'num_shards') - 1 do
    local key = shard_prefix .. index
    local state = redis.call('HGET', key, 'state')
    if from[state] then
      if ... then redis.call('HSET', key, ...) end
      move(index, state, to)
      moved = moved + 1
    end
  end
  return moved
end

local op = {}

-- A shard that is new to the manifest; one that is known stays as it is.
function op.add(index, num_records, cost, queue, state, sequences, quarantined)
  local key = shard_prefix .. index
  if redis.call('EXISTS', key) == 1 then return { 'known' } end
  -- Tokens begin at the time: a server that lost its data must not give one again that is still held.
  local token = string.format('%.0f', now() * 1000)
  redis.call('HSET', key, 'state', state, 'num_records', num_records, 'cost', cost, 'queue', queue, 'sent_at', 0,
    'not_before', 0, 'owner', '', 'request', '', 'token', token, 'beat', 0, 'attempts', 0,
    'batches_done', 0, 'sequences_done', 0, 'quarantined', 0, 'cost_done', 0, 'error', '', 'figures', '')
  redis.call('HINCRBY', job, state, 1)
  redis.call('HINCRBY', job, 'cost_total', cost)
  count(index, 0, sequences, quarantined, state == 'done' and 1 or 0)
  return { 'ok' }
end

-- The end of ingest: from here on shards may be acquired.
function op.open()
  if redis.call('HGET', job, 'state') == 'ingesting' then redis.call('HSET', job, 'state', 'running') end
  settle()
  return { 'ok', redis.call('HGET', job, 'state') }
end

function op.sent(index, queue)
  local key = shard_prefix .. index
  if redis.call('HGET', key, 'state') ~= 'pending' then return { 'refused' } end
  redis.call('HSET', key, 'sent_at', now(), 'queue', queue)
  return { 'ok' }
end

function op.acquire(index, owner, floor, request, attempt_limit)
  local key = shard_prefix .. index
  local state, job_state = redis.call('HGET', key, 'state'), redis.call('HGET', job, 'state')
  if not state or not job_state then return { 'unknown' } end
  if state == 'running' then
    local token = redis.call('HGET', key, 'token')
    if redis.call('HGET', key, 'request') == request then return { 'ok', token } end
    return { 'held', token, redis.call('HGET', key, 'owner') }
  end
  if state ~= 'pending' then return { state } end
  if job_state ~= 'running' then return { job_state } end
  if number(key, 'attempts') >= tonumber(attempt_limit) then
    redis.call('HSET', key, 'error', redis.call('HGET', key, 'error') or '')
    tell('failed', 'shard ' .. index .. ' given up after ' .. attempt_limit .. ' attempts without progress: '
      .. redis.call('HGET', key, 'error'))
    move(index, 'pending', 'failed')
    settle()
    return { 'exhausted' }
  end
  local token = string.format('%.0f', math.max(number(key, 'token'), tonumber(floor)) + 1)
  move(index, 'pending', 'running')
  redis.call('HSET', key, 'owner', owner, 'request', request, 'token', token, 'beat', 0, 'not_before', 0,
    'figures', '')
  redis.call('HINCRBY', key, 'attempts', 1)
  return { 'ok', token }
end

-- Still alive, at this pace, and so far (without counts: not known yet). The answer carries the job's state: pause and
-- cancel reach the holder so.
function op.beat(index, token, figures, batches, sequences, quarantined, share)
  if not holds(index, token) then return { 'lost' } end
  redis.call('HINCRBY', shard_prefix .. index, 'beat', 1)
  redis.call('HSET', shard_prefix .. index, 'figures', figures)
  if batches then count(index, batches, sequences, quarantined, share) end
  sample()
  return { 'ok', redis.call('HGET', job, 'state') }
end

-- What the holder sets aside, for those who look: some at a time, as a call takes no more arguments than that.
function op.list(index, token, ...)
  if not holds(index, token) then return { 'lost' } end
  redis.call('HSET', quarantine, ...)
  return { 'ok' }
end

-- Refuses unless every record of the shard is accounted for: embedded + quarantined = read. `set_aside` tells
-- of the records that were quarantined; empty when there are none.
function op.complete(index, token, batches, sequences, quarantined, set_aside)
  local key = shard_prefix .. index
  local replayed = redis.call('HGET', key, 'state') == 'done' and redis.call('HGET', key, 'token') == token
  if not replayed then
    if not holds(index, token) then return { 'lost' } end
    if tonumber(sequences) + tonumber(quarantined) ~= number(key, 'num_records') then
      return { 'incomplete', redis.call('HGET', key, 'num_records') }
    end
    count(index, batches, sequences, quarantined, 1)
    sample()
    move(index, 'running', 'done')
    redis.call('HSET', key, 'error', '')
    if set_aside ~= '' then tell('quarantined', 'shard ' .. index .. ': ' .. set_aside) end
    settle()
  end
  return { 'ok', redis.call('HGET', job, 'state'), redis.call('HGET', job, 'export_by') or '' }
end

-- The holder gives the shard back; `spent` is 0 when the attempt should not count against it.
function op.release(index, token, reason, delay, spent)
  if not holds(index, token) then return { 'lost' } end
  if spent == '0' then
    local key = shard_prefix .. index
    redis.call('HSET', key, 'attempts', math.max(0, number(key, 'attempts') - 1))
  else
    redis.call('HSET', job, 'trouble', 'shard ' .. index .. ': ' .. reason)
    tell('retried', 'tried again: shard ' .. index .. ': ' .. reason)
  end
  release_to_pending(index, reason, delay)
  return { 'ok' }
end

function op.fail(index, token, reason)
  if not holds(index, token) then return { 'lost' } end
  redis.call('HSET', shard_prefix .. index, 'error', reason)
  tell('failed', 'shard ' .. index .. ' given up: ' .. reason)
  move(index, 'running', 'failed')
  settle()
  return { 'ok' }
end

-- What is wrong with one shard is wrong with all: nobody goes on.
function op.fail_job(index, token, reason)
  if not holds(index, token) then return { 'lost' } end
  tell('failed', 'given up: ' .. reason)
  move_all({ pending = true, running = true }, 'failed', 'error', reason)
  settle()
  return { 'ok' }
end

-- An observer takes a lease away, if it is still the one whose beat stood still.
function op.expire(index, token, beat, reason)
  local key = shard_prefix .. index
  if not holds(index, token) or redis.call('HGET', key, 'beat') ~= beat then return { 'refused' } end
  local worker = string.match(redis.call('HGET', key, 'owner') or '', '^[^|]*')
  tell('recovered', 'shard ' .. index .. ' taken back from ' .. worker .. ': ' .. reason)
  release_to_pending(index, reason, 0)
  return { 'ok' }
end

-- The result of a finished shard was found damaged: its missing batches are computed again.
function op.reopen(index)
  local key = shard_prefix .. index
  if redis.call('HGET', key, 'state') ~= 'done' then return { 'refused' } end
  count(index, 0, 0, 0, 0)
  redis.call('HSET', key, 'sent_at', 0, 'attempts', 0)
  tell('damaged', 'shard ' .. index .. ' is computed again: its result is missing or damaged')
  move(index, 'done', 'pending')
  settle()
  return { 'ok' }
end

-- A finished shard that Redis took for unfinished (the job directory is the truth).
function op.restore(index, sequences, quarantined)
  local state = redis.call('HGET', shard_prefix .. index, 'state')
  if not state or state == 'done' then return { 'refused' } end
  count(index, number(shard_prefix .. index, 'batches_done'), sequences, quarantined, 1)
  move(index, state, 'done')
  settle()
  return { 'ok' }
end

-- No worker can begin a shard: those that wait are given up. While one is at work, there is hope.
function op.abandon(reason)
  if redis.call('HGET', job, 'state') ~= 'running' or number(job, 'running') > 0 then return { 'refused' } end
  move_all({ pending = true }, 'failed', 'error', reason)
  tell('failed', 'given up: ' .. reason)
  settle()
  return { 'ok' }
end

function op.cancel()
  move_all({ pending = true, running = true, failed = true }, 'cancelled')
  local state = redis.call('HGET', job, 'state')
  if state ~= 'done' then redis.call('HSET', job, 'state', 'cancelled') end
  return { 'ok', redis.call('HGET', job, 'state') }
end

-- Nothing is given out any more; holders stop at their next batch boundary and give their shards back.
function op.pause()
  if redis.call('HGET', job, 'state') == 'running' then redis.call('HSET', job, 'state', 'paused') end
  return { 'ok', redis.call('HGET', job, 'state') }
end

function op.unpause()
  if redis.call('HGET', job, 'state') == 'paused' then
    redis.call('HSET', job, 'state', 'running')
    redis.call('DEL', samples)
    settle()
  end
  return { 'ok', redis.call('HGET', job, 'state') }
end

-- Failed and cancelled shards get another chance. What lay between two runs is no part of the job's speed.
function op.revive()
  if number(job, 'running') == 0 then redis.call('DEL', samples) end
  local revived = move_all({ failed = true, cancelled = true }, 'pending',
    'attempts', 0, 'sent_at', 0, 'not_before', 0, 'owner', '', 'request', '')
  local state = redis.call('HGET', job, 'state')
  if state == 'failed' or state == 'cancelled' or state == 'paused' then
    redis.call('HSET', job, 'state', 'running')
  end
  settle()
  return { 'ok', tostring(revived) }
end

return op[ARGV[1]](unpack(ARGV, 2))
