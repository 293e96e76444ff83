"""The attention on packed tokens, against torch's own on one row at a time with transformers' own masks."""

from collections.abc import Callable, Iterator
from itertools import accumulate, groupby
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import masking_utils

from gpu_tasks.models.hugging_face import pack_attention
from gpu_tasks.models.hugging_face.pack_attention import Band, NotPackable, attend, band_for, band_of, packing
from gpu_tasks.models.layers import Packed

LENGTHS = (40, 7, 7, 1, 23)
FULL, CAUSAL = Band(None, None), Band(None, 0)
RULES: dict[str, tuple[Callable[..., Any], Band]] = {
    "bidirectional": (masking_utils.bidirectional_mask_function, FULL),
    "causal": (masking_utils.causal_mask_function, CAUSAL),
    "causal window": (masking_utils.sliding_window_causal_mask_function(6), Band(5, 0)),
    "bidirectional window": (masking_utils.sliding_window_bidirectional_mask_function(6), Band(6, 6)),
}
"""transformers' own rules for masks, and the band that each draws."""
each_rule = pytest.mark.parametrize("rule", RULES)


def pack_of(lengths: tuple[int, ...]) -> Packed:
    bounds = torch.tensor([*accumulate(lengths, initial=0)], dtype=torch.int32)
    ids = torch.zeros(sum(lengths), dtype=torch.int64)
    runs = tuple((len([*same]), length) for length, same in groupby(lengths))
    return Packed(ids, ids, bounds, bounds, bounds, runs, max(lengths))


@pytest.fixture
def mask() -> Iterator[Tensor]:
    with packing(pack_of(LENGTHS)) as given:
        yield given


def qkv(heads: int, shared: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, num, sum(LENGTHS), 16, generator=generator) for num in (heads, shared, shared)]


def by_rows(q: Tensor, k: Tensor, v: Tensor, allowed: Callable[..., Any], scale: float | None) -> Tensor:
    """torch's attention of each row, with the mask that transformers makes for it. [1, T, heads, head_dim]"""
    found, groups = [], q.shape[1] // k.shape[1]
    for rows in zip(*(x.split(LENGTHS, dim=2) for x in (q, k, v)), strict=True):
        query, key, value = rows
        length = query.shape[2]
        mask = masking_utils.sdpa_mask(1, length, length, mask_function=allowed, allow_is_causal_skip=False)
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
        out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
        found.append(out.transpose(1, 2))
    return torch.cat(found, dim=1)


# ---- the band of a rule


@each_rule
def test_a_rule_of_transformers_is_read_as_the_band_that_it_draws(rule: str) -> None:
    function, band = RULES[rule]
    assert band_of(function, 9) == band


def test_a_rule_that_goes_by_the_place_is_refused() -> None:
    chunks = masking_utils.chunked_causal_mask_function(8, torch.zeros(1, dtype=torch.int64))
    with pytest.raises(NotPackable, match="depends on their place"):
        band_of(chunks, 10)


def test_a_rule_with_gaps_is_refused() -> None:
    def every_other(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query - key) % 2 == 0

    with pytest.raises(NotPackable, match="gaps"):
        band_of(every_other, 10)


def test_a_mask_of_the_models_own_is_refused(mask: Tensor) -> None:
    function, _ = RULES["causal"]
    assert band_for(mask_function=function, attention_mask=mask) == CAUSAL
    assert band_for(mask_function=function, attention_mask=mask.view(1, -1)) == CAUSAL
    for other in (None, mask.clone(), mask[:, :-1]):
        with pytest.raises(NotPackable, match="mask of its own"):
            band_for(mask_function=function, attention_mask=other)


# ---- attention


@each_rule
@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_each_row_of_a_pack_attends_as_it_does_alone(
    mask: Tensor, rule: str, heads: int, shared: int, scale: float | None
) -> None:
    function, band = RULES[rule]
    found, weights = attend(None, *qkv(heads, shared), band, scaling=scale)
    assert weights is None
    torch.testing.assert_close(found, by_rows(*qkv(heads, shared), function, scale), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("is_causal", "rule"), [(True, "causal"), (False, "bidirectional")])
