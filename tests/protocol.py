"""A model of the lease and fence protocol, small enough to visit every state it can reach.

It follows manifest.lua, recovery.py, producer.announce, checkpoint/store.py, gpu_tasks/task.py and
gpu_tasks/shard_run.py call by call: what is one atomic step there (a Lua call, an LMDB transaction, a rename)
is one step here, and everything may happen between two steps. A batch has one record. `announce` alone is
taken as two steps, its look at the done files and all its calls to the server.

Faults are rationed by `Bounds`, so that the search ends; all the rest is free. `explore` goes breadth first,
so the trace of a broken promise is a shortest one. Workers are interchangeable: of two worlds that differ in
their names only one is visited.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

PENDING, RUNNING, DONE, FAILED, CANCELLED = "pending", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)

NUM_BATCHES = 2

# How far a worker is with its shard, in the order of ShardRun's steps.
IDLE, ASKING, LEASED, OPEN, WRITTEN, RECORDED, NAMED, COMPLETED = (
    "idle", "asking", "leased", "open", "written", "recorded", "named", "completed",
)  # fmt: skip
HAS_STORE_OPEN = (OPEN, WRITTEN, RECORDED)


@dataclass(frozen=True, slots=True)
class Guards:
    """What the promises rest on. Each can be taken away, to see which promise falls."""

    fence: bool = True
    """Every write to a store compares the token with the store's, in its own transaction."""
    floor: bool = True
    """`acquire` is told the highest token that the store has seen."""
    token_check: bool = True
    """The manifest hears only the holder of the current token."""
    count_check: bool = True
    """`complete` refuses unless every record is accounted for."""
    whole_check: bool = True
    """A result is published only when every batch of the plan is committed."""
    order: bool = True
    """The done file is written after the result that it names."""
    attempt_limit: bool = True
    """`acquire` gives a shard up after so many attempts without a new commit."""
    new_commits_only: bool = True
    """Commits that an earlier attempt made and reported are no progress."""
    absolute_progress: bool = True
    """Progress is reported in absolute numbers, so that a replayed call counts once."""
    expiry: bool = True
    """An observer takes a silent holder's lease away."""
    resend: bool = True
    """The reconciler sends pending shards again."""
    rebuild: bool = True
    """A job that the server forgot is made known again from its directory."""
    evict: bool = True
    """Opening a store ends the process that has it open."""
    drain_floor: bool = True
    """A release that does not count never takes the attempts below zero."""
    epoch: bool = True
    """Tokens given after the server forgot everything are above all given before."""
    look_before_evict: bool = True
    """A fenced opener is turned away before it ends the store's owner."""


class Bounds(NamedTuple):
    """How often each kind of fault may happen in one history; `faults` bounds their sum."""

    faults: int
    crashes: int = 0
    stalls: int = 0
    messages: int = 0
    replies: int = 0
    flushes: int = 0
    cancels: int = 0
    resumes: int = 0
    drains: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Setup:
    """One house to search: two workers, on one host with one store per shard, or with stores of their own."""

    bounds: Bounds
    guards: Guards = Guards()
    num_shards: int = 1
    attempt_limit: int = 2
    two_hosts: bool = False
    poison: bool = False
    """The second batch of the first shard kills whoever computes it."""


class Entry(NamedTuple):
    """One shard's hash. `tries` is the checker's own count of attempts since the last news of a commit."""

    state: str
    token: int = 0
    attempts: int = 0
    batches: int = 0
    counted: int = 0
    request: int = 0
    tries: int = 0


class Manifest(NamedTuple):
    """One job's hashes."""

    job: str
    entries: tuple[Entry, ...]


class Store(NamedTuple):
    """One LMDB environment: the token under which each batch was written, and the result that is named."""

    floor: int = 0
    blocks: tuple[int, ...] = (0,) * NUM_BATCHES
    done: int = 0


class Worker(NamedTuple):
    """One process's memory. `batches` are the commits it knows of, `record` the result it will name."""

    phase: str = IDLE
    shard: int = 0
    token: int = 0
    floor: int = 0
    batches: int = 0
    record: int = 0
    detached: bool = False  # its store was removed under it: it writes to a file without a name


class Result(NamedTuple):
    """results/<shard>-<token>.parquet."""

    token: int
    whole: bool


class World(NamedTuple):
    """Everything: the server, the disks, the workers' memories, and what faults are left."""

    manifest: Manifest | None
    messages: tuple[int, ...]
    workers: tuple[Worker, ...]
    stores: tuple[tuple[Store, ...], ...]  # of each host, of each shard
    results: tuple[tuple[Result, ...], ...]
    done_files: tuple[int, ...]  # the token in the name of the result; 0: no done file
    held: bool
    seen_done: tuple[int, ...] | None  # what an announcer that has looked, but not acted yet, saw
    given: tuple[int, ...]  # the checker's own: the highest token that was ever given
    left: Bounds


