"""What else may happen: the broker, the reconciler, the producer and the user move, and things break."""

from collections.abc import Iterator

from tests.campaigns.lease_model.manifest import (
    PENDING,
    RUNNING,
    cancel,
    expire,
    fresh,
    put,
    reopen,
    restore,
    revive,
)
from tests.campaigns.lease_model.setup import Setup
from tests.campaigns.lease_model.world import (
    IDLE,
    Action,
    Move,
    Output,
    Result,
    Seen,
    World,
    drop,
    is_alive,
    is_sound,
    reopened,
    send,
    spend,
    want_export,
    with_result,
)

# ---- messages


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


# ---- workers, as others see them


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
    """A worker dies, with all that its process has in hand, and is restarted with nothing in its memory."""
    spent = spend(world, "crashes")
    for number, worker in enumerate(world.workers):
        if spent and worker.phase != IDLE:
            after = drop(drop(spent, number), 1 - number) if setup.one_process else drop(spent, number)
            yield Action("crash", number, worker.shard), after


def rot(world: World, setup: Setup) -> Iterator[Move]:
    """A published result is damaged at rest."""
    spent = spend(world, "damages")
    for shard, done in enumerate(world.done_files):
        if spent and is_sound(world, shard, done):
            rotten = Result(done, whole=True, generation=world.generations[shard], rotten=True)
            yield Action("rot", shard=shard), with_result(spent, shard, rotten)


# ---- the output


def read_results(world: World, setup: Setup) -> Iterator[Move]:
    """An export reads what counts; unless all of it is sound it fails, and is tried again.

    Where no result can rot, nothing that counts changes meanwhile (`sound_records_stay`): it writes at once.
    """
    if not world.output.is_wanted or world.output.read:
        return
    if all(is_sound(world, shard, done) for shard, done in enumerate(world.done_files)):
        read = world._replace(output=world.output._replace(is_wanted=False, read=world.done_files))
        yield from [(Action("read results"), read)] if setup.bounds.damages else write_output(read, setup)


def write_output(world: World, setup: Setup) -> Iterator[Move]:
    """What was read becomes the output, if it counts still; else it is read again."""
    if world.output.read == world.done_files:
        written = Output(world.output.is_wanted, written=world.output.read)
        yield Action("write output"), world._replace(output=written)
    elif world.output.read:
        again = world.output._replace(is_wanted=True, read=())
        yield Action("read again"), world._replace(output=again)


# ---- the job


def forget_everything(world: World, setup: Setup) -> Iterator[Move]:
    """The server loses its data: manifest and messages."""
    if world.manifest is not None and (spent := spend(world, "flushes")):
        yield Action("flush"), spent._replace(manifest=None, messages=(0,) * setup.num_shards)


def look_at_directory(world: World, setup: Setup) -> Iterator[Move]:
    """The reconciler finds a forgotten job, or somebody runs the command again: done files are read."""
    if world.seen_done is not None:
        return
    seen = tuple(
        Seen(world.generations[shard], done, is_sound(world, shard, done))
        for shard, done in enumerate(world.done_files)
    )
    if world.manifest is None and not world.held and setup.guards.rebuild:
        yield Action("look at directory"), world._replace(seen_done=seen)
    if spent := spend(world, "resumes"):
        yield Action("resume"), spent._replace(seen_done=seen)


def reopen_damaged(world: World, setup: Setup) -> Iterator[Move]:
    """Whoever has seen a done file whose result is damaged begins the next generation, before all else."""
    for shard, seen in enumerate(world.seen_done or ()):
        if seen.token and not seen.is_sound:
            is_as_seen = world.generations[shard] == seen.generation or not setup.guards.reopen_as_seen
            after = reopened(world, shard) if is_as_seen else world
            left = put(world.seen_done or (), shard, seen._replace(token=0))
            yield Action("reopen damaged", shard=shard), after._replace(seen_done=left)


def announce(world: World, setup: Setup) -> Iterator[Move]:
    """Fill the manifest from what was seen, put right what disagrees, revive, and send messages."""
    if world.seen_done is None or any(seen.token and not seen.is_sound for seen in world.seen_done):
        return
    finished = [shard for shard, seen in enumerate(world.seen_done) if seen.token]
    tokens = world.given if setup.guards.epoch else None
    manifest = world.manifest or fresh(setup.num_shards, finished, tokens)
    for shard in range(setup.num_shards):
        manifest, _ = (restore if shard in finished else reopen)(manifest, shard)
    manifest, _ = revive(manifest)
    after = world._replace(manifest=manifest, held=False, seen_done=None)
    for shard, entry in enumerate(manifest.entries):
        if entry.state == PENDING and not world.messages[shard]:
            after = send(after, shard, 1)
    yield Action("announce"), want_export(after)


def cancel_job(world: World, setup: Setup) -> Iterator[Move]:
    if world.manifest is not None and (spent := spend(world, "cancels")):
        yield Action("cancel"), spent._replace(manifest=cancel(world.manifest)[0], held=True)
