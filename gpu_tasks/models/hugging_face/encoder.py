"""A transformers model as an Encoder: on packed tokens, padded rows, rows of one length, or each row alone.

Packed tokens are given to transformers only with an attention of our own, as it would take the whole batch
for one text. Where that is not for a model its rows are padded; where padding changes what it makes of a
text, only rows of equal length are computed together; where the rows beside it do, each is computed alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

import torch
from torch import Tensor

from gpu_tasks.errors import UnsupportedModel
from gpu_tasks.models.hugging_face.pack_attention import packing
from gpu_tasks.models.layers import Packed

Batching = Literal["packed", "padded", "equal", "alone"]
"""With whom a text is computed: with all others of the batch end to end, with others that are padded, with
others of its length, or with none."""


@dataclass(frozen=True, slots=True, eq=False)
class HuggingFaceEncoder:
    """A transformers model. `padding` is the id in the places that the attention mask takes out.

    `takes` are the names of what its forward takes, `token_type` is that of all tokens.
    """

    model: Any
    padding: int
    dim: int
    num_layers: int
    batching: Batching
    takes: frozenset[str]
    token_type: int = 0

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """See Encoder; all layers run, and their hidden states are packed again."""
        if self.batching == "packed":
            return self._packed(packed, layers)
        parts = groups(packed.runs, self.batching)
        found = [self._padded(packed, first, lengths, layers) for first, lengths in parts]
        return [torch.cat(hidden) for hidden in zip(*found, strict=True)]

    def _packed(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        """All rows as one text whose attention and positions are each row's own, [T, dim]."""
        with packing(packed) as mask:
            hidden = self.run(packed.input_ids[None], mask, layers, packed.positions[None])
        return [each[0] for each in hidden]

    def _padded(
        self, packed: Packed, first: int, lengths: Sequence[int], layers: tuple[int, ...]
    ) -> list[Tensor]:
        """Of the rows from `first` on, [sum(lengths), dim]. Only gathers: nothing waits for the device."""
        count, longest = len(lengths), max(lengths)
        bounds = packed.cu_seqlens[first : first + count + 1].long()
        places = torch.arange(longest, device=bounds.device)
        mask = places < (bounds[1:] - bounds[:-1])[:, None]
        sources = (bounds[:-1, None] + places).clamp(max=len(packed.input_ids) - 1)
        input_ids = torch.where(mask, packed.input_ids[sources], self.padding)
        hidden = self.run(input_ids, mask, layers)
        rows = torch.repeat_interleave(bounds[1:] - bounds[:-1], output_size=sum(lengths))
        tokens = torch.arange(sum(lengths), device=bounds.device) + bounds[0]
        places = rows * longest + tokens - bounds[rows]
        return [each.flatten(0, 1).index_select(0, places) for each in hidden]

    def run(
        self, input_ids: Tensor, mask: Tensor, layers: tuple[int, ...], positions: Tensor | None = None
    ) -> list[Tensor]:
        """Hidden states [rows, longest, dim] of padded rows, or with `positions` of one that is a pack."""
        inner = layers != (self.num_layers,)
        given = mask.long() if positions is None else mask  # that of a pack must come to the attention itself
        arguments = {"attention_mask": given} if "attention_mask" in self.takes else {}
        # Without any, models cut them out of a table as long as the longest text, which a pack outgrows.
        if self.token_type or (positions is not None and "token_type_ids" in self.takes):
            arguments["token_type_ids"] = torch.full_like(input_ids, self.token_type)
        if positions is not None:
            arguments["position_ids"] = positions
        output = self.model(input_ids=input_ids, output_hidden_states=inner, **arguments)
        states = {self.num_layers: output.last_hidden_state}
        if inner:
            if len(output.hidden_states) != self.num_layers + 1:
                raise UnsupportedModel(
                    f"{type(self.model).__name__} tells {len(output.hidden_states)} hidden states of "
                    f"{self.num_layers} layers; only its last layer, --layers -1, is known"
                )
            states = dict(enumerate(output.hidden_states)) | states
        for hidden in (states[layer] for layer in layers):
            if hidden.shape != (*input_ids.shape, self.dim):
                raise UnsupportedModel(
                    f"{type(self.model).__name__} makes {[*hidden.shape]} of {[*input_ids.shape]} tokens, "
                    f"not {self.dim} numbers of each"
                )
        return [states[layer] for layer in layers]


def groups(runs: Sequence[tuple[int, int]], batching: Batching = "padded") -> Iterator[tuple[int, list[int]]]:
    """Neighbouring rows to compute together: (first row, lengths).

    Padded, no row becomes more than twice as long; else they are of equal length, or alone.
    """
    if batching == "alone":
        runs = [(1, length) for count, length in runs for _ in range(count)]
    if batching != "padded":
        firsts = accumulate((count for count, _ in runs), initial=0)
        yield from ((first, [length] * count) for first, (count, length) in zip(firsts, runs, strict=False))
        return
    first, lengths = 0, list[int]()
    for count, length in runs:
        if lengths and 2 * min(*lengths, length) < max(*lengths, length):
            yield first, lengths
            first, lengths = first + len(lengths), []
        lengths = lengths + [length] * count
    yield first, lengths
