"""A batch that does not fit in the device's memory: tried alone, and then in halves."""

from dataclasses import dataclass, replace

import numpy as np

from gpu_tasks.errors import OutOfMemory, RecordTooLarge
from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.model import EmbeddingModel, Fetched, Pending, StoreDtype
from gpu_tasks.inference.rows import join_offsets


@dataclass(frozen=True, slots=True, eq=False)
class NoRoom:
    """A staged batch whose tokens did not fit beside what is under way: it fails when its turn has come."""

    message: str

    def launch(self, store_dtype: StoreDtype) -> Pending:
        raise OutOfMemory(self.message)


def compute_alone(model: EmbeddingModel, batch: TokenBatch, store_dtype: StoreDtype) -> tuple[Fetched, bool]:
    """The vectors of one batch with nothing else under way; true says that the batch was split.

    Halves may change the last bits of the vectors, where kernels and sums depend on the shape of what runs
    together; with `--exact` they don't: see ExactShapes.
    Raises RecordTooLarge when one segment alone does not fit.
    """
    try:
        return model.stage(batch).launch(store_dtype).wait(), False
    except OutOfMemory:
        return _in_halves(model, batch, store_dtype), True


def _in_halves(model: EmbeddingModel, batch: TokenBatch, store_dtype: StoreDtype) -> Fetched:
    if batch.num_rows == 1:
        raise RecordTooLarge(int(batch.ordinals[0]), batch.max_seqlen)
    first = np.arange(batch.num_rows) < batch.num_rows // 2
    smaller = replace(batch, halvings=batch.halvings + 1)
    halves = [compute_alone(model, smaller.select(rows), store_dtype)[0] for rows in (first, ~first)]
    return Fetched(
        np.concatenate([half.embeddings for half in halves]),
        np.concatenate([half.finite for half in halves]),
        offsets=join_offsets([half.offsets for half in halves]),
    )
