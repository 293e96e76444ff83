"""What else may happen: the broker, the reconciler, the producer and the user move, and things break."""

from collections.abc import Iterator

from tests.campaigns.lease_model.manifest import (
    PENDING,
    RUNNING,
    cancel,
    expire,
    fresh,
    reopen,
    restore,
    revive,
)
from tests.campaigns.lease_model.setup import Setup
from tests.campaigns.lease_model.world import IDLE, Action, Move, World, drop, is_alive, send, spend

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
    """A worker dies, and is restarted with nothing in its memory."""
    spent = spend(world, "crashes")
    for number, worker in enumerate(world.workers):
        if spent and worker.phase != IDLE:
            yield Action("crash", number, worker.shard), drop(spent, number)


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
