"""With whom a row may be computed: tried on the loaded model, before its first batch.

What is not shown to be right is left: packed tokens for padded rows, these for rows of one length, and these
for each row alone.
"""

from typing import Any

import torch

from gpu_tasks.errors import UnsupportedModel, first_line
from gpu_tasks.inference.device_errors import fault_of
from gpu_tasks.models.hugging_face.encoder import Batching, HuggingFaceEncoder
from gpu_tasks.models.hugging_face.packing import may_run_packed
from gpu_tasks.models.hugging_face.probe_rows import RUN_ERRORS, change, hidden_rows, some_rows
from queue_app.model.spec import ModelSpec

SEES_THE_BATCH = ("funnel", "mra", "nllb-moe", "nystromformer", "switch_transformers")
"""Model types that cut, hash or route by the length or the content of the whole batch: each text alone."""
PROBED_LENGTH, SHORT_LENGTH = 29, 17
# What the rows beside it may change of a token's hidden state, of its length: rounding, and no more.
_CHANGES_MOST = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}


def choose_batching(spec: ModelSpec, encoder: HuggingFaceEncoder) -> Batching:
    """Not every model hides its padding from every layer: convolutions see it, for one.

    Raises:
        UnsupportedModel: it does not run, or has no vector of a text that could be told again.
    """
    name = type(encoder.model).__name__
    try:
        return _choose(spec, encoder, f"{spec.path}: {name}")
    except RUN_ERRORS as error:
        if fault_of(error) is not None:
            raise
        raise UnsupportedModel(f"{spec.path}: {name} does not run: {first_line(error)}") from None


def _choose(spec: ModelSpec, encoder: HuggingFaceEncoder, who: str) -> Batching:
    allowed = _CHANGES_MOST[encoder.model.dtype]
    longer, row = some_rows(encoder, (PROBED_LENGTH, SHORT_LENGTH))
    alone, again = (hidden_rows(encoder, "alone", [row])[0] for _ in range(2))
    if change(alone, again) > allowed:
        raise UnsupportedModel(f"{who} draws random numbers for a text")
    if spec.encoder.model_type in SEES_THE_BATCH:
        return "alone"
    if not _turns_by_length(encoder.model):
        if may_run_packed(spec, encoder):
            return "packed"
        with_longer = hidden_rows(encoder, "padded", [longer, row])[1]
        if "attention_mask" in encoder.takes and change(with_longer, alone) <= allowed:
            return "padded"
    (other,) = some_rows(encoder, (SHORT_LENGTH,), first=23)
    in_company = hidden_rows(encoder, "equal", [other, row])[1]
    return "equal" if change(in_company, alone) <= allowed else "alone"


def _turns_by_length(model: Any) -> bool:
    """True where rotary positions turn by other angles for all rows, once one of them is long (LongRoPE).

    Those of dynamic NTK only do behind the longest segment that there is.
    """
    kinds = [module.rope_type for module in model.modules() if hasattr(module, "rope_type")]
    return any("longrope" in (kind.values() if isinstance(kind, dict) else [kind]) for kind in kinds)
