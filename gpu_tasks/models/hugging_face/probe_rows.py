"""A few rows of tokens that a loaded model is tried with, and what it makes of them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, groupby

import torch
from torch import Tensor

from gpu_tasks.models.hugging_face.encoder import Batching, HuggingFaceEncoder
from gpu_tasks.models.layers import Packed

RUN_ERRORS = (AttributeError, IndexError, KeyError, TypeError, ValueError, RuntimeError)
"""What a model may raise that does not run on what it is given."""


def some_rows(encoder: HuggingFaceEncoder, lengths: Sequence[int], *, first: int = 11) -> list[Tensor]:
    """Rows of tokens that are none of the padding, int64[length] each; other ones for another `first`."""
    device, vocabulary = encoder.model.device, encoder.model.config.vocab_size
    some = (torch.arange(sum(lengths), 0, -1, device=device) * 7919 + first) % vocabulary
    input_ids = torch.where(some == encoder.padding, (encoder.padding + 1) % vocabulary, some)
    return list(torch.split(input_ids, list(lengths)))


def hidden_rows(encoder: HuggingFaceEncoder, batching: Batching, rows: Sequence[Tensor]) -> list[Tensor]:
    """The last layer's hidden states [length, dim] of each row, computed in this way."""
    lengths = [len(row) for row in rows]
    device = rows[0].device
    bounds = torch.tensor([*accumulate(lengths, initial=0)], device=device, dtype=torch.int32)
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    runs = tuple((len([*same]), length) for length, same in groupby(lengths))
    packed = Packed(torch.cat(list(rows)), positions, bounds, bounds, bounds, runs, max(lengths))
    with torch.inference_mode():
        (hidden,) = replace(encoder, batching=batching)(packed, (encoder.num_layers,))
    return list(torch.split(hidden, lengths))


def change(found: Tensor, expected: Tensor) -> float:
    """By how much of its length a token's hidden state changes, at most."""
    if not bool(expected.isfinite().all()):
        return 0.0  # float16 is too narrow for it, which is found record by record
    expected = expected.double()
    moved = float(((found.double() - expected).norm(dim=1) / expected.norm(dim=1)).max())
    return moved if moved == moved else float("inf")
