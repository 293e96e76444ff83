-- The manifest, one script of four parts that are sent to the server as one text:
--   sound.lua     what is believed of all this
--   shards.lua    what is kept, and how it is read and written        (this part)
--   manifest.lua  the transitions of jobs and shards: one call, one atomic step, checked against the token
--   dealing.lua   who does what next: workers, their queues, and who observes whose lease
--
-- Keys. Of a job all share the hash tag {job}; `job` below is its id.
--   holdfast:{job}:job         hash
--        state          ingesting | running | paused | done | failed | cancelled
--        job_dir, export_by (workers | coordinator), kind (cpu | cuda), priority, max_workers, queues
--        num_shards; pending, running, done, failed: how many shards are in that state
--        sequences_total, sequences_done, sequences_quarantined, cost_total, cost_done
--        epoch          the server's time in ms when the job was made known: where tokens begin
--        pace           cost per second of all that hold a shard, as far as it is known
--        one_kind       what alone computes the job, where it is for one kind and a shard of it was begun
--        gave_up        why the whole job was given up; every shard that is not done counts as failed then
--        trouble        why a shard failed last, until any of the job gets on
--        signature      of who made it known (signed_entries.py)
--   holdfast:{job}:shards      hash index -> "state records cost token attempts batches sequences quarantined cost_done"
--        state          p(ending) | r(unning) | d(one) | f(ailed); cancelled is a state of the job alone
--   holdfast:{job}:pending     sorted set of what nobody was dealt yet: by index, taken-back ones first
--   holdfast:{job}:dealt       hash index -> worker whose queue has a message for it
--   holdfast:{job}:running     sorted set index -> since when it is leased
--   holdfast:{job}:held        hash index -> "token request pace cost_done owner", as the lease began
--   holdfast:{job}:beats       hash index -> how often its holder has beaten
--   holdfast:{job}:signed      hash index -> its holder's signature of the lease (signed_entries.py)
--   holdfast:{job}:figures     hash index -> JSON of its holder's Figures
--   holdfast:{job}:failed      set of indices
--   holdfast:{job}:errors      hash index -> why its last attempt ended
--   holdfast:{job}:tried       hash index -> the hosts of attempts without a commit since
--   holdfast:{job}:avoid       hash index -> the host that may not try it again
--   holdfast:{job}:paces       hash worker -> cost per second over its last shard
--   holdfast:{job}:trouble     hash worker -> JSON of Trouble (trouble.py)
--   holdfast:{job}:quarantine  hash ordinal -> JSON
--   holdfast:{job}:samples     list of "time sequences cost", what was done, newest first
--   holdfast:{job}:events      list of "time kind text", newest first (events.py)
-- Of all jobs and workers; `kind` is that of a device.
--   holdfast:ready:<kind>      sorted set of the jobs that have a shard to deal: priority, then fewest at work
--   holdfast:idle:<kind>       sorted set of the workers that wait for a shard, by since when
--   holdfast:dealt:<kind>      sorted set "job index" -> when it was dealt
--   holdfast:dealt_to          hash worker -> "job index time"
--   holdfast:delayed           sorted set "job index" -> when it may be dealt again
--   holdfast:leases            sorted set "job index" -> its place on the ring
--   holdfast:held_by           hash worker -> "job index" of the lease it got last
--   holdfast:held_before       hash worker -> "job index" of the one before, which it may still be publishing
--   holdfast:ring              sorted set worker -> its place on the ring
--   holdfast:seen              sorted set worker -> when it was heard of last
--   holdfast:hosts:<kind>      sorted set host -> when it was heard of last
--   holdfast:on_host:<host>    sorted set worker -> when it was heard of last
--   holdfast:workers           hash worker -> JSON of WorkerEntry
--   holdfast:unended           set of the jobs that are not done, failed or cancelled
--   holdfast:unexported        set of the jobs that are done and whose output a worker is to write
-- Times are the server's, in seconds.
--
-- ARGV[1] is the operation; the rest are its arguments, in the order of its function's parameters. Answers are
-- arrays of strings; the first says "ok" or why not. Progress is reported in absolute numbers, and acquire
-- carries a request id: a call replayed after a lost reply changes nothing. Keys are made here and not passed,
-- so this is for one server, not for a cluster of them.

local SAMPLE_EVERY_SECONDS = 2
local SAMPLES_KEPT = 40
local EVENTS_KEPT = 50
local FIRST = 1e9            -- so much earlier than its index is a shard dealt that was taken back
local RING = 4294967296      -- places on the ring

