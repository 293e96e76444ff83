"""What to do with a batch that the device's memory does not hold: once more whole, then in halves."""

import numpy as np

from gpu_tasks.errors import OutOfMemory, RecordTooLarge
from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.device import Fetched, StoreDtype
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.rows import join_offsets


def compute_again(model: EmbeddingModel, batch: TokenBatch, store_dtype: StoreDtype) -> tuple[Fetched, bool]:
    """Compute a batch that ran out of memory; true says that it was split.

    Call it with nothing else under way, so that the batch has the device for itself. A split changes
    the last bits of the vectors: kernels and sums depend on the shape of what runs together.

    Raises:
        RecordTooLarge: one segment alone does not fit.
    """
    try:
        return _compute(model, batch, store_dtype), False
    except OutOfMemory:
        return _compute_in_halves(model, batch, store_dtype), True


def _compute(model: EmbeddingModel, batch: TokenBatch, store_dtype: StoreDtype) -> Fetched:
    return model.stage(batch).launch(store_dtype).wait()


def _compute_in_halves(model: EmbeddingModel, batch: TokenBatch, store_dtype: StoreDtype) -> Fetched:
    if batch.num_rows == 1:
        raise RecordTooLarge(int(batch.ordinals[0]), batch.max_seqlen)
    first = np.arange(batch.num_rows) < batch.num_rows // 2
    halves = [_compute_or_split(model, batch.select(rows), store_dtype) for rows in (first, ~first)]
    return Fetched(
        np.concatenate([half.embeddings for half in halves]),
        np.concatenate([half.finite for half in halves]),
        offsets=join_offsets([half.offsets for half in halves]),
    )


def _compute_or_split(model: EmbeddingModel, batch: TokenBatch, store_dtype: StoreDtype) -> Fetched:
    try:
        return _compute(model, batch, store_dtype)
    except OutOfMemory:
        return _compute_in_halves(model, batch, store_dtype)