class Action(NamedTuple):
    """What happened, to which worker (-1: none) and shard (-1: the whole job)."""

    name: str
    worker: int = -1
    shard: int = -1


Move = tuple[Action, World]
Answer = tuple[str | int, ...]


def put(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


# ---- the manifest: each function is one operation of manifest.lua


def fresh(num_shards: int, finished: Collection[int] = (), tokens: tuple[int, ...] | None = None) -> Manifest:
    """`initialize` on a server that does not know the job."""
    tokens = tokens or (0,) * num_shards
    entries = tuple(
        Entry(DONE, tokens[shard], counted=NUM_BATCHES)
        if shard in finished
        else Entry(PENDING, tokens[shard])
        for shard in range(num_shards)
    )
    return settle(Manifest(RUNNING, entries))


def settle(manifest: Manifest) -> Manifest:
    if manifest.job == CANCELLED:
        return manifest
    states = [entry.state for entry in manifest.entries]
    if all(state == DONE for state in states):
        return manifest._replace(job=DONE)
    if all(state in ENDED for state in states):
        return manifest._replace(job=FAILED if FAILED in states else CANCELLED)
    return manifest._replace(job=RUNNING)


def with_entry(manifest: Manifest, shard: int, entry: Entry) -> Manifest:
    return Manifest(manifest.job, put(manifest.entries, shard, entry))


def holds(manifest: Manifest | None, shard: int, token: int, guards: Guards) -> bool:
    if manifest is None:
        return False
    entry = manifest.entries[shard]
    return entry.state == RUNNING and (entry.token == token or not guards.token_check)


def count(entry: Entry, batches: int, guards: Guards) -> Entry:
    if batches > entry.batches:
        entry = entry._replace(attempts=0, tries=0)
    elif not guards.new_commits_only:
        entry = entry._replace(attempts=0)
    counted = batches if guards.absolute_progress else entry.counted + batches
    return entry._replace(batches=batches, counted=counted)


def acquire(
    manifest: Manifest, shard: int, floor: int, request: int, limit: int | None
) -> tuple[Manifest, Answer]:
    entry = manifest.entries[shard]
    if entry.state == RUNNING:
        replayed = request != 0 and entry.request == request
        return manifest, ("ok" if replayed else "held", entry.token)
    if entry.state != PENDING:
        return manifest, (entry.state,)
    if manifest.job != RUNNING:
        return manifest, (manifest.job,)
    if limit is not None and entry.attempts >= limit:
        return settle(with_entry(manifest, shard, entry._replace(state=FAILED))), ("exhausted",)
    given = entry._replace(
        state=RUNNING,
        token=max(entry.token, floor) + 1,
        attempts=entry.attempts + 1,
        tries=entry.tries + 1,
        request=request,
    )
    return with_entry(manifest, shard, given), ("ok", given.token)


def beat(manifest: Manifest, shard: int, token: int, batches: int, guards: Guards) -> tuple[Manifest, Answer]:
    if not holds(manifest, shard, token, guards):
        return manifest, ("lost",)
    counted = count(manifest.entries[shard], batches, guards)
    return with_entry(manifest, shard, counted), ("ok", manifest.job)


def complete(
    manifest: Manifest, shard: int, token: int, batches: int, guards: Guards
) -> tuple[Manifest, Answer]:
    entry = manifest.entries[shard]
    if entry.state == DONE and entry.token == token:
        return manifest, ("ok", manifest.job)
    if not holds(manifest, shard, token, guards):
        return manifest, ("lost",)
    if guards.count_check and batches != NUM_BATCHES:
        return manifest, ("incomplete",)
    ended = count(entry, batches, guards)._replace(state=DONE)
    manifest = settle(with_entry(manifest, shard, ended))
    return manifest, ("ok", manifest.job)


def to_pending(manifest: Manifest, shard: int) -> Manifest:
    return with_entry(manifest, shard, manifest.entries[shard]._replace(state=PENDING, request=0))


def release(
    manifest: Manifest, shard: int, token: int, guards: Guards, *, counts: bool = True
) -> tuple[Manifest, Answer]:
    if not holds(manifest, shard, token, guards):
        return manifest, ("lost",)
    entry = manifest.entries[shard]
    if not counts:
        attempts = max(0, entry.attempts - 1) if guards.drain_floor else entry.attempts - 1
        entry = entry._replace(attempts=attempts, tries=max(0, entry.tries - 1))
    return to_pending(with_entry(manifest, shard, entry), shard), ("ok",)


def fail(manifest: Manifest, shard: int, token: int, guards: Guards) -> tuple[Manifest, Answer]:
    if not holds(manifest, shard, token, guards):
        return manifest, ("lost",)
    failed = manifest.entries[shard]._replace(state=FAILED)
    return settle(with_entry(manifest, shard, failed)), ("ok",)


def expire(manifest: Manifest, shard: int, token: int) -> tuple[Manifest, Answer]:
    entry = manifest.entries[shard]
    if entry.state != RUNNING or entry.token != token:
        return manifest, ("refused",)
    return to_pending(manifest, shard), ("ok",)


def reopen(manifest: Manifest, shard: int) -> tuple[Manifest, Answer]:
    entry = manifest.entries[shard]
    if entry.state != DONE:
        return manifest, ("refused",)
    again = entry._replace(state=PENDING, batches=0, counted=0, attempts=0, tries=0)
    return settle(with_entry(manifest, shard, again)), ("ok",)


def restore(manifest: Manifest, shard: int) -> tuple[Manifest, Answer]:
    entry = manifest.entries[shard]
    if entry.state == DONE:
        return manifest, ("refused",)
    return settle(with_entry(manifest, shard, entry._replace(state=DONE, counted=NUM_BATCHES))), ("ok",)


def cancel(manifest: Manifest) -> tuple[Manifest, Answer]:
    entries = tuple(
        entry if entry.state == DONE else entry._replace(state=CANCELLED) for entry in manifest.entries
    )
    job = DONE if manifest.job == DONE else CANCELLED
    return Manifest(job, entries), (job,)


def revive(manifest: Manifest) -> tuple[Manifest, Answer]:
    entries = tuple(
        entry._replace(state=PENDING, attempts=0, tries=0, request=0)
        if entry.state in (FAILED, CANCELLED)
        else entry
        for entry in manifest.entries
    )
    revived = sum(before != after for before, after in zip(manifest.entries, entries, strict=True))
    job = RUNNING if manifest.job in (FAILED, CANCELLED) else manifest.job
    return settle(Manifest(job, entries)), (revived,)


# ---- the world around it


def begin(setup: Setup) -> World:
    """A job just submitted: one message per shard."""
    shards = setup.num_shards
    return World(
        manifest=fresh(shards),
        messages=(1,) * shards,
        workers=(Worker(),) * 2,
        stores=((Store(),) * shards,) * (2 if setup.two_hosts else 1),
        results=((),) * shards,
        done_files=(0,) * shards,
        held=False,
        seen_done=None,
        given=(0,) * shards,
        left=setup.bounds,
    )


def spend(world: World, kind: str) -> World | None:
    """None when this history had its share of such faults."""
    left: int = getattr(world.left, kind)
    if not left or not world.left.faults:
        return None
    return world._replace(left=world.left._replace(**{kind: left - 1, "faults": world.left.faults - 1}))


def host_of(world: World, worker: int) -> int:
    return worker if len(world.stores) > 1 else 0


def store_of(world: World, worker: int) -> Store:
    store: Store = world.stores[host_of(world, worker)][world.workers[worker].shard]
    return store


def with_store(world: World, worker: int, store: Store) -> World:
    host, shard = host_of(world, worker), world.workers[worker].shard
    return world._replace(stores=put(world.stores, host, put(world.stores[host], shard, store)))


def with_worker(world: World, worker: int, **changes: Any) -> World:
    changed = world.workers[worker]._replace(**changes)
    return world._replace(workers=put(world.workers, worker, changed))


def drop(world: World, worker: int) -> World:
    """Whatever it did, it is over: the memory is gone, and its request will not be made again."""
    world = world._replace(workers=put(world.workers, worker, Worker()))
    return unlink_request(world, worker)


def unlink_request(world: World, worker: int) -> World:
    if world.manifest is None:
        return world
    entries = tuple(
        entry._replace(request=0) if entry.request == worker + 1 else entry
        for entry in world.manifest.entries
    )
    return world._replace(manifest=Manifest(world.manifest.job, entries))


def send(world: World, shard: int, number: int) -> World:
    waiting = max(0, min(2, world.messages[shard] + number))
    return world._replace(messages=put(world.messages, shard, waiting))


def in_phase(world: World, *phases: str) -> Iterator[tuple[int, Worker]]:
    return ((number, worker) for number, worker in enumerate(world.workers) if worker.phase in phases)


def is_alive(world: World, shard: int, token: int) -> bool:
    """Whether somebody still works under this lease."""
    return any(
        (worker.shard, worker.token) == (shard, token)
        for _, worker in in_phase(world, LEASED, *HAS_STORE_OPEN, NAMED)
    )


# ---- messages


def deliver(world: World, setup: Setup) -> Iterator[Move]:
    """An idle worker takes a message and looks at its store's floor, before it asks for the shard."""
    for number, _ in in_phase(world, IDLE):
        for shard in range(setup.num_shards):
            if world.messages[shard]:
                after = with_worker(send(world, shard, -1), number, phase=ASKING, shard=shard)
                after = with_worker(after, number, floor=store_of(after, number).floor)
                yield Action("deliver", number, shard), after


def lose_or_double(world: World, setup: Setup) -> Iterator[Move]:
    """The broker loses a message, or delivers it twice."""
    spent = spend(world, "messages")
    for shard in range(setup.num_shards):
        if spent and world.messages[shard]:
            yield Action("lose message", shard=shard), send(spent, shard, -1)
            yield Action("double message", shard=shard), send(spent, shard, 1)


def resend(world: World, setup: Setup) -> Iterator[Move]:
    """The reconciler finds a pending shard that no message waits for."""
    if world.manifest is None or world.manifest.job != RUNNING or not setup.guards.resend:
        return
    for shard, entry in enumerate(world.manifest.entries):
        if entry.state == PENDING and not world.messages[shard]:
            yield Action("resend", shard=shard), send(world, shard, 1)


# ---- the lease


def ask(world: World, setup: Setup) -> Iterator[Move]:
    """The worker asks for the shard; the answer may get lost, and then the same request is made again."""
    for number, worker in in_phase(world, ASKING):
        after, answer = answer_to(world, number, setup)
        yield (
            Action("acquire", number, worker.shard),
            hear(after, number, int(answer[1])) if answer[0] == "ok" else drop(after, number),
        )
        spent = spend(after, "replies")
        if spent and after != world:
            yield Action("acquire, answer lost", number, worker.shard), spent


def answer_to(world: World, number: int, setup: Setup) -> tuple[World, Answer]:
    if world.manifest is None:
        return world, ("unknown",)
    worker, guards = world.workers[number], setup.guards
    floor = worker.floor if guards.floor else 0
    limit = setup.attempt_limit if guards.attempt_limit else None
    manifest, answer = acquire(world.manifest, worker.shard, floor, number + 1, limit)
    return world._replace(manifest=manifest), answer


def hear(world: World, number: int, token: int) -> World:
    shard = world.workers[number].shard
    world = with_worker(unlink_request(world, number), number, phase=LEASED, token=token, floor=0)
    return world._replace(given=put(world.given, shard, max(world.given[shard], token)))


def report(world: World, setup: Setup) -> Iterator[Move]:
    """A beat carries the commits to the manifest; a holder that lost its lease may hear of it, and stop."""
    for number, worker in in_phase(world, LEASED, *HAS_STORE_OPEN):
        if not holds(world.manifest, worker.shard, worker.token, setup.guards):
            yield Action("hear of lost lease", number, worker.shard), drop(world, number)
        elif world.manifest is not None and worker.phase != LEASED:
            manifest, _ = beat(world.manifest, worker.shard, worker.token, worker.batches, setup.guards)
            yield Action("beat", number, worker.shard), world._replace(manifest=manifest)


def lose_lease(world: World, setup: Setup) -> Iterator[Move]:
    """An observer takes a lease away. A holder that lives, cut off or stopped, goes on as a zombie."""
    if world.manifest is None or not setup.guards.expiry:
        return
    for shard, entry in enumerate(world.manifest.entries):
        alive = is_alive(world, shard, entry.token)
        paid = spend(world, "stalls") if alive else world
        if paid and entry.state == RUNNING:
            manifest, _ = expire(world.manifest, shard, entry.token)
            name = "expire live holder" if alive else "expire dead holder"
            yield Action(name, shard=shard), paid._replace(manifest=manifest)


def crash(world: World, setup: Setup) -> Iterator[Move]:
    """A worker dies, and is restarted with nothing in its memory."""
    spent = spend(world, "crashes")
    for number, worker in enumerate(world.workers):
        if spent and worker.phase != IDLE:
            yield Action("crash", number, worker.shard), drop(spent, number)


def drain_or_fail(world: World, setup: Setup) -> Iterator[Move]:
    """A worker is shut down and gives its shard back; or it finds that no attempt can ever succeed."""
    for number, worker in in_phase(world, OPEN):
        if world.manifest is None:
            return
        lease = (world.manifest, worker.shard, worker.token, setup.guards)
        if spent := spend(world, "drains"):
            after = drop(spent._replace(manifest=release(*lease, counts=False)[0]), number)
            yield Action("drain", number, worker.shard), send(after, worker.shard, 1)
        if spent := spend(world, "failures"):
            yield Action("fail", number, worker.shard), drop(spent._replace(manifest=fail(*lease)[0]), number)


# ---- the store


def is_fenced(store: Store, worker: Worker, guards: Guards) -> bool:
    return guards.fence and not worker.detached and worker.token < store.floor


def open_store(world: World, setup: Setup) -> Iterator[Move]:
    """Ends the store's owner first, then checks the token and raises the floor; finds a published result."""
    for number, worker in in_phase(world, LEASED):
        store = store_of(world, number)
        fenced = is_fenced(store, worker, setup.guards)
        spares = not setup.guards.evict or (fenced and setup.guards.look_before_evict)
        after = world if spares else evict(world, number)
        action = Action("open store", number, worker.shard)
        if fenced:
            yield action, drop(after, number)
            continue
        record = store.done or world.done_files[worker.shard]
        known = sum(1 for block in store.blocks if block)
        after = with_worker(after, number, phase=RECORDED if record else OPEN, record=record, batches=known)
        yield action, with_store(after, number, store._replace(floor=worker.token))


def evict(world: World, number: int) -> World:
    for other, owner in in_phase(world, *HAS_STORE_OPEN):
        same_place = (host_of(world, other), owner.shard) == (
            host_of(world, number),
            world.workers[number].shard,
        )
        if other != number and same_place and not owner.detached:
            world = drop(world, other)
    return world


def commit(world: World, setup: Setup) -> Iterator[Move]:
    """The next batch that this worker knows no commit of."""
    for number, worker in in_phase(world, OPEN):
        if worker.batches == NUM_BATCHES:
            continue
        if setup.poison and (worker.shard, worker.batches) == (0, 1):
            yield Action("die of poison", number, 0), drop(world, number)
            continue
        store = store_of(world, number)
        action = Action("commit", number, worker.shard)
        if is_fenced(store, worker, setup.guards):
            yield action, drop(world, number)
            continue
        after = with_worker(world, number, batches=worker.batches + 1)
        if not worker.detached:
            blocks = put(store.blocks, worker.batches, worker.token)
            after = with_store(after, number, store._replace(blocks=blocks))
        yield action, after


# ---- publishing: result file, done record, done file, manifest


def write_result(world: World, setup: Setup) -> Iterator[Move]:
    for number, worker in in_phase(world, OPEN):
        # A store without a name is read all the same: its owner committed what it knows of.
        whole = worker.batches == NUM_BATCHES if worker.detached else all(store_of(world, number).blocks)
        if whole or not setup.guards.whole_check:
            after = with_result(world, worker.shard, Result(worker.token, whole))
            after = with_worker(after, number, phase=WRITTEN, record=worker.token)
            yield Action("write result", number, worker.shard), after
        if whole and not setup.guards.order:
            after = world._replace(done_files=put(world.done_files, worker.shard, worker.token))
            yield Action("write done file early", number, worker.shard), after


def with_result(world: World, shard: int, result: Result) -> World:
    others = tuple(other for other in world.results[shard] if other.token != result.token)
    return world._replace(results=put(world.results, shard, tuple(sorted((*others, result)))))


def record_result(world: World, setup: Setup) -> Iterator[Move]:
    for number, worker in in_phase(world, WRITTEN):
        store = store_of(world, number)
        if is_fenced(store, worker, setup.guards):
            after = drop(world, number)
        else:
            after = with_worker(world, number, phase=RECORDED)
            if not worker.detached:
                after = with_store(after, number, store._replace(done=worker.record))
        yield Action("set done record", number, worker.shard), after


def write_done_file(world: World, setup: Setup) -> Iterator[Move]:
    """Nothing fences this step: a zombie may take it."""
    for number, worker in in_phase(world, RECORDED):
        after = with_worker(world, number, phase=NAMED)
        after = after._replace(done_files=put(world.done_files, worker.shard, worker.record))
        yield Action("write done file", number, worker.shard), after


def tell_manifest(world: World, setup: Setup) -> Iterator[Move]:
    """`complete`, by a worker that has published; repeated when the answer is lost."""
    for number, worker in in_phase(world, NAMED):
        action = Action("complete", number, worker.shard)
        if world.manifest is None:
            yield action, drop(world, number)
            continue
        lease = (world.manifest, worker.shard, worker.token)
        manifest, answer = complete(*lease, NUM_BATCHES, setup.guards)
        after = world._replace(manifest=manifest)
        accepted = answer[0] == "ok"
        yield action, with_worker(after, number, phase=COMPLETED) if accepted else drop(after, number)
        if accepted and manifest != world.manifest and (spent := spend(after, "replies")):
            yield Action("complete, answer lost", number, worker.shard), spent


def claim_early(world: World, setup: Setup) -> Iterator[Move]:
    """A worker gone wrong calls `complete` with what it has."""
    for number, worker in in_phase(world, OPEN):
        if world.manifest is not None and worker.batches < NUM_BATCHES:
            lease = (world.manifest, worker.shard, worker.token)
            manifest, _ = complete(*lease, worker.batches, setup.guards)
            yield Action("complete early", number, worker.shard), world._replace(manifest=manifest)


def discard_store(world: World, setup: Setup) -> Iterator[Move]:
    """Removes the directory, whoever has it open: that one goes on with a file that has no name."""
    for number, worker in in_phase(world, COMPLETED):
        after, store = world, store_of(world, number)
        for other, owner in in_phase(world, *HAS_STORE_OPEN):
            same_place = (host_of(world, other), owner.shard) == (host_of(world, number), worker.shard)
            if same_place and is_fenced(store, owner, setup.guards):
                after = drop(after, other)
            elif same_place:
                after = with_worker(after, other, detached=True)
        yield Action("discard store", number, worker.shard), drop(with_store(after, number, Store()), number)


# ---- the job


def forget_everything(world: World, setup: Setup) -> Iterator[Move]:
    """The server loses its data: manifest and messages."""
    if world.manifest is not None and (spent := spend(world, "flushes")):
        yield Action("flush"), spent._replace(manifest=None, messages=(0,) * setup.num_shards)


def look_at_directory(world: World, setup: Setup) -> Iterator[Move]:
    """The reconciler finds a forgotten job, or somebody runs the command again: done files are read."""
    if world.seen_done is not None:
        return
    if world.manifest is None and not world.held and setup.guards.rebuild:
        yield Action("look at directory"), world._replace(seen_done=world.done_files)
    if spent := spend(world, "resumes"):
        yield Action("resume"), spent._replace(seen_done=world.done_files)


def announce(world: World, setup: Setup) -> Iterator[Move]:
    """Fill the manifest from what was seen, put right what disagrees, revive, and send messages."""
    if world.seen_done is None:
        return
    finished = [shard for shard, done in enumerate(world.seen_done) if done]
    tokens = world.given if setup.guards.epoch else None
    manifest = world.manifest or fresh(setup.num_shards, finished, tokens)
    for shard in range(setup.num_shards):
        manifest, _ = (restore if shard in finished else reopen)(manifest, shard)
    manifest, _ = revive(manifest)
    after = world._replace(manifest=manifest, held=False, seen_done=None)
    for shard, entry in enumerate(manifest.entries):
        if entry.state == PENDING and not world.messages[shard]:
            after = send(after, shard, 1)
    yield Action("announce"), after


def cancel_job(world: World, setup: Setup) -> Iterator[Move]:
    if world.manifest is not None and (spent := spend(world, "cancels")):
        yield Action("cancel"), spent._replace(manifest=cancel(world.manifest)[0], held=True)


MOVES: tuple[Callable[[World, Setup], Iterator[Move]], ...] = (
    deliver, lose_or_double, resend, ask, report, lose_lease, crash, drain_or_fail, open_store, commit,
    write_result, record_result, write_done_file, tell_manifest, claim_early, discard_store,
    forget_everything, look_at_directory, announce, cancel_job,
)  # fmt: skip


def moves(world: World, setup: Setup) -> Iterator[Move]:
    """Everything that can happen next and changes anything."""
    return (move for make in MOVES for move in make(world, setup) if move[1] != world)


# ---- the promises


class Step(NamedTuple):
    """One move, as the promises see it."""

    before: World
    action: Action
    after: World
    setup: Setup

    @property
    def writer(self) -> Worker:
        return self.before.workers[self.action.worker]

    @property
    def store_before(self) -> Store:
        return store_of(self.before, self.action.worker)

    @property
    def lease(self) -> int | None:
        """The token that the worker was given in this step, if it was given and heard one."""
        if self.action.name != "acquire":
            return None
        return self.after.workers[self.action.worker].token or None


def no_fenced_write(step: Step) -> bool:
    """Nothing is written to a store under a token below one that the store has seen."""
    if step.action.name not in ("open store", "commit", "set done record") or step.writer.detached:
        return True
    changed = step.before.stores != step.after.stores
    return not changed or step.writer.token >= step.store_before.floor


def no_batch_falls_back(step: Step) -> bool:
    """Neither a store's floor nor the token of a batch that is committed in it ever falls."""
    if step.action.name == "discard store":
        return True
    return all(
        new >= old
        for befores, afters in zip(step.before.stores, step.after.stores, strict=True)
        for before, after in zip(befores, afters, strict=True)
        for old, new in zip((before.floor, *before.blocks), (after.floor, *after.blocks), strict=True)
    )


def leases_outrank_the_store(step: Step) -> bool:
    """A lease is given only above every token that the asker's store had seen when it looked."""
    return step.lease is None or step.lease > step.writer.floor


def no_token_is_given_twice(step: Step) -> bool:
    """Every lease of a shard has a token above all that were given for it, also after a flush."""
    return step.lease is None or step.lease > step.before.given[step.action.shard]


def no_result_is_written_over(step: Step) -> bool:
    """A result file, once written, is never replaced: its name carries a token that one lease has."""
    if step.action.name != "write result":
        return True
    return all(result.token != step.writer.token for result in step.before.results[step.action.shard])


def fenced_workers_end_nobody(step: Step) -> bool:
    """A worker whose token is fenced does not end the process that has the store open."""
    if step.action.name != "open store" or step.writer.token >= step.store_before.floor:
        return True
    others = [number for number in range(len(step.before.workers)) if number != step.action.worker]
    return all(step.before.workers[other] == step.after.workers[other] for other in others)


def one_process_per_store(step: Step) -> bool:
    """No store is open in two living processes of one host."""
    open_now = [
        (host_of(step.after, number), worker.shard)
        for number, worker in in_phase(step.after, *HAS_STORE_OPEN)
        if not worker.detached
    ]
    return len(open_now) == len(set(open_now))


def only_the_holder_is_heard(step: Step) -> bool:
    """A worker moves a leased shard only under the shard's own token."""
    if step.action.worker < 0 or step.before.manifest is None or step.after.manifest is None:
        return True
    before, after = (
        world.entries[step.action.shard] for world in (step.before.manifest, step.after.manifest)
    )
    changed = before._replace(request=0) != after._replace(request=0)
    return before.state != RUNNING or not changed or step.writer.token == before.token


def done_files_name_whole_results(step: Step) -> bool:
    """A done file always names a result that is there, with every batch in it."""
    return all(
        not done or Result(done, True) in results
        for done, results in zip(step.after.done_files, step.after.results, strict=True)
    )


def done_shards_are_published(step: Step) -> bool:
    """A shard that the manifest calls done has a done file, and every record of it is counted once."""
    if step.after.manifest is None:
        return True
    return all(
        entry.state != DONE or (done != 0 and entry.counted == NUM_BATCHES)
        for entry, done in zip(step.after.manifest.entries, step.after.done_files, strict=True)
    )


def jobs_end_with_their_shards(step: Step) -> bool:
    """A job is done when, and only when, every shard is; and it runs as long as one can still be done."""
    if step.after.manifest is None:
        return True
    job, entries = step.after.manifest
    all_done, all_ended = (all(entry.state in states for entry in entries) for states in ((DONE,), ENDED))
    return (job == DONE) == all_done and (job in ENDED) == all_ended


def attempts_are_limited(step: Step) -> bool:
    """A shard is tried at most `attempt_limit` times without news of a commit, drained attempts apart."""
    if step.after.manifest is None:
        return True
    return all(entry.tries <= step.setup.attempt_limit for entry in step.after.manifest.entries)


Invariant = Callable[[Step], bool]

OF_A_MOVE: tuple[Invariant, ...] = (
    no_fenced_write, no_batch_falls_back, leases_outrank_the_store, no_token_is_given_twice,
    no_result_is_written_over, fenced_workers_end_nobody, only_the_holder_is_heard,
)  # fmt: skip
OF_A_WORLD: tuple[Invariant, ...] = (
    one_process_per_store, done_files_name_whole_results, done_shards_are_published,
    jobs_end_with_their_shards, attempts_are_limited,
)  # fmt: skip
INVARIANTS = OF_A_MOVE + OF_A_WORLD

NO_DEADLOCK = "every_job_can_end"
"""From every state a way without any further fault, or anybody's help, leads to where all shards are done,
failed or cancelled. Held jobs that the server forgot wait for somebody: they have ended, too."""


def has_ended(world: World) -> bool:
    if world.manifest is None:
        return world.held
    return all(entry.state in ENDED for entry in world.manifest.entries)


# ---- the search


@dataclass(frozen=True, slots=True)
class Report:
    """What a search found. `broken` names the first promise that does not hold, `trace` a shortest way."""

    num_states: int
    num_transitions: int
    broken: str | None = None
    trace: tuple[Action, ...] = ()
    endings: frozenset[tuple[str, ...]] = frozenset()

    def __str__(self) -> str:
        found = "all promises hold" if self.broken is None else f"{self.broken} broken by:"
        lines = [f"{self.num_states} states, {self.num_transitions} transitions: {found}"]
        return "\n  ".join([*lines, *map(describe, self.trace)])


def describe(action: Action) -> str:
    worker = f" worker={'AB'[action.worker]}" if action.worker >= 0 else ""
    return action.name + worker + (f" shard={action.shard}" if action.shard >= 0 else "")


def explore(setup: Setup, invariants: Collection[Invariant] = INVARIANTS) -> Report:
    """Visit every state, nearest first, until a promise is broken or there is none left."""
    graph = Graph(begin(setup))
    of_a_move = [promise for promise in invariants if promise in OF_A_MOVE]
    num_transitions = 0
    for number, world in enumerate(graph.worlds):  # grows while it is walked
        for action, made in moves(world, setup):
            num_transitions += 1
            after = canonical(made)
            asked = of_a_move if graph.knows(after) else invariants
            broken = first_broken(Step(world, action, made, setup), asked)
            if broken:
                trace = graph.trace(number, setup, broken)
                return Report(len(graph.worlds), num_transitions, broken.__name__, trace)
            graph.add(number, after, free=made.left == world.left)
    stuck = graph.first_stuck()
    if stuck is not None:
        return Report(len(graph.worlds), num_transitions, NO_DEADLOCK, graph.trace(stuck, setup))
    endings = frozenset(states_of(world) for world in graph.worlds if has_ended(world))
    return Report(len(graph.worlds), num_transitions, endings=endings)


def first_broken(step: Step, invariants: Collection[Invariant]) -> Invariant | None:
    return next((promise for promise in invariants if not promise(step)), None)


def states_of(world: World) -> tuple[str, ...]:
    return () if world.manifest is None else tuple(entry.state for entry in world.manifest.entries)


def canonical(world: World) -> World:
    """Of two worlds that differ only in which worker is which, always the same one."""
    two_hosts = len(world.stores) > 1
    keys = [
        (worker, world.stores[number] if two_hosts else ()) for number, worker in enumerate(world.workers)
    ]
    if keys[0] <= keys[1]:
        return world
    manifest = world.manifest
    if manifest is not None:
        entries = tuple(
            entry._replace(request=3 - entry.request) if entry.request else entry
            for entry in manifest.entries
        )
        manifest = Manifest(manifest.job, entries)
    return world._replace(manifest=manifest, workers=world.workers[::-1], stores=world.stores[::-1])


class Graph:
    """The worlds that were reached: how first, and from where without a fault."""

    def __init__(self, first: World) -> None:
        self.worlds = [first]
        self._numbers = {first: 0}
        self._parents = [0]
        self._ways_back: list[list[int]] = [[]]

    def knows(self, world: World) -> bool:
        return world in self._numbers

    def add(self, parent: int, world: World, *, free: bool) -> None:
        number = self._numbers.setdefault(world, len(self.worlds))
        if number == len(self.worlds):
            self.worlds.append(world)
            self._parents.append(parent)
            self._ways_back.append([])
        if free:
            self._ways_back[number].append(parent)

    def first_stuck(self) -> int | None:
        """The nearest world from which no end can be reached without another fault."""
        can_end = bytearray(has_ended(world) for world in self.worlds)
        waiting = [number for number, ends in enumerate(can_end) if ends]
        while waiting:
            for before in self._ways_back[waiting.pop()]:
                if not can_end[before]:
                    can_end[before] = True
                    waiting.append(before)
        stuck = can_end.find(0)
        return None if stuck < 0 else stuck

    def trace(self, number: int, setup: Setup, broken: Invariant | None = None) -> tuple[Action, ...]:
        """The moves that led to a world, walked again so that every worker keeps its name."""
        world, actions = self.worlds[0], []
        for target in self._path(number):
            action, world = next(
                move for move in moves(world, setup) if canonical(move[1]) == self.worlds[target]
            )
            actions.append(action)
        if broken:
            last = (
                action
                for action, after in moves(world, setup)
                if not broken(Step(world, action, after, setup))
            )
            actions.append(next(last))
        return tuple(actions)

    def _path(self, number: int) -> list[int]:
        path = []
        while number:
            path.append(number)
            number = self._parents[number]
        return path[::-1]
