"""Whether a model may run on packed tokens: shown by itself, at load, against each row alone.

Three things are asked for. Its layers attend through transformers' attention interface, and ask for nothing
that is not understood. Each row in a pack has the vectors that it has alone, also behind the end of the
model's windows and of its position table. And what the other rows say changes no single bit of a row's, so
that no convolution, no state and no router leads from one row to another, however little.
"""

from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor

from gpu_tasks.errors import UnsupportedModel
from gpu_tasks.inference.device_errors import fault_of
from gpu_tasks.models.from_transformers import import_transformers
from gpu_tasks.models.hugging_face import pack_attention
from gpu_tasks.models.hugging_face.encoder import HuggingFaceEncoder
from gpu_tasks.models.hugging_face.probe_rows import RUN_ERRORS, change, hidden_rows, some_rows
from queue_app.model.spec import ModelSpec

LENGTHS = (17, 17, 29, 5)
"""Rows of a pack, unsorted; two of them share a call of the attention."""
BEHIND_THE_WINDOW = 12
"""Tokens of the longest row that see its first one no more."""
POSITIONS_KEPT = 8
"""Rows that a table may have more than there are positions."""
# What a pack may change of a token's hidden state, of its length: rounding, and no more.
_CHANGES_MOST = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}
# Tokens times parameters that a probe may cost: some ten seconds on a small host, one on a GPU.
_COSTS_MOST = {"cpu": 5e11, "cuda": 1e14}


def may_run_packed(spec: ModelSpec, encoder: HuggingFaceEncoder) -> bool:
    """Try it. Where the answer is True the model has the attention for packs from then on, else its own.

    Raises what says that the device, and not the model, is at fault.
    """
    takes_both = {"attention_mask", "position_ids"} <= encoder.takes
    # Token dropout scales a text's tokens by the <mask>s in it, which would be those of the whole pack.
    if not spec.packs or not takes_both or spec.encoder.token_dropout:
        return False
    own = encoder.model.config._attn_implementation
    try:
        if _is_right(spec, encoder, own):
            return True
    except (UnsupportedModel, *RUN_ERRORS) as error:
        if fault_of(error) is not None:
            raise
    _attend_by(encoder.model, own)
    return False


def _is_right(spec: ModelSpec, encoder: HuggingFaceEncoder, own: str) -> bool:
    lengths = [min(length, spec.max_positions or length) for length in LENGTHS]
    _attend_by(encoder.model, pack_attention.NAME)
    bands = _bands_of(encoder, some_rows(encoder, lengths))
    if not bands or not _keeps_to_rows(encoder, lengths):
        return False
    window = max(band.window for band in bands)
    if window:
        lengths[2] = max(lengths[2], min(window + BEHIND_THE_WINDOW, spec.max_positions or 2 * window + 1))
    table = _table_length(spec, encoder.model)
    rows = some_rows(encoder, lengths)
    pack = list(islice(cycle(rows), len(rows) * (table // sum(lengths) + 1)))
    cost = spec.num_parameters * sum(map(len, pack))
    if cost > _COSTS_MOST.get(encoder.model.device.type, 0):
        return False
    found = hidden_rows(encoder, "packed", pack)
    _attend_by(encoder.model, own)
    alone = hidden_rows(encoder, "alone", rows)
    _attend_by(encoder.model, pack_attention.NAME)
    most = _CHANGES_MOST[encoder.model.dtype]
    return all(change(each, expected) <= most for each, expected in zip(found, cycle(alone), strict=False))


def _attend_by(model: Any, name: str) -> None:
    """Raises NotPackable where its layers do not attend through the interface; transformers would warn."""
    if model.config._attn_implementation == name:
        return
    transformers = import_transformers()
    transformers.AttentionInterface.register(pack_attention.NAME, pack_attention.attend)
    transformers.AttentionMaskInterface.register(pack_attention.NAME, pack_attention.band_for)
    logging = transformers.utils.logging
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model.set_attn_implementation(name)
    finally:
        logging.set_verbosity(verbosity)
    if model.config._attn_implementation != name:
        raise pack_attention.NotPackable("it has no attention interface")


def _bands_of(encoder: HuggingFaceEncoder, rows: list[Tensor]) -> set[pack_attention.Band]:
    """What the model's layers ask of an attention; nothing where they do not ask for one."""
    with pack_attention.listening() as bands:
        hidden_rows(encoder, "packed", rows)
    return bands


def _keeps_to_rows(encoder: HuggingFaceEncoder, lengths: list[int]) -> bool:
    """True where a row's vectors are the same to the last bit whatever stands in the others."""
    rows, others = some_rows(encoder, lengths), _odd_rows(encoder, lengths)
    expected = hidden_rows(encoder, "packed", rows)
    for place, row in enumerate(rows):
        company = [*others[:place], row, *others[place + 1 :]]
        found = hidden_rows(encoder, "packed", company)[place]
        if not torch.equal(found.nan_to_num(), expected[place].nan_to_num()):
            return False
    return True


def _odd_rows(encoder: HuggingFaceEncoder, lengths: list[int]) -> list[Tensor]:
    """Rows in which every other token is a special one, as config or low number tells them."""
    config = encoder.model.config
    named = [value for name, value in config.to_dict().items() if name.endswith("_token_id")]
    known = [each for each in named if isinstance(each, int) and each in range(config.vocab_size)]
    special = torch.tensor(sorted({*known, *range(5)}), device=encoder.model.device)
    rows = some_rows(encoder, lengths, first=23)
    for row in rows:
        places = torch.arange(0, len(row), 2, device=row.device)
        row[places] = special[places // 2 % len(special)]
    return rows


def _table_length(spec: ModelSpec, model: Any) -> int:
    """The rows of the longest table of positions, which a pack must be able to outgrow; 0: it has none."""
    most = spec.max_positions
    if most is None:
        return 0
    tensors = (*model.parameters(), *model.buffers())
    sizes = {size for tensor in tensors for size in tensor.shape if most <= size <= most + POSITIONS_KEPT}
    return max(sizes, default=0)
