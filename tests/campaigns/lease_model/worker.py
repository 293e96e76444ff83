"""What a worker does with its shard, in the order of ShardRun's steps: it asks, computes, publishes, tells.

Each function yields the moves of every worker that is at that step.
"""

from collections.abc import Iterator

from tests.campaigns.lease_model.manifest import Answer, acquire, beat, complete, fail, holds, put, release
from tests.campaigns.lease_model.setup import NUM_BATCHES, Guards, Setup
from tests.campaigns.lease_model.world import (
    ADOPTED,
    ASKING,
    BEATEN,
    COMPLETED,
    HAS_STORE_OPEN,
    IDLE,
    LEASED,
    NAMED,
    OPEN,
    RECORDED,
    WRITTEN,
    Action,
    Move,
    Result,
    Store,
    Worker,
    World,
    drop,
    host_of,
    in_phase,
    is_sound,
    reopened,
    send,
    spend,
    store_of,
    unlink_request,
    want_export,
    with_result,
    with_store,
    with_worker,
    without_result,
)

# ---- the lease


def deliver(world: World, setup: Setup) -> Iterator[Move]:
    """An idle worker takes a message and looks at its store's floor, before it asks for the shard."""
    for number, _ in in_phase(world, IDLE):
        for shard in range(setup.num_shards):
            is_own = setup.one_process and has_in_hand(world, 1 - number, shard)
            if world.messages[shard] and not is_own:
                after = with_worker(send(world, shard, -1), number, phase=ASKING, shard=shard)
                after = with_worker(after, number, floor=store_of(after, number).floor)
                yield Action("deliver", number, shard), after


def look_ahead(world: World, setup: Setup) -> Iterator[Move]:
    """A worker asks for the shard that it was dealt before it takes the message, which stays where it is."""
    for number, _ in in_phase(world, IDLE) if setup.one_process else ():
        for shard in range(setup.num_shards):
            if world.messages[shard] and not has_in_hand(world, 1 - number, shard):
                after = with_worker(world, number, phase=ASKING, shard=shard)
                after = with_worker(after, number, floor=store_of(after, number).floor)
                yield Action("look ahead", number, shard), after


def let_go(world: World, setup: Setup) -> Iterator[Move]:
    """No task begins what was made ready: it is given back unspent: as often as drains may happen."""
    for number, worker in in_phase(world, LEASED, OPEN) if setup.one_process else ():
        spent = spend(world, "drains")
        if spent and world.manifest is not None:
            lease = (world.manifest, worker.shard, worker.token, setup.guards)
            after = spent._replace(manifest=release(*lease, counts=False)[0])
            yield Action("let go", number, worker.shard), drop(after, number)


def has_in_hand(world: World, number: int, shard: int) -> bool:
    """A message waits for a shard that its own process publishes."""
    worker = world.workers[number]
    return worker.phase != IDLE and worker.shard == shard


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
        after, record = found_published(after, worker.shard, store.done)
        known = sum(1 for block in store.blocks if block)
        phase, generation = RECORDED if record else OPEN, after.generations[worker.shard]
        after = with_worker(after, number, phase=phase, record=record, generation=generation, batches=known)
        done = record and store.done
        yield action, with_store(after, number, store._replace(floor=worker.token, done=done))


def found_published(world: World, shard: int, in_store: int) -> tuple[World, int]:
    """The result that is to be named, or 0. A done file whose result is damaged is given up at once: whoever
    did so before leaves the same behind."""
    if named := world.done_files[shard]:
        return (world, named) if is_sound(world, shard, named) else (reopened(world, shard), 0)
    now = world.generations[shard]
    is_of_now = any((each.token, each.generation) == (in_store, now) for each in world.results[shard])
    return world, in_store if is_of_now and is_sound(world, shard, in_store) else 0


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
            after = with_result(world, worker.shard, Result(worker.token, whole, worker.generation))
            after = with_worker(after, number, phase=WRITTEN, record=worker.token)
            yield Action("write result", number, worker.shard), after
        if whole and not setup.guards.order:
            after = world._replace(done_files=put(world.done_files, worker.shard, worker.token))
            yield Action("write done file early", number, worker.shard), after


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


def create_done_file(world: World, setup: Setup) -> Iterator[Move]:
    """No token fences this step, and a zombie may take it: the first one in its generation decides."""
    for number, worker in in_phase(world, RECORDED):
        action = Action("create done file", number, worker.shard)
        counting = world.done_files[worker.shard]
        is_free = not counting and world.generations[worker.shard] == worker.generation
        if is_free or not setup.guards.create_only:
            after = with_worker(world, number, phase=NAMED)
            yield action, after._replace(done_files=put(world.done_files, worker.shard, worker.record))
        elif not counting:
            yield action, drop(world, number)
        elif counting == worker.record and setup.guards.loser_looks:
            yield action, with_worker(world, number, phase=NAMED)
        else:
            yield action, with_worker(world, number, phase=BEATEN, winner=counting)


def adopt_winner(world: World, setup: Setup) -> Iterator[Move]:
    """The store is told first which result counts, and then the holder's own is removed."""
    for number, worker in in_phase(world, BEATEN):
        store, action = store_of(world, number), Action("adopt", number, worker.shard)
        if is_fenced(store, worker, setup.guards):
            yield action, drop(world, number)
            continue
        after = with_worker(world, number, phase=ADOPTED)
        if not worker.detached:
            after = with_store(after, number, store._replace(done=worker.winner))
        yield action, after
    for number, worker in in_phase(world, ADOPTED):
        after = without_result(world, worker.shard, worker.record)
        after = with_worker(after, number, phase=NAMED, record=worker.winner, winner=0)
        yield Action("remove result", number, worker.shard), after


def tell_manifest(world: World, setup: Setup) -> Iterator[Move]:
    """`complete`, by a worker that has published; repeated when the answer is lost."""
    for number, worker in in_phase(world, NAMED):
        action = Action("complete", number, worker.shard)
        if world.manifest is None:
            yield action, drop(world, number)
            continue
        lease = (world.manifest, worker.shard, worker.token)
        manifest, answer = complete(*lease, NUM_BATCHES, setup.guards)
        accepted = answer[0] == "ok"
        after = world._replace(manifest=manifest)
        after = want_export(after) if accepted else after
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
