"""The block codec's promises."""

import struct

import numpy as np
import pytest
import xxhash
from blocks import JOB, assert_same, make_block
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from checkpoint import Block, BlockDamaged, CheckpointError, NewerFormat, WrongJob, decode, encode

shapes = st.tuples(st.integers(0, 5), st.integers(0, 9))


@st.composite
def blocks(draw: st.DrawFn) -> Block:
    count, dim = draw(shapes)
    dtype = draw(st.sampled_from([np.float32, np.float16]))
    return Block(
        draw(st.integers(0, 2**63)),
        draw(hnp.arrays(np.uint64, count)),
        draw(hnp.arrays(dtype, (count, dim))),
        draw(st.booleans()),
    )


@given(blocks())
def test_what_is_encoded_comes_back_bit_by_bit(block: Block) -> None:
    assert_same(decode(encode(block, JOB), job_digest=JOB, batch_idx=block.batch_idx), block)


@given(blocks())
def test_equal_blocks_have_equal_bytes(block: Block) -> None:
    assert encode(block, JOB) == encode(decode(encode(block, JOB)), JOB)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_the_documented_error(data: bytes) -> None:
    with pytest.raises(BlockDamaged):
        decode(data)


@given(st.binary(min_size=64, max_size=200))
def test_a_sealed_but_senseless_header_raises_nothing_but_the_documented_errors(data: bytes) -> None:
    """Damage that a checksum cannot see, because it was there when the checksum was made."""
    sealed = b"HFBLOCK\n" + data
    with pytest.raises(CheckpointError):
        decode(sealed + xxhash.xxh3_128_digest(sealed))


@given(st.data())
def test_any_flipped_bit_is_noticed(data: st.DataObject) -> None:
    encoded = bytearray(encode(make_block(3), JOB))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BlockDamaged):
        decode(bytes(encoded))


def test_a_block_in_the_place_of_another_batch_is_damage() -> None:
    with pytest.raises(BlockDamaged, match="batch 3 stands in the place of batch 4"):
        decode(encode(make_block(3), JOB), batch_idx=4)


def test_a_block_of_another_job_is_refused() -> None:
    with pytest.raises(WrongJob):
        decode(encode(make_block(3), JOB), job_digest=bytes(16))


def test_a_newer_format_is_refused_by_name() -> None:
    content = bytearray(encode(make_block(3), JOB)[:-16])
    struct.pack_into("<H", content, 8, 99)
    with pytest.raises(NewerFormat, match="99"):
        decode(bytes(content) + xxhash.xxh3_128_digest(bytes(content)))


def test_a_block_costs_less_than_one_percent_over_its_vectors() -> None:
    block = make_block(0, count=512, dim=320)
    assert len(encode(block, JOB)) < 1.01 * block.embeddings.nbytes


@pytest.mark.parametrize(
    "embeddings", [np.zeros((8, 4), np.float64), np.zeros((7, 4), np.float32), np.zeros(8, np.float32)]
)
def test_what_no_block_can_hold_is_refused(embeddings: np.ndarray) -> None:
    with pytest.raises(ValueError):
        encode(Block(0, np.arange(8, dtype=np.uint64), embeddings), JOB)
