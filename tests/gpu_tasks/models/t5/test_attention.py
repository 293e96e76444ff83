"""Attention with a bias by distance against transformers' own, row by row."""

from itertools import accumulate

import pytest
import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention, eager_attention_forward

from gpu_tasks.models.layers import Packed
from gpu_tasks.models.t5 import attention
from gpu_tasks.models.t5.attention import BiasLines, attend_with_lines, bias_lines
from gpu_tasks.models.t5.buckets import buckets

HEADS, HEAD_DIM, FARTHEST = 5, 8, 128
RUNS = ((2, 300), (1, 131), (3, 64), (1, 63), (2, 9), (4, 2), (3, 1))


def pack(runs: tuple[tuple[int, int], ...]) -> Packed:
    lengths = [length for count, length in runs for _ in range(count)]
    bounds = torch.tensor([*accumulate(lengths, initial=0)])
    nothing = torch.arange(sum(lengths))
    return Packed(nothing, nothing, bounds.int(), bounds, bounds, runs, max(lengths))


@pytest.fixture(scope="module")
def reference() -> T5Attention:
    config = T5Config(d_model=40, d_kv=HEAD_DIM, num_heads=HEADS)
    torch.manual_seed(3)
    made = T5Attention(config, has_relative_attention_bias=True).eval()
    torch.nn.init.normal_(made.relative_attention_bias.weight)
    return made


def lines_of(reference: T5Attention, longest: int) -> BiasLines:
    by_bucket = reference.relative_attention_bias.weight
    return bias_lines(by_bucket[buckets(32, FARTHEST)].T.contiguous(), longest)


@pytest.mark.parametrize("heads_at_once", [None, 1, 2, HEADS], ids=["seen again", "one", "two", "all"])
@torch.inference_mode()
def test_every_row_has_the_attention_of_transformers(
    reference: T5Attention, heads_at_once: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(RUNS)
    query, key, value = torch.randn(3, len(packed.input_ids), HEADS, HEAD_DIM).unbind()
    bias = lines_of(reference, packed.max_seqlen)
    if heads_at_once:
        bias = BiasLines(bias.lines, bias.longest, is_written_out=True)
        monkeypatch.setattr(attention, "WRITTEN_OUT_BYTES_MOST", heads_at_once * 300 * 304 * 4)
    found = attend_with_lines(query, key, value, packed, bias)
    for start, stop in zip(packed.bounds, packed.bounds[1:], strict=False):
        q, k, v = (x[None, start:stop].transpose(1, 2) for x in (query, key, value))
        length = int(stop - start)
        expected, _ = eager_attention_forward(
            reference, q, k, v, None, scaling=1.0, position_bias=reference.compute_bias(length, length)
        )
        torch.testing.assert_close(found[start:stop], expected[0].flatten(1), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_bias_takes_memory_by_the_length_of_a_row_not_by_its_square(reference: T5Attention) -> None:
    bias = lines_of(reference, 4000)
    (_, mask), *others = bias.masks(4000)
    assert mask.shape == (1, HEADS, 4000, 4000)
    assert not others
    assert mask.untyped_storage().nbytes() < HEADS * 3 * 4000 * mask.element_size()


@torch.inference_mode()
def test_squares_that_are_written_out_have_aligned_lines_and_a_bounded_size(reference: T5Attention) -> None:
    bias = lines_of(reference, 3001)
    written = BiasLines(bias.lines, bias.longest, is_written_out=True)
    plain = next(iter(bias.masks(2999)))[1]
    for heads, mask in written.masks(2999):
        assert mask.stride(2) % 8 == 0
        assert mask.stride(3) == 1
        assert mask.untyped_storage().nbytes() <= attention.WRITTEN_OUT_BYTES_MOST
        assert mask.equal(plain[:, heads])
