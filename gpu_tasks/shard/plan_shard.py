"""A shard's records as planned batches; a record that the model mostly does not know is in none of them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import JobHopeless
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.plan_batches import plan_batches
from queue_app.job.quarantine_reasons import is_mostly_unknown, unknown_reason
from queue_app.job.shard_files import ShardRecords
from queue_app.job.spec import Job

UNKNOWN_LEAST = 8
"""Records of a shard: fewer are no sign."""
Ids = npt.NDArray[np.int32]


class Noted(Protocol):
    """Tokenises so that a text which kills is found: see gpu_tasks.shard.tokenizing."""

    @property
    def accused(self) -> Mapping[int, str]: ...
    def tokenize(
        self, model: EmbeddingModel, ordinals: Sequence[int], sequences: Sequence[str]
    ) -> dict[int, Ids]: ...


def plan_shard(job: Job, model: EmbeddingModel, records: ShardRecords, log: Noted | None = None) -> BatchPlan:
    """The same batches for everybody who plans them. With a `log` texts that kill are left out.

    Raises:
        JobHopeless: most records are unknown to a model whose tokenizer only workers have.
    """
    good = [row for row, problem in enumerate(records.problems) if problem is None]
    tokens = _tokens(model, records, good, log)
    good = list(tokens)
    counts = {row: (model.count_unknown(ids), len(ids)) for row, ids in tokens.items()}
    known = [row for row in good if not is_mostly_unknown(*counts[row])]
    plan = plan_batches(
        [tokens[row] for row in known],
        records.ordinals[known],
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=job.options.toks_per_batch,
        max_length=job.options.max_length,
        long=job.options.long,
        window_overlap=job.options.window_overlap,
        copies=records.copies[known],
    )
    unknown = {int(records.ordinals[row]): counts[row] for row in good if is_mostly_unknown(*counts[row])}
    _refuse_unknown(job, records, unknown)
    return replace(plan, unknown=unknown, killing={} if log is None else log.accused)


def _tokens(
    model: EmbeddingModel, records: ShardRecords, rows: list[int], log: Noted | None
) -> dict[int, Ids]:
    """The ids of each row that can be tokenised, in the order of the rows."""
    sequences = [records.sequences[row] for row in rows]
    if log is None:
        return dict(zip(rows, model.tokenize(sequences), strict=True))
    ordinals = records.ordinals[rows].tolist()
    found = log.tokenize(model, ordinals, sequences)
    return {row: found[each] for row, each in zip(rows, ordinals, strict=True) if each in found}


def _refuse_unknown(job: Job, records: ShardRecords, unknown: dict[int, tuple[int, int]]) -> None:
    num_unknown, num_rows = len(unknown), len(records.ids)
    if job.model.tokens.kind == "slow" and num_rows >= UNKNOWN_LEAST and 2 * num_unknown > num_rows:
        (first, counts), *_ = unknown.items()
        raise JobHopeless(
            f"{num_unknown:,} of {num_rows:,} records would be quarantined; the first is "
            f"{records.ids[records.row(first)]}: {unknown_reason(*counts)}"
        )
