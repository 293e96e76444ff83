"""The records of a shard that have no vector, each with the reason why not."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from checkpoint.crash_log import CrashLog
from checkpoint.records import QuarantineEntry
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.rows import Ordinals
from gpu_tasks.inference.runner import InferenceResult
from queue_app.job.directory import JobDir
from queue_app.job.duplicates import duplicates_of
from queue_app.job.quarantine_reasons import unknown_reason
from queue_app.job.readouts import is_contacts
from queue_app.job.shard_files import ShardRecords
from queue_app.job.spec import EmbedOptions, Job

NOT_FINITE = "the model's output is not finite, in float32 either"
TOO_LARGE = "its vector holds a number beyond 65,504, the largest of float16; --store-dtype float32 holds it"
WITHOUT_WINDOWS = ", and windows make no map of contacts; --long truncate gives that of its first ones"


def rejected_entries(records: ShardRecords, plan: BatchPlan, options: EmbedOptions) -> list[QuarantineEntry]:
    """The records that never reach the model: bad ones, and those too long under `--long error`,
    those that the model mostly does not know, and those whose tokenising kills."""
    why = WITHOUT_WINDOWS if is_contacts(options) else ""
    reasons = dict.fromkeys(plan.too_long, f"longer than {options.max_length} tokens{why}")
    reasons |= {ordinal: unknown_reason(*counts) for ordinal, counts in plan.unknown.items()}
    reasons |= plan.killing
    reasons |= {
        ordinal: problem
        for ordinal, problem in zip(records.ordinals.tolist(), records.problems, strict=True)
        if problem is not None
    }
    return [_entry(records, ordinal, reason) for ordinal, reason in sorted(reasons.items())]


def not_finite_entries(
    result: InferenceResult, records: ShardRecords, too_large: Collection[int] = ()
) -> list[QuarantineEntry]:
    """The records of which a row came out as NaN or infinite; of those `too_large` only as it is stored."""
    bad = np.unique(result.ordinals[~result.finite]).tolist()
    return [_entry(records, each, TOO_LARGE if each in too_large else NOT_FINITE) for each in bad]


def accused_entries(crash_log: CrashLog, ordinals: Ordinals, records: ShardRecords) -> list[QuarantineEntry]:
    """The records of a batch that it was computed without, because they kill, fail or do not fit."""
    there = set(ordinals.tolist())
    return [
        _entry(records, ordinal, reason)
        for ordinal, reason in sorted(crash_log.accused.items())
        if ordinal in there
    ]


def with_duplicates(
    job: Job, job_dir: JobDir, records: ShardRecords, entries: Sequence[QuarantineEntry]
) -> list[QuarantineEntry]:
    """An entry for every record of the same sequence: what befalls one befalls all."""
    of_first = {entry.ordinal: entry for entry in entries if records.copies[records.row(entry.ordinal)] > 1}
    found = duplicates_of(job, job_dir, of_first) if of_first else []
    return [*entries, *(replace(of_first[each.first], ordinal=each.ordinal, id=each.id) for each in found)]


def _entry(records: ShardRecords, ordinal: int, reason: str) -> QuarantineEntry:
    row = records.row(ordinal)
    return QuarantineEntry(ordinal, records.ids[row], len(records.sequences[row]), reason)
