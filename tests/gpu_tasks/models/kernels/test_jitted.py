"""The kernels by Triton's interpreter, beside plain torch and beside float64, one row at a time."""

from itertools import groupby

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from gpu_tasks.models import layers
from gpu_tasks.models.kernels.fused import (
    Shape,
    add_norm,
    attend,
    attend_build,
    biased_attention,
    norm_build,
    norm_sum,
    rotate,
    rotate_build,
)
from gpu_tasks.models.layers import LayerNorm, Packed
from gpu_tasks.models.mosaic import Alibi, alibi_slopes
from gpu_tasks.models.mpnet import RelativeBias
from tests.support.interpreted_kernels import interpreted, needs_interpreter, packed_lengths

pytestmark = needs_interpreter
DTYPES = [torch.float32, torch.float16]
APART = {torch.float32: 3e-6, torch.float16: 3e-3}
LENGTHS = [1, 2, 31, 32, 33, 63, 64, 65]


def numbers(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def packed_of(lengths: list[int]) -> Packed:
    nothing = torch.empty(0, dtype=torch.int64)
    runs = tuple((len(list(rows)), length) for length, rows in groupby(lengths))
    return Packed(nothing, nothing, packed_lengths(lengths), nothing, nothing, runs, max(lengths))


def attended(qkv: Tensor, lengths: list[int], bias: layers.Bias | None = None) -> Tensor:
    """By our kernel: qkv [T, 3, heads, head_dim] to [T, heads * head_dim]."""
    shape = Shape(qkv.shape[2], qkv.shape[3], 1e-5, qkv.dtype)
    build, packed = attend_build(shape, biased=bias is not None), packed_of(lengths)
    queries = build.constants["QUERIES"]
    assert isinstance(queries, int)
    launch = interpreted(build)
    if bias is None:
        return attend(launch, queries, *qkv.unbind(1), packed)
    return biased_attention(launch, queries, packed, bias)(*qkv.unbind(1), packed)


def exactly(qkv: Tensor, bias: layers.Bias | None = None) -> Tensor:
    """Of one row, in float64, by matrices."""
    query, key, value = qkv.double().permute(1, 2, 0, 3)
    scores = query @ key.transpose(1, 2) * qkv.shape[-1] ** -0.5
    if bias is not None:
        scores = scores + bias(len(qkv)).double()
    return (torch.softmax(scores, dim=-1) @ value).transpose(0, 1).flatten(1)


def farthest(found: Tensor, qkv: Tensor, lengths: list[int], bias: layers.Bias | None = None) -> float:
    rows = zip(found.split(lengths), qkv.split(lengths), strict=True)
    return max((row - exactly(of, bias)).abs().max().item() for row, of in rows)


# ---- rotary positions


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(20, 16), (3, 24), (4, 64), (2, 6), (1, 128)])
def test_query_and_key_are_rotated_in_place_and_the_value_is_not_touched(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    num_heads, head_dim = shape
    before = numbers(37, 3, num_heads, head_dim, dtype=dtype)
    angles = numbers(37, 1, 1, head_dim // 2, seed=1) * 300
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    qkv = before.clone()
    rotated = rotate(interpreted(rotate_build(Shape(num_heads, head_dim, 1e-5, dtype))), qkv[:, :2], cos, sin)
    assert rotated.data_ptr() == qkv.data_ptr()
    plain = layers.rotate(before[:, :2], cos, sin)
    if dtype == torch.float32:
        # Whether the second product is rounded before the sum is left to each compiler: here it is not.
        most = 2**-23 * before.abs().max().item()
        assert (qkv[:, :2] - plain).abs().max().item() <= most
    else:
        assert torch.equal(qkv[:, :2], plain)
    assert torch.equal(qkv[:, 2], before[:, 2])


# ---- residual and norm


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [16, 312, 320, 768, 1280])
def test_the_norm_of_a_sum_is_that_of_the_sum_as_it_is_stored(dim: int, dtype: torch.dtype) -> None:
    x, added = numbers(9, dim, dtype=dtype) * 3 + 5, numbers(9, dim, dtype=dtype, seed=1)
    norm = LayerNorm(numbers(dim, dtype=dtype, seed=2), numbers(dim, dtype=dtype, seed=3), 1e-5)
    shape, kept = Shape(1, dim, 1e-5, dtype), added.clone()
    total, normed = add_norm(interpreted(norm_build(shape, keep_sum=True)), x, kept, norm)
    assert torch.equal(total, x + added)
    exact = LayerNorm(norm.weight.double(), norm.bias.double(), norm.eps)(total.double())
    plain = (norm(total) - exact).abs().max().item()
    assert (normed - exact).abs().max().item() <= max(2 * plain, APART[torch.float32])
    alone = norm_sum(interpreted(norm_build(shape, keep_sum=False)), x, added.clone(), norm)
    assert torch.equal(alone, normed)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_row_with_numbers_that_are_none_leaves_the_others_their_norm() -> None:
    x, added = numbers(5, 320), numbers(5, 320, seed=1)
    norm = LayerNorm(numbers(320, seed=2), numbers(320, seed=3), 1e-5)
    launch = interpreted(norm_build(Shape(20, 16, 1e-5, torch.float32), keep_sum=False))
    undisturbed = norm_sum(launch, x, added.clone(), norm)
    x[[1, 3]] = torch.tensor([float("nan"), float("inf")])[:, None]
    disturbed = norm_sum(launch, x, added.clone(), norm)
    assert torch.equal(disturbed[[0, 2, 4]], undisturbed[[0, 2, 4]])
    assert disturbed[[1, 3]].isnan().all()


# ---- attention


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [16, 24, 32, 64, 72, 96, 128, 160])
def test_attention_is_that_of_each_row_alone_in_float64(head_dim: int, dtype: torch.dtype) -> None:
    qkv = numbers(sum(LENGTHS), 3, 2, head_dim, dtype=dtype)
    assert farthest(attended(qkv, LENGTHS), qkv, LENGTHS) <= APART[dtype]


