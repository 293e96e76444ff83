"""Buckets of distances against transformers' own, offset by offset."""

import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

from gpu_tasks.models.t5.buckets import KNOWN, bucket, buckets

FARTHEST_SEEN = 10_000


@pytest.mark.parametrize(("num_buckets", "farthest"), KNOWN)
def test_every_offset_falls_into_the_bucket_that_transformers_gives_it(
    num_buckets: int, farthest: int
) -> None:
    offsets = torch.arange(-FARTHEST_SEEN, FARTHEST_SEEN + 1)
    expected = T5Attention._relative_position_bucket(offsets, num_buckets=num_buckets, max_distance=farthest)
    assert [bucket(offset, num_buckets, farthest) for offset in offsets.tolist()] == expected.tolist()


@pytest.mark.parametrize(("num_buckets", "farthest"), KNOWN)
def test_no_offset_lies_beyond_the_table(num_buckets: int, farthest: int) -> None:
    table = buckets(num_buckets, farthest)
    ends = {bucket(sign * far, num_buckets, farthest) for sign in (-1, 1) for far in (farthest, 10**6)}
    assert {table[0], table[-1]} == ends
