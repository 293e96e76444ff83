"""The server's part: each function is one operation of manifest.lua."""

from collections.abc import Collection
from typing import Any, NamedTuple

from tests.campaigns.lease_model.setup import NUM_BATCHES, Guards

PENDING, RUNNING, DONE, FAILED, CANCELLED = "pending", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)

Answer = tuple[str | int, ...]


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
    waits = CANCELLED if manifest.job == CANCELLED else PENDING
    again = entry._replace(state=waits, batches=0, counted=0, attempts=0, tries=0)
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


def put(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])
