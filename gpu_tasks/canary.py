"""The numerics canary: does this device compute what the processor computes?

A GPU with failing memory or a broken kernel gives vectors that look like any others. A few fixed sequences
show it before the first one is stored.
"""

import numpy as np
import numpy.typing as npt

from gpu_tasks.batching import plan_batches
from gpu_tasks.errors import NumericsDeviate
from gpu_tasks.models import Dtype, EmbeddingModel
from gpu_tasks.runner import AsyncInferenceRunner

SEQUENCES = (
    "M",
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVVHSLAKWKRQTLGQHDFSAGEGLYTHMKALRPDED",
    "GSHMASMTGGQQMGRGS",
    "ACGTTGCAACGTNNACGT",
    "A zinc-binding alcohol dehydrogenase, and what it does.",
)
"""Short and long, of every alphabet: each tokenizer makes something of each."""

COSINE_DISTANCE_MOST: dict[Dtype, float] = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 2e-2}
TOKS_PER_BATCH = 1024


def check_numerics(model: EmbeddingModel, reference: EmbeddingModel, dtype: Dtype) -> float:
    """Compare a model on its device with the same one on the processor in float32.

    Args:
        dtype: what `model` computes in; it decides how far the two may be apart.

    Returns:
        The largest cosine distance of the vectors of the fixed sequences.

    Raises:
        NumericsDeviate: it is larger than the dtype explains, or a vector is not finite.
    """
    ours, theirs = _vectors(model), _vectors(reference)
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
        distance = float(np.max(1 - (ours * theirs).sum(axis=1) / norms))
    if not distance <= COSINE_DISTANCE_MOST[dtype]:  # a NaN is not
        raise NumericsDeviate(
            f"its vectors of {len(SEQUENCES)} test sequences are not those of the processor (cosine distance "
            f"{distance:.2g}, {COSINE_DISTANCE_MOST[dtype]:.2g} allowed in {dtype}): is the device broken?"
        )
    return distance


def _vectors(model: EmbeddingModel) -> npt.NDArray[np.float64]:
    plan = plan_batches(
        model.tokenize(SEQUENCES),
        range(len(SEQUENCES)),
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=TOKS_PER_BATCH,
        max_length=model.max_length,
        long="truncate",
        window_overlap=0,
    )
    results = list(AsyncInferenceRunner(model).run(plan))
    order = np.argsort(np.concatenate([result.ordinals for result in results]))
    return np.concatenate([result.embeddings for result in results])[order].astype(np.float64)
