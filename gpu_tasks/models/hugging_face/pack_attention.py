"""Attention on packed tokens for transformers' own models, in the place of its sdpa.

All rows of a pack are one "text" [1, T] to the model, and attend to themselves. Its attention comes to
`attend`, and which keys a query sees is told by the rule that transformers makes its masks of: no T x T mask
is made. What is not understood is refused (`NotPackable`), never ignored.
https://huggingface.co/docs/transformers/attention_interface
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.errors import UnsupportedModel
from gpu_tasks.models.layers import Packed, attend_varlen, by_run, choose_attention

NAME = "holdfast_packed"
"""What transformers knows it by, once it is registered there."""
_CHANGE_NOTHING = ("position_ids", "cache_position", "output_hidden_states")
"""Keywords that transformers' sdpa takes too, and does not read."""


class NotPackable(UnsupportedModel):
    """Raised where packed tokens would, or might, be computed otherwise than each row alone."""


@dataclass(frozen=True, slots=True)
class Band:
    """The keys that a query sees: `left` before it and `right` behind it at most; None: all of its row."""

    left: int | None
    right: int | None

    @property
    def window(self) -> int:
        """The longest distance that has an end, the causal one left out; 0: none has."""
        return max(self.left or 0, self.right or 0)

    def within(self, length: int) -> "Band":
        """The same for a row of this length, where a window may be too wide to matter."""
        left, right = (
            None if side is None or side >= length - 1 else side for side in (self.left, self.right)
        )
        return Band(left, right)


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Packed tokens on their way through a model.

    `mask` [1, T] is what the model is given as its mask: all of them. `bands` are filled with those that it
    asks for, `masks` [L, L] with those that are made of them.
    """

    packed: Packed
    mask: Tensor
    bands: set[Band]
    masks: dict[tuple[int, Band], Tensor] = field(default_factory=dict)

    def mask_of(self, length: int, band: Band) -> Tensor:
        """True where a query [L] may see a key [L]."""
        if (length, band) not in self.masks:
            places = torch.arange(length, device=self.mask.device)
            before = places[:, None] - places
            allowed = torch.ones_like(before, dtype=torch.bool)
            if band.left is not None:
                allowed &= before <= band.left
            if band.right is not None:
                allowed &= -before <= band.right
            self.masks[length, band] = allowed
        return self.masks[length, band]


_PACK: ContextVar[Pack] = ContextVar("pack")
_BANDS: ContextVar[set[Band]] = ContextVar("bands")


@contextmanager
def packing(packed: Packed) -> Iterator[Tensor]:
    """While a model with this attention runs on these tokens; yields the mask to give it, bool[1, T]."""
    mask = torch.ones((1, len(packed.input_ids)), dtype=torch.bool, device=packed.input_ids.device)
    token = _PACK.set(Pack(packed, mask, _BANDS.get(set())))
    try:
        yield mask
    finally:
        _PACK.reset(token)


@contextmanager
def listening() -> Iterator[set[Band]]:
    """What models ask for meanwhile."""
    token = _BANDS.set(set())
    try:
        yield _BANDS.get()
    finally:
        _BANDS.reset(token)


# ---- in the place of a mask


def band_for(
    *,
    mask_function: Callable[..., Tensor],
    attention_mask: Tensor | None,
    local_size: int | None = None,
    **others: Any,
) -> Band:
    """See transformers.masking_utils.sdpa_mask, in whose place it is called. Raises NotPackable."""
    if not _is_same(attention_mask, _PACK.get().mask):
        raise NotPackable("it makes an attention mask of its own")
    if others.get("q_offset", 0) != 0 or others.get("kv_offset", 0) != 0:
        raise NotPackable("it attends to tokens of an earlier call")
    # Farther than a row is long nothing matters; a window that is wider is still told to who probes.
    return band_of(mask_function, max(_PACK.get().packed.max_seqlen, (local_size or 0) + 2))


def _is_same(found: Tensor | None, given: Tensor) -> bool:
    """True for the mask itself or a view of it: whether another one holds as much, only the device knows."""
    return found is not None and found.shape == given.shape and found.data_ptr() == given.data_ptr()


def band_of(mask_function: Callable[..., Tensor], distance: int) -> Band:
    """The band that a rule of transformers draws: asked at several places, up to this distance.

    Raises:
        NotPackable: it is no band, or not the same one everywhere, as with chunks.
    """
    zero, keys = torch.tensor(0), torch.arange(3 * distance + 2)
    queries = torch.tensor([distance, distance + 1, distance + distance // 3, 2 * distance + 1])
    found = mask_function(zero, zero, queries[:, None], keys[None, :]).expand(len(queries), len(keys))
    reaches = {
        (_reach(row[: query + 1].flip(0), distance), _reach(row[query:], distance))
        for query, row in zip(queries.tolist(), found, strict=True)
    }
    if len(reaches) != 1:
        raise NotPackable("which tokens it attends to depends on their place")
    return Band(*reaches.pop())


def _reach(seen: Tensor, distance: int) -> int | None:
    """How far from a query on, bool[n], all is seen; None: to the end."""
    seen = seen[: distance + 1]
    count = int(seen.sum())
    if not bool(seen[:count].all()) or not count:
        raise NotPackable("it attends to tokens with gaps between them")
    return None if count == len(seen) else count - 1


# ---- in the place of attention


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """See transformers.integrations.sdpa_attention: query [1, heads, T, head_dim], and key and value, which
    may have fewer heads, to [1, T, heads, head_dim]. Raises NotPackable."""
    pack = _PACK.get()
    _refuse_unknown(dropout, others)
    num_tokens = len(pack.packed.input_ids)
    if any(x.shape[0] != 1 or x.shape[2] != num_tokens for x in (query, key, value)):
        raise NotPackable("it attends to other tokens than the text's")
    if query.shape[1] % key.shape[1] or key.shape[1] != value.shape[1]:
        raise NotPackable("its heads do not share keys and values evenly")
    if isinstance(attention_mask, Band):
        band = attention_mask  # where the window stands too
    elif attention_mask is None and sliding_window is None:
        band = Band(None, 0 if (module.is_causal if is_causal is None else is_causal) else None)
    else:
        raise NotPackable("it makes an attention mask of its own")
    pack.bands.add(band)
    compute = _attend_whole if _has_kernel(query, value) else _attend_runs
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return compute(q, k, v, pack, band, scaling).unsqueeze(0), None


def _refuse_unknown(dropout: float, others: dict[str, Any]) -> None:
    """A keyword that is not known may change a vector: softcap, sinks, a bias of positions."""
    if dropout:
        raise NotPackable("it drops out at random")
    for name, value in others.items():
        if value is not None and value is not False and name not in _CHANGE_NOTHING:
            raise NotPackable(f"its attention takes {name}")


def _has_kernel(query: Tensor, value: Tensor) -> bool:
    """True where one call is for the whole pack; windows and shared heads came to it after torch 2.10."""
    if query.shape[-1] != value.shape[-1]:
        return False
    if choose_attention(query.device, query.dtype, query.shape[-1]) is not attend_varlen:
        return False
    from torch.nn.attention.varlen import varlen_attn

    return {"scale", "window_size", "enable_gqa"} <= inspect.signature(varlen_attn).parameters.keys()


def _attend_whole(
    query: Tensor, key: Tensor, value: Tensor, pack: Pack, band: Band, scale: float | None
) -> Tensor:
    """FlashAttention with the row bounds on the device, and the band as its window."""
    from torch.nn.attention.varlen import varlen_attn

    bounds, longest = pack.packed.cu_seqlens, pack.packed.max_seqlen
    left, right = (-1 if side is None else side for side in (band.left, band.right))
    attended = varlen_attn(
        query, key, value, bounds, bounds, longest, longest,
        scale=scale, window_size=(left, right), enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    assert isinstance(attended, Tensor)  # a pair only when auxiliary outputs are asked for
    return attended


def _attend_runs(
    query: Tensor, key: Tensor, value: Tensor, pack: Pack, band: Band, scale: float | None
) -> Tensor:
    """Rows of equal length are neighbours and share a call, as in layers.attend_runs."""
    attended = torch.empty((*query.shape[:2], value.shape[2]), dtype=value.dtype, device=value.device)
    for length, (q, k, v, out) in by_run(pack.packed, query, key, value, attended):
        near = band.within(length)
        is_causal = near == Band(None, 0)
        found = functional.scaled_dot_product_attention(
            q, k, v,
            attn_mask=None if is_causal or near == Band(None, None) else pack.mask_of(length, near),
            is_causal=is_causal, scale=scale, enable_gqa=query.shape[1] != key.shape[1],
        )  # fmt: skip
        out.copy_(found)
    return attended