local function number(name, field)
  local text = call('HGET', name, field)
  return text and (bounded(text, SUM_MOST) or garbage(name .. ' ' .. field)) or 0
end

-- Where a name stands on the ring: names that differ little stand far apart.
local function place(text)
  local at = 0
  for position = 1, #text do at = (at * 69069 + string.byte(text, position) + 1) % RING end
  for _ = 1, 3 do at = (at * 69069 + 1) % RING end
  return at
end

local function words(text)
  local found = {}
  for word in string.gmatch(text, '%S+') do found[#found + 1] = word end
  return found
end

-- ---- shards

local STATES = { p = 'pending', r = 'running', d = 'done', f = 'failed' }

-- nil for a shard that the server does not know.
local function read(job, index)
  local name = key(job, 'shards')
  local text = call('HGET', name, index)
  if not text then return nil end
  local it = #text <= 200 and words(text) or {}
  local numbers = { it[2], it[3], it[5], it[6], it[7], it[8], it[9] }
  for at = 1, 7 do numbers[at] = whole(numbers[at], COUNT_MOST, 0) or garbage(name .. ' ' .. index) end
  local token = whole(it[4], token_most(), 0)
  if not token or not STATES[it[1]] or #it ~= 9 then garbage(name .. ' ' .. index) end
  return {
    state = it[1], num_records = numbers[1], cost = numbers[2], token = token, attempts = numbers[3],
    batches = numbers[4], sequences = numbers[5], quarantined = numbers[6], cost_done = numbers[7],
  }
end

local function encode(shard)
  return string.format('%s %d %d %.0f %d %d %d %d %d', shard.state, shard.num_records, shard.cost, shard.token,
    shard.attempts, shard.batches, shard.sequences, shard.quarantined, shard.cost_done)
end

local function write(job, index, shard) call('HSET', key(job, 'shards'), index, encode(shard)) end

-- The lease on a shard: its token as text, the request, and how its holder began; nil where nobody has one.
local function lease(job, index)
  local text = call('HGET', key(job, 'held'), index)
  if not text then return nil end
  local token, request, pace, cost_done, owner =
    string.match(#text <= 1000 and text or '', '^(%d+) (%S+) (%S+) (%S+) ([^%c]*)$')
  pace, cost_done = bounded(pace, PACE_MOST, 0), whole(cost_done, COUNT_MOST, 0)
  if not (pace and cost_done and whole(token, token_most(), 0)) then garbage(key(job, 'held') .. ' ' .. index) end
  return { token = token, request = request, pace = pace, cost_done = cost_done, owner = owner }
end

local function worker_of(owner) return string.match(owner, '^[^|]*') end
local function host_of(owner) return string.match(owner, '^[^|]*|([^|]*)|') or '' end

local function holds(job, index, token)
  local held = lease(job, index)
  return held and held.token == token and held
end

-- ---- jobs

local ENDED = { done = true, failed = true, cancelled = true }

-- Whether the job has ended, has a shard to deal, and how urgent that is: the last step of whatever changes that.
local function rank(job)
  local state, kind, priority, most = unpack(call('HMGET', key(job, 'job'), 'state', 'kind', 'priority', 'max_workers'))
  if not kind then return end
  call(ENDED[state] and 'SREM' or 'SADD', 'holdfast:unended', job)
  local at_work = call('ZCARD', key(job, 'running')) + call('HLEN', key(job, 'dealt'))
  local has_room = not most or most == '' or at_work < tonumber(most)
  if state == 'running' and has_room and call('ZCARD', key(job, 'pending')) > 0 then
    call('ZADD', 'holdfast:ready:' .. kind, at_work - (tonumber(priority) or 0) * 1048576, job)
  else
    call('ZREM', 'holdfast:ready:' .. kind, job)
  end
end

-- A job with nothing left to do has ended; one that got work back runs again.
local function settle(job)
  local name = key(job, 'job')
  local state, gave_up = unpack(call('HMGET', name, 'state', 'gave_up'))
  if state ~= 'ingesting' and state ~= 'cancelled' and not gave_up then
    local total, done, failed = number(name, 'num_shards'), number(name, 'done'), number(name, 'failed')
    local settled = 'running'
    if done == total then settled = 'done' elseif done + failed == total then settled = 'failed' end
    if not (state == 'paused' and settled == 'running') then
      call('HSET', name, 'state', settled)
      local waits = settled == 'done' and call('HGET', name, 'export_by') == 'workers'
      call(waits and 'SADD' or 'SREM', 'holdfast:unexported', job)
    end
  end
  rank(job)
end

-- What a person may want to see of a transition.
local function tell(job, kind, text)
  call('LPUSH', key(job, 'events'), string.format('%.3f ', now()) .. kind .. ' ' .. string.sub(text, 1, TEXT_MOST))
  call('LTRIM', key(job, 'events'), 0, EVENTS_KEPT - 1)
end

-- ---- where a shard stands beside its record

local function undeal(job, index)
  local worker = call('HGET', key(job, 'dealt'), index)
  if not worker then return end
  call('HDEL', key(job, 'dealt'), index)
  call('ZREM', 'holdfast:dealt:' .. (call('HGET', key(job, 'job'), 'kind') or ''), job .. ' ' .. index)
  local dealt = call('HGET', 'holdfast:dealt_to', worker)
  if dealt and string.match(dealt, '^%S+ %S+') == job .. ' ' .. index then call('HDEL', 'holdfast:dealt_to', worker) end
end

-- A worker computes one shard while it publishes the one before, and it may have more made ready by then.
local function note_held(worker, lease)
  local before = call('HGET', 'holdfast:held_by', worker)
  if before and before ~= lease then call('HSET', 'holdfast:held_before', worker, before) end
  call('HSET', 'holdfast:held_by', worker, lease)
end

local function end_lease(job, index)
  local held = lease(job, index)
  if held then
    local worker = worker_of(held.owner)
    call('HINCRBYFLOAT', key(job, 'job'), 'pace', -held.pace)
    for _, name in ipairs({ 'holdfast:held_by', 'holdfast:held_before' }) do
      if call('HGET', name, worker) == job .. ' ' .. index then call('HDEL', name, worker) end
    end
  end
  call('ZREM', key(job, 'running'), index)
  call('ZREM', 'holdfast:leases', job .. ' ' .. index)
  for _, name in ipairs({ 'held', 'beats', 'signed', 'figures' }) do call('HDEL', key(job, name), index) end
end

local function leave(job, index, state)
  if state == 'p' then
    call('ZREM', key(job, 'pending'), index)
    call('ZREM', 'holdfast:delayed', job .. ' ' .. index)
    undeal(job, index)
  elseif state == 'r' then
    end_lease(job, index)
  elseif state == 'f' then
    call('SREM', key(job, 'failed'), index)
  end
end

-- Take a shard to another state; the caller has changed the rest of it, and settles the job.
local function move(job, index, shard, to, first)
  leave(job, index, shard.state)
  call('HINCRBY', key(job, 'job'), STATES[shard.state], -1)
  call('HINCRBY', key(job, 'job'), STATES[to], 1)
  shard.state = to
  if to == 'p' then
    call('ZADD', key(job, 'pending'), first and index - FIRST or index, index)
  elseif to == 'f' then
    call('SADD', key(job, 'failed'), index)
  elseif to == 'd' then
    for _, name in ipairs({ 'errors', 'tried', 'avoid' }) do call('HDEL', key(job, name), index) end
  end
  write(job, index, shard)
end

-- `share`, from 0 to 1, is what of the shard's batches is done.
local function count(job, index, shard, batches, sequences, quarantined, share)
  local name = key(job, 'job')
  local gained = tonumber(sequences) - shard.sequences
  call('HINCRBY', name, 'sequences_done', gained)
  if gained > 0 then call('HDEL', name, 'trouble') end
  call('HINCRBY', name, 'sequences_quarantined', tonumber(quarantined) - shard.quarantined)
  local cost_done = math.floor(shard.cost * tonumber(share) + 0.5)
  call('HINCRBY', name, 'cost_done', cost_done - shard.cost_done)
  if tonumber(batches) > shard.batches then
    shard.attempts = 0
    call('HDEL', key(job, 'tried'), index)
  end
  shard.batches, shard.sequences, shard.quarantined = tonumber(batches), tonumber(sequences), tonumber(quarantined)
  shard.cost_done = cost_done
end

local function sample(job)
  local time, samples = now(), key(job, 'samples')
  local newest = call('LINDEX', samples, 0)
  local last = newest and bounded(string.match(newest, '^%S+'), COUNT_MOST) or 0
  if math.abs(time - last) < SAMPLE_EVERY_SECONDS then return end
  call('LPUSH', samples, string.format('%.3f %d %d', time, number(key(job, 'job'), 'sequences_done'),
    number(key(job, 'job'), 'cost_done')))
  call('LTRIM', samples, 0, SAMPLES_KEPT - 1)
end

local op = {}
