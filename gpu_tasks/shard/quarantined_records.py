"""The records of a shard that have no vector, each with the reason why not."""

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from checkpoint.flight_log import FlightLog
from checkpoint.records import QuarantineEntry
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.rows import Ordinals
from gpu_tasks.inference.runner import InferenceResult
from queue_app.job.quarantine import is_mostly_unknown, unknown_reason
from queue_app.job.shard_files import ShardRecords

Ids = npt.NDArray[np.int32]
NOT_FINITE = "the model's output is not finite, in float32 either"
TOO_LARGE = "its vector holds a number beyond 65,504, the largest of float16; --store-dtype float32 holds it"


def rejected_entries(records: ShardRecords, plan: BatchPlan, max_length: int) -> list[QuarantineEntry]:
    """The records that never reach the model: bad ones, and those too long under `--long error`,
    those that the model mostly does not know."""
    reasons = dict.fromkeys(plan.too_long, f"longer than {max_length} tokens")
    reasons |= {ordinal: unknown_reason(*counts) for ordinal, counts in plan.unknown.items()}
    reasons |= {
        ordinal: problem
        for ordinal, problem in zip(records.ordinals.tolist(), records.problems, strict=True)
        if problem is not None
    }
    return [_entry(records, ordinal, reason) for ordinal, reason in sorted(reasons.items())]


def mostly_unknown(
    model: EmbeddingModel, ordinals: Ordinals, tokens: Sequence[Ids]
) -> dict[int, tuple[int, int]]:
    """The records of which the model does not know more than half of the tokens: so many of so many."""
    counts = ((model.count_unknown(ids), len(ids)) for ids in tokens)
    found = zip(ordinals.tolist(), counts, strict=True)
    return {ordinal: counted for ordinal, counted in found if is_mostly_unknown(*counted)}


def not_finite_entries(
    result: InferenceResult, records: ShardRecords, too_large: Collection[int] = ()
) -> list[QuarantineEntry]:
    """The records of which a row came out as NaN or infinite; of those `too_large` only as it is stored."""
    bad = np.unique(result.ordinals[~result.finite]).tolist()
    return [_entry(records, each, TOO_LARGE if each in too_large else NOT_FINITE) for each in bad]


def accused_entries(flight: FlightLog, ordinals: Ordinals, records: ShardRecords) -> list[QuarantineEntry]:
    """The records of a batch that it was computed without, because they kill, fail or do not fit."""
    there = set(ordinals.tolist())
    return [
        _entry(records, ordinal, reason)
        for ordinal, reason in sorted(flight.accused.items())
        if ordinal in there
    ]


def _entry(records: ShardRecords, ordinal: int, reason: str) -> QuarantineEntry:
    row = records.row(ordinal)
    return QuarantineEntry(ordinal, records.ids[row], len(records.sequences[row]), reason)
