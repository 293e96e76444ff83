"""The kernels themselves. Imports triton, so `choose` imports it only where one is asked for.

Names in capitals are constants of a compilation. All arithmetic is in float32, whatever is loaded and stored;
an assignment to `.to(x.dtype)` rounds as plain torch rounds between two kernels.
"""

import triton
import triton.language as tl

_LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def rotate(qkv, cos, sin, num_rows, HEADS: tl.constexpr, STRIDE: tl.constexpr, HALF: tl.constexpr,
           ROWS: tl.constexpr, PAIRS: tl.constexpr):  # fmt: skip
    """Rotate the first HEADS heads of each token in place. `num_rows` are tokens times HEADS.

    In bfloat16 and float16 to the bit what plain torch does: the first product is rounded, and the second,
    which float32 holds whole, is not. In float32 as far off as one rounding of a product.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    pair = tl.arange(0, PAIRS)[None, :]
    token = (row // HEADS).to(tl.int64)[:, None]
    inside = (row < num_rows)[:, None] & (pair < HALF)
    first = qkv + token * STRIDE + (row % HEADS)[:, None] * (2 * HALF) + pair
    second = first + HALF
    angle = token * HALF + pair
    kind = qkv.dtype.element_ty
    left = tl.load(first, mask=inside).to(tl.float32)
    right = tl.load(second, mask=inside).to(tl.float32)
    c = tl.load(cos + angle, mask=inside).to(tl.float32)
    s = tl.load(sin + angle, mask=inside).to(tl.float32)
    left_by_cos = (left * c).to(kind).to(tl.float32)
    right_by_cos = (right * c).to(kind).to(tl.float32)
    # An explicit fma: of a * b - c * d a compiler may fuse either product, and would choose for itself.
    tl.store(first, tl.fma(-right, s, left_by_cos).to(kind), mask=inside)
    tl.store(second, tl.fma(left, s, right_by_cos).to(kind), mask=inside)


@triton.jit
def add_norm(x, added, normed, weight, bias, DIM: tl.constexpr, EPS: tl.constexpr, BLOCK: tl.constexpr,
             KEEP_SUM: tl.constexpr):  # fmt: skip
    """Layer norm of the sum of two, rounded as it would be stored; a program for each row.

    With KEEP_SUM the sum is written over `added`. `normed` may be `added` where it is not.
    """
    column = tl.arange(0, BLOCK)
    inside = column < DIM
    place = tl.program_id(0).to(tl.int64) * DIM + column
    kind = x.dtype.element_ty
    total = tl.load(x + place, mask=inside, other=0).to(tl.float32)
    total += tl.load(added + place, mask=inside, other=0).to(tl.float32)
    rounded = total.to(kind)
    if KEEP_SUM:
        tl.store(added + place, rounded, mask=inside)
    total = rounded.to(tl.float32)
    mean = tl.sum(total, axis=0) / DIM
    centred = tl.where(inside, total - mean, 0.0)
    variance = tl.sum(centred * centred, axis=0) / DIM
    scaled = centred / tl.sqrt_rn(variance + EPS)
    w = tl.load(weight + column, mask=inside).to(tl.float32)
    b = tl.load(bias + column, mask=inside).to(tl.float32)
    tl.store(normed + place, (scaled * w + b).to(kind), mask=inside)


@triton.jit
def attend(query, key, value, by_offset, attended, cu_seqlens, reach, SCALE: tl.constexpr,
           HEADS: tl.constexpr, DIM: tl.constexpr, STRIDE: tl.constexpr, BIASED: tl.constexpr,
           QUERIES: tl.constexpr, KEYS: tl.constexpr, DIMS: tl.constexpr):  # fmt: skip
    """Attention of the tokens of a row to each other (https://arxiv.org/abs/2205.14135).

    A program for each row, head and block of QUERIES. The tokens of query, key and value lie STRIDE apart;
    `attended` is [T, HEADS, DIM], and `by_offset` [HEADS, 2 * reach + 1], from keys `reach` before the query
    on; those farther away have the bias of the farthest.
    """
    begin = tl.load(cu_seqlens + tl.program_id(0))
    length = tl.load(cu_seqlens + tl.program_id(0) + 1) - begin
    head = tl.program_id(1)
    if tl.program_id(2) * QUERIES >= length:
        return
    q_place = tl.program_id(2) * QUERIES + tl.arange(0, QUERIES)
    k_places = tl.arange(0, KEYS)
    d = tl.arange(0, DIMS)
    start = begin.to(tl.int64) * STRIDE + head * DIM
    q_inside = (q_place < length)[:, None] & (d < DIM)[None, :]
    q = tl.load(query + start + q_place[:, None].to(tl.int64) * STRIDE + d[None, :], mask=q_inside, other=0)
    highest = tl.full([QUERIES], float("-inf"), tl.float32)
    weights = tl.zeros([QUERIES], tl.float32)
    sums = tl.zeros([QUERIES, DIMS], tl.float32)
    for first in range(0, length, KEYS):
        k_place = first + k_places
        k_inside = k_place < length
        rows = start + k_place.to(tl.int64) * STRIDE
        k = tl.load(key + rows[None, :] + d[:, None], mask=k_inside[None, :] & (d < DIM)[:, None], other=0)
        scores = tl.dot(q, k, input_precision="ieee") * (SCALE * _LOG2_E)
        if BIASED:
            offset = k_place[None, :] - q_place[:, None]
            offset = tl.minimum(tl.maximum(offset, -reach), reach) + reach
            scores += tl.load(by_offset + head * (2 * reach + 1) + offset).to(tl.float32) * _LOG2_E
        scores = tl.where(k_inside[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        shares = tl.exp2(scores - higher[:, None])
        rescale = tl.exp2(highest - higher)
        v = tl.load(value + rows[:, None] + d[None, :], mask=k_inside[:, None] & (d < DIM)[None, :], other=0)
        weights = weights * rescale + tl.sum(shares, axis=1)
        sums = sums * rescale[:, None] + tl.dot(shares.to(v.dtype), v, input_precision="ieee")
        highest = higher
    kind = attended.dtype.element_ty
    place = (begin + q_place).to(tl.int64)[:, None] * (HEADS * DIM) + head * DIM + d[None, :]
    tl.store(attended + place, (sums / weights[:, None]).to(kind), mask=q_inside)