def test_without_a_mask_the_layer_says_whether_it_is_causal(mask: Tensor, is_causal: bool, rule: str) -> None:
    layer, (function, _) = SimpleNamespace(is_causal=is_causal), RULES[rule]
    expected = by_rows(*qkv(4, 4), function, None)
    torch.testing.assert_close(attend(layer, *qkv(4, 4), None)[0], expected, atol=1e-6, rtol=1e-5)
    other = SimpleNamespace(is_causal=not is_causal)
    found, _ = attend(other, *qkv(4, 4), None, is_causal=is_causal)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"softcap": 50.0}, "takes softcap"),
        ({"s_aux": torch.zeros(4)}, "takes s_aux"),
        ({"position_bias": torch.zeros(1)}, "takes position_bias"),
        ({"head_mask": torch.ones(4)}, "takes head_mask"),
        ({"of_next_year": 1}, "takes of_next_year"),
        ({"dropout": 0.1}, "at random"),
    ],
    ids=str,
)
def test_a_keyword_that_may_change_a_vector_is_refused(
    mask: Tensor, keywords: dict[str, Any], words: str
) -> None:
    with pytest.raises(NotPackable, match=words):
        attend(None, *qkv(4, 4), FULL, **keywords)
    attend(None, *qkv(4, 4), FULL, softcap=None, output_attentions=False, position_ids=torch.zeros(1))


def test_what_is_no_attention_of_the_texts_tokens_to_themselves_is_refused(mask: Tensor) -> None:
    q, k, v = qkv(4, 4)
    with pytest.raises(NotPackable, match="other tokens"):
        attend(None, q, k[:, :, :-1], v[:, :, :-1], FULL)
    with pytest.raises(NotPackable, match="evenly"):
        attend(None, q, k[:, :3], v[:, :3], FULL)
    with pytest.raises(NotPackable, match="mask of its own"):
        attend(None, q, k, v, torch.ones(1, 1, sum(LENGTHS), sum(LENGTHS), dtype=torch.bool))
    with pytest.raises(NotPackable, match="mask of its own"):
        attend(SimpleNamespace(is_causal=True), q, k, v, None, sliding_window=6)


def test_no_mask_is_made_where_no_row_is_longer_than_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    monkeypatch.setattr(pack_attention.Pack, "mask_of", lambda *arguments: made.append(arguments))
    with packing(pack_of(LENGTHS)):
        for band in (FULL, CAUSAL, Band(40, 40), Band(39, 0)):
            attend(None, *qkv(4, 4), band)
    assert made == []


# ---- one call for the whole pack


def as_flash_attention(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, *others: object, scale: float | None,
    window_size: tuple[int, int], enable_gqa: bool,
) -> Tensor:  # fmt: skip
    """What torch says of varlen_attn's arguments, in plain torch."""
    left, right = window_size
    found = []
    for first, end in zip(bounds.tolist(), bounds.tolist()[1:], strict=False):
        q, k, v = (x[first:end].transpose(0, 1) for x in (query, key, value))
        before = torch.arange(end - first)[:, None] - torch.arange(end - first)
        mask = (left < 0) | (before <= left)
        mask = mask & ((right < 0) | (-before <= right))
        out = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask.expand_as(before), scale=scale, enable_gqa=enable_gqa
        )
        found.append(out.transpose(0, 1))
    return torch.cat(found)


@each_rule
@pytest.mark.parametrize("shared", [4, 2])
def test_the_kernel_for_a_whole_pack_is_told_the_same(
    mask: Tensor, rule: str, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, band = RULES[rule]
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", as_flash_attention)
    monkeypatch.setattr(pack_attention, "choose_attention", lambda *_: pack_attention.attend_varlen)
    found, _ = attend(None, *qkv(4, shared), band, scaling=0.3)
    torch.testing.assert_close(found, by_rows(*qkv(4, shared), function, 0.3), atol=1e-6, rtol=1e-5)
