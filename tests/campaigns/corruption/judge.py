"""Is a damaged store named as such, or as good as before, and does its new owner get everything back?"""

import logging
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path

import checkpoint.store
from checkpoint import CheckpointError, CheckpointStore
from checkpoint.store_files import StoreFiles
from checkpoint.verify import StoreReport, verify_store
from checkpoint.verify_child import look_through
from tests.campaigns.corruption.stores import TOKEN, Contents, SoundStore
from tests.campaigns.power_loss import forks
from tests.support.blocks_and_stores import JOB, PLAN, scan

ATTEMPTS = 3
"""Far fewer than the 20 after which a shard is given up."""


class Outcome(Enum):
    """Who noticed; `UNDETECTED` is the failure."""

    BEFORE_MAPPING = "before mapping"
    CHECKSUM = "checksum"
    LMDB = "LMDB"
    KILLED = "killed the child"
    COUNT = "count of keys"
    EARLIER = "an earlier state"
    HARMLESS = "harmless"
    UNDETECTED = "undetected"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`broken`: what else was promised and failed."""

    outcome: Outcome
    broken: str = ""

    @property
    def good(self) -> bool:
        return self.outcome is not Outcome.UNDETECTED and not self.broken


def judge(
    sound: SoundStore, data: bytes | None, home: Path, *, closed: bool = False, in_new_process: bool = False
) -> Verdict:
    """Look at one damaged data file, as the product does, and repair it.

    `closed`: its last owner closed it, so that the next one opens it without a doubt. `in_new_process`: hold
    the product's own verifier against ours, which forks.
    """
    path = home / "00000.lmdb"
    sound.write(path, data, closed=closed)
    report, found = _look(path)
    broken = []
    if in_new_process and not _agree(report, theirs := verify_store(path)):
        broken.append(f"a fork says {report}, a new process {theirs}")
    outcome, detail = _outcome(sound, path, report, found)
    repair = _repair_closed(sound, path, report) if closed else _repair(sound, path, report)
    return Verdict(outcome, "; ".join([*broken, *detail, *repair]))


def _look(path: Path) -> tuple[StoreReport, Contents | None]:
    """What the product says, and what its readers get of a store that is said to be sound."""
    try:
        StoreFiles(path).check()
        return forks.in_fork(partial(_look_and_read, path))
    except (CheckpointError, forks.Died):
        return forks.verify_store(path), None


def _look_and_read(path: Path) -> tuple[StoreReport, Contents | None]:
    report = look_through(path, None)
    return report, Contents.read(path) if report.sound else None


def _agree(one: StoreReport, other: StoreReport) -> bool:
    """They die of different signals at times, and say so."""
    return replace(one, error=None) == replace(other, error=None)


def _outcome(
    sound: SoundStore, path: Path, report: StoreReport, found: Contents | None
) -> tuple[Outcome, list[str]]:
    if not report.readable:
        return _who_could_not_read(path, report)
    if report.damaged:
        return Outcome.CHECKSUM, []
    if found is None:
        return Outcome.UNDETECTED, ["said to be sound, but reading it failed"]
    return _compare(sound, found)


def _who_could_not_read(path: Path, report: StoreReport) -> tuple[Outcome, list[str]]:
    try:
        StoreFiles(path).check()
    except CheckpointError:
        return Outcome.BEFORE_MAPPING, []
    error = report.error or ""
    if error == "SIGALRM":
        return Outcome.KILLED, ["looking at it never ended"]
    return (Outcome.KILLED if error.startswith("SIG") else Outcome.LMDB), []


def _compare(sound: SoundStore, found: Contents) -> tuple[Outcome, list[str]]:
    """The plan knows which batches there are, so that a missing one is no secret."""
    if found == sound.contents:
        return Outcome.HARMLESS, []
    if found in sound.states:
        return Outcome.EARLIER, []
    rest = replace(found, blocks=sound.contents.blocks)
    if rest == sound.contents and found.blocks.items() < sound.contents.blocks.items():
        return Outcome.COUNT, []
    return Outcome.UNDETECTED, [_difference(sound.contents, found)]


def _repair(sound: SoundStore, path: Path, report: StoreReport) -> list[str]:
    """Open it as a new owner, who may die of it but must not, and compare what it holds in the end."""
    token = _next_token(report)
    expected = replace(sound.contents, blocks=sound.all_digests, token=token)
    try:
        again, found = forks.in_fork(partial(_go_on, sound, path, token))
    except forks.Died as died:
        return [f"the new owner: {died}"]
    if found is None:
        return [f"after the repair: {again}"]
    return [] if found == expected else [f"after the repair: {_difference(expected, found)}"]


def _go_on(sound: SoundStore, path: Path, token: int) -> tuple[StoreReport, Contents | None]:
    """In a fork of its own: what is patched there stays there."""
    setattr(checkpoint.store, "verify_store", forks.verify_store)  # noqa: B010
    logging.disable()
    with CheckpointStore.open(path, job_digest=JOB, plan=PLAN, token=token) as store:
        sound.resume(store, token)
        for block in sound.more.values():
            store.commit([block], token=token)
    return _look_and_read(path)


def _repair_closed(sound: SoundStore, path: Path, report: StoreReport) -> list[str]:
    """Nobody looked before the new owner did, so it may fail or die; but not one after the other."""
    died = ""
    for token in range(_next_token(report), _next_token(report) + ATTEMPTS):
        try:
            found = forks.in_fork(partial(_work, sound, path, token))
        except forks.Died as error:
            died = str(error)
            continue
        expected = replace(sound.contents, token=token)
        return [] if found == expected else [f"published: {_difference(expected, found)}"]
    return [f"{ATTEMPTS} new owners, one after the other: {died}"]


def _work(sound: SoundStore, path: Path, token: int) -> Contents:
    """A worker's attempt: what it would publish, having looked at every block."""
    setattr(checkpoint.store, "verify_store", forks.verify_store)  # noqa: B010
    logging.disable()
    with CheckpointStore.open(path, job_digest=JOB, plan=PLAN, token=token) as store:
        sound.resume(store, token)
        while damaged := [index for index, block in scan(store) if block is None]:
            store.drop(damaged, token=token)
            sound.resume(store, token)
        return Contents.of(store)


def _next_token(report: StoreReport) -> int:
    """Redis gives one above all that it gave, and above the store's floor."""
    return max(report.token, TOKEN) + 1


def _difference(expected: Contents, found: Contents) -> str:
    names = [name for name in Contents.__slots__ if getattr(expected, name) != getattr(found, name)]
    return "differs in " + ", ".join(
        f"{name} ({getattr(expected, name)} became {getattr(found, name)})"[:200] for name in names
    )
