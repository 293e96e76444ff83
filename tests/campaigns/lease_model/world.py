"""Everything at one moment, the small steps that all moves are made of, and how a world begins."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.campaigns.lease_model.manifest import Manifest, fresh, put
from tests.campaigns.lease_model.setup import NUM_BATCHES, Bounds, Setup

# How far a worker is with its shard, in the order of ShardRun's steps.
IDLE, ASKING, LEASED, OPEN, WRITTEN, RECORDED, NAMED, COMPLETED = (
    "idle", "asking", "leased", "open", "written", "recorded", "named", "completed",
)  # fmt: skip
HAS_STORE_OPEN = (OPEN, WRITTEN, RECORDED)


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