def test_attention_of_the_longest_rows_is_no_farther_off() -> None:
    lengths = [1026, 1024, 1]
    qkv = numbers(sum(lengths), 3, 1, 64)
    assert farthest(attended(qkv, lengths), qkv, lengths) <= APART[torch.float32]


def test_scores_of_any_size_overflow_nothing() -> None:
    qkv = numbers(130, 3, 2, 32) * 100
    found = attended(qkv, [130])
    assert found.isfinite().all()
    # So sharp a softmax turns a last bit of a score into some of a weight.
    torch.testing.assert_close(found.double(), exactly(qkv), atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_bias_by_offset_is_that_of_the_square(dtype: torch.dtype) -> None:
    lengths = [1, 64, 129, 300]  # farther apart than MPNet's bias reaches
    qkv = numbers(sum(lengths), 3, 3, 32, dtype=dtype)
    for bias in (
        RelativeBias(numbers(3, 257, dtype=dtype, seed=4)),
        Alibi(torch.tensor(alibi_slopes(3)), dtype),
    ):
        assert farthest(attended(qkv, lengths, bias), qkv, lengths, bias) <= APART[dtype]


@pytest.mark.parametrize("biased", [False, True])
def test_company_changes_no_bit_of_a_row(biased: bool) -> None:
    bias = Alibi(torch.tensor(alibi_slopes(2)), torch.float32) if biased else None
    row = numbers(77, 3, 2, 24)
    alone = attended(row, [77], bias)
    for before, behind in [([], [1]), ([300, 78], []), ([5] * 9, [77, 64]), ([129], [128, 3])]:
        lengths = [*before, 77, *behind]
        crowd = [numbers(length, 3, 2, 24, seed=length) * 10 for length in lengths]
        crowd[len(before)] = row
        among = attended(torch.cat(crowd), lengths, bias).split(lengths)[len(before)]
        assert torch.equal(among, alone)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nothing_of_a_neighbour_leaks_into_a_row() -> None:
    lengths = [33, 64, 70]
    qkv = numbers(sum(lengths), 3, 2, 32)
    before = attended(qkv, lengths).split(lengths)
    qkv[33 : 33 + 64] = float("nan")
    first, neighbour, last = attended(qkv, lengths).split(lengths)
    assert torch.equal(first, before[0])
    assert torch.equal(last, before[2])
    assert neighbour.isnan().all()


def test_the_reference_for_attention_is_what_torch_computes() -> None:
    qkv = numbers(50, 3, 2, 16).double()
    query, key, value = qkv.permute(1, 2, 0, 3)
    expected = functional.scaled_dot_product_attention(query, key, value).transpose(0, 1).flatten(1)
    torch.testing.assert_close(exactly(qkv), expected)
