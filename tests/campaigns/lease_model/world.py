"""Everything at one moment, the small steps that all moves are made of, and how a world begins."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.campaigns.lease_model.manifest import DONE, Manifest, fresh, put
from tests.campaigns.lease_model.setup import NUM_BATCHES, Bounds, Setup

# How far a worker is with its shard, in the order of ShardRun's steps.
IDLE, ASKING, LEASED, OPEN, WRITTEN, RECORDED, BEATEN, ADOPTED, NAMED, COMPLETED = (
    "idle", "asking", "leased", "open", "written", "recorded", "beaten", "adopted", "named", "completed",
)  # fmt: skip
HAS_STORE_OPEN = (OPEN, WRITTEN, RECORDED, BEATEN, ADOPTED)


class Store(NamedTuple):
    """One LMDB environment: the token under which each batch was written, and the result that is named."""

    floor: int = 0
    blocks: tuple[int, ...] = (0,) * NUM_BATCHES
    done: int = 0


class Worker(NamedTuple):
    """One process's memory. `batches` are the commits it knows of, `record` the result it will name, for
    this generation of the shard; `winner` is the one that another has named before."""

    phase: str = IDLE
    shard: int = 0
    token: int = 0
    floor: int = 0
    batches: int = 0
    record: int = 0
    generation: int = 0
    winner: int = 0
    detached: bool = False  # its store was removed under it: it writes to a file without a name


class Result(NamedTuple):
    """results/<shard>-<token>.parquet. A rotten one was whole once."""

    token: int
    whole: bool
    generation: int = 0
    rotten: bool = False


class Seen(NamedTuple):
    """What somebody has read of one shard's done files."""

    generation: int
    token: int
    is_sound: bool


class Output(NamedTuple):
    """The job's output, and who is about to write it: tokens of the results, one a shard."""

    is_wanted: bool = False
    read: tuple[int, ...] = ()
    written: tuple[int, ...] = ()


class World(NamedTuple):
    """Everything: the server, the disks, the workers' memories, and what faults are left."""

    manifest: Manifest | None
    messages: tuple[int, ...]
    workers: tuple[Worker, ...]
    stores: tuple[tuple[Store, ...], ...]  # of each host, of each shard
    results: tuple[tuple[Result, ...], ...]
    done_files: tuple[int, ...]  # the token in the name of the result; 0: no done file
    generations: tuple[int, ...]  # how often each shard was reopened
    output: Output
    held: bool
    seen_done: tuple[Seen, ...] | None  # what an announcer that has looked, but not acted yet, saw
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
        generations=(0,) * shards,
        output=Output(),
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


def with_result(world: World, shard: int, result: Result) -> World:
    world = without_result(world, shard, result.token)
    return world._replace(results=put(world.results, shard, tuple(sorted((*world.results[shard], result)))))


def without_result(world: World, shard: int, token: int) -> World:
    others = tuple(other for other in world.results[shard] if other.token != token)
    return world._replace(results=put(world.results, shard, others))


def is_sound(world: World, shard: int, token: int) -> bool:
    """Whether this result is there as it was published."""
    return any(each.token == token and each.whole and not each.rotten for each in world.results[shard])


def reopened(world: World, shard: int) -> World:
    """The next generation begins, without a done file."""
    return world._replace(
        done_files=put(world.done_files, shard, 0),
        generations=put(world.generations, shard, world.generations[shard] + 1),
    )


def want_export(world: World) -> World:
    """Whoever sees the job end asks for its output; written again it would be the same."""
    ended = world.manifest is not None and world.manifest.job == DONE
    if not ended or world.done_files in (world.output.written, world.output.read):
        return world
    return world._replace(output=world.output._replace(is_wanted=True))


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
