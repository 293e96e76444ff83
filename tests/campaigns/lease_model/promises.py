"""What must hold: each promise is a question about one step, asked of every step that the search takes."""

from collections.abc import Callable
from typing import NamedTuple

from tests.campaigns.lease_model.manifest import DONE, ENDED, RUNNING
from tests.campaigns.lease_model.setup import NUM_BATCHES, Setup
from tests.campaigns.lease_model.world import (
    HAS_STORE_OPEN,
    Action,
    Store,
    Worker,
    World,
    host_of,
    in_phase,
    is_sound,
    store_of,
)


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
    """A done file always names a result that is there, with every batch in it, if it has not rotted since."""
    return all(
        not done or any(result.token == done and result.whole for result in results)
        for done, results in zip(step.after.done_files, step.after.results, strict=True)
    )


def sound_records_stay(step: Step) -> bool:
    """A done file whose result is sound is neither replaced nor taken away, so its token never falls."""
    before, after = step.before.done_files, step.after.done_files
    return before == after or not any(
        before[shard] != after[shard] and is_sound(step.before, shard, before[shard])
        for shard in range(len(before))
    )


def outputs_agree_with_records(step: Step) -> bool:
    """When a job is done and nobody is about to change that, its output holds the results that its done files
    name. One whose result has rotted may be published anew by a late holder that nobody hears."""
    world = step.after
    is_quiet = world.output.written and not (world.output.is_wanted or world.output.read or world.seen_done)
    if not is_quiet or world.manifest is None or world.manifest.job != DONE:
        return True
    return all(
        token == done or not is_sound(world, shard, token)
        for shard, (token, done) in enumerate(zip(world.output.written, world.done_files, strict=True))
    )


def done_shards_are_published(step: Step) -> bool:
    """A shard that the manifest calls done has a done file, unless its result has rotted since, and every
    record of it is counted once."""
    if step.after.manifest is None:
        return True
    after = step.after
    return all(
        entry.state != DONE or (entry.counted == NUM_BATCHES and (done or has_rotted(after, shard)))
        for shard, (entry, done) in enumerate(zip(after.manifest.entries, after.done_files, strict=True))
    )


def has_rotted(world: World, shard: int) -> bool:
    return any(result.rotten for result in world.results[shard])


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
    no_result_is_written_over, fenced_workers_end_nobody, only_the_holder_is_heard, sound_records_stay,
)  # fmt: skip
OF_A_WORLD: tuple[Invariant, ...] = (
    one_process_per_store, done_files_name_whole_results, done_shards_are_published,
    outputs_agree_with_records, jobs_end_with_their_shards, attempts_are_limited,
)  # fmt: skip
INVARIANTS = OF_A_MOVE + OF_A_WORLD

NO_DEADLOCK = "every_job_can_end"
"""From every state a way without any further fault, or anybody's help, leads to where all shards are done,
failed or cancelled. Held jobs that the server forgot wait for somebody: they have ended, too."""


def has_ended(world: World) -> bool:
    if world.manifest is None:
        return world.held
    return all(entry.state in ENDED for entry in world.manifest.entries)
