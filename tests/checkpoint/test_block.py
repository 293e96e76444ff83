"""The block codec's promises."""

import struct
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from checkpoint import Block, BlockDamaged, CheckpointError, NewerFormat, WrongJob, decode, encode
from checkpoint.block import encode_into, encoded_bytes, read_header, read_ordinals
from tests.campaigns.fuzzing.readers import CORPUS, look
from tests.support.blocks_and_stores import JOB, assert_same, make_block, make_ragged

shapes = st.tuples(st.integers(0, 5), st.integers(0, 9))
dtypes = st.sampled_from([np.float32, np.float16])


@st.composite
def even_blocks(draw: st.DrawFn) -> Block:
    count, dim = draw(shapes)
    return Block(
        draw(st.integers(0, 2**64 - 1)),
        draw(hnp.arrays(np.uint64, count)),
        draw(hnp.arrays(draw(dtypes), (count, dim))),
        draw(st.booleans()),
    )


@st.composite
def ragged_blocks(draw: st.DrawFn) -> Block:
    dtype, dim = draw(dtypes), draw(st.integers(0, 9))
    lengths = draw(st.lists(st.integers(0, 5), min_size=1, max_size=5))
    matrices = [draw(hnp.arrays(dtype, (length, dim))) for length in lengths]
    return make_ragged(
        draw(st.integers(0, 2**64 - 1)),
        draw(hnp.arrays(np.uint64, len(lengths))),
        matrices,
        split=draw(st.booleans()),
    )


def blocks() -> st.SearchStrategy[Block]:
    return st.one_of(even_blocks(), ragged_blocks())


@given(blocks())
def test_what_is_encoded_comes_back_bit_by_bit(block: Block) -> None:
    assert_same(decode(encode(block, JOB), job_digest=JOB, batch_idx=block.batch_idx), block)


@given(blocks())
def test_equal_blocks_have_equal_bytes(block: Block) -> None:
    assert encode(block, JOB) == encode(decode(encode(block, JOB)), JOB)


@given(blocks(), st.integers(0, 100))
def test_a_buffer_that_held_something_else_leaves_no_trace(block: Block, longer: int) -> None:
    buffer = bytearray(b"\xff" * (encoded_bytes(block) + longer))
    assert bytes(encode_into(buffer, block, JOB)) == encode(block, JOB)


@given(blocks())
def test_ordinals_and_vectors_begin_where_the_format_says(block: Block) -> None:
    data = encode(block, JOB)
    header = read_header(data)
    assert header.vectors_at % 64 == 0
    assert data[header.vectors_at : -16] == block.embeddings.tobytes()
    np.testing.assert_array_equal(read_ordinals(data), block.ordinals)


@given(ragged_blocks())
def test_every_record_of_a_ragged_block_gets_its_own_matrix(block: Block) -> None:
    assert block.offsets is not None
    bounds = block.offsets.tolist()
    for place, (ordinal, matrix) in enumerate(decode(encode(block, JOB)).matrices()):
        assert ordinal == int(block.ordinals[place])
        assert matrix.tobytes() == block.embeddings[bounds[place] : bounds[place + 1]].tobytes()
        assert matrix.shape[1:] == block.embeddings.shape[1:]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_the_documented_error(data: bytes) -> None:
    with pytest.raises(BlockDamaged):
        decode(data)


@pytest.mark.parametrize("data", sorted(CORPUS.iterdir()), ids=lambda path: path.name)
def test_what_a_fuzzer_found_raises_nothing_but_the_documented_errors(data: Path) -> None:
    look(data.read_bytes())


@given(st.binary(min_size=64, max_size=200))
def test_a_sealed_but_senseless_header_raises_nothing_but_the_documented_errors(data: bytes) -> None:
    """Damage that a checksum cannot see, because it was there when the checksum was made."""
    with pytest.raises(CheckpointError):
        decode(seal(b"HFBLOCK\n" + data))


def seal(content: bytes) -> bytes:
    return content + xxhash.xxh3_128_digest(content)


@pytest.mark.parametrize(
    ("at", "wrong"),
    [(0, 1), (8, 4), (8, 2**64 - 1), (16, 0), (16, 2**63), (24, 4)],
    ids=["begins late", "jumps over the end", "huge", "goes back", "far beyond", "ends late"],
)
def test_sealed_offsets_that_do_not_cut_the_vectors_are_damage(at: int, wrong: int) -> None:
    matrices = [np.ones((length, 4), np.float32) for length in (2, 0, 1)]
    content = bytearray(encode(make_ragged(0, [1, 2, 3], matrices), JOB)[:-16])
    struct.pack_into("<Q", content, 64 + 3 * 8 + at, wrong)
    with pytest.raises(BlockDamaged, match="offsets"):
        decode(seal(bytes(content)))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (8, 0),
        (8, 1),
        (10, 4),
        (12, 0),
        (12, 3),
        (14, 1),
        (40, 15),
        (48, 7),
        (56, 7),
        (56, 0),
        (48, 2**63 - 1),
    ],
)
def test_a_sealed_header_that_contradicts_itself_is_damage(at: int, value: int) -> None:
    content = bytearray(encode(make_block(3), JOB)[:-16])
    struct.pack_into("<H" if at < 16 else "<Q", content, at, value)
    with pytest.raises(BlockDamaged):
        decode(seal(bytes(content)))


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
    with pytest.raises(ValueError, match="no block"):
        encode(Block(0, np.arange(8, dtype=np.uint64), embeddings), JOB)


@pytest.mark.parametrize("offsets", [[0, 2], [1, 2, 3], [0, 2, 4], [0, 4, 3], [0, 1, 2, 3]])
def test_offsets_that_do_not_cut_the_vectors_are_refused(offsets: list[int]) -> None:
    cut = np.array(offsets, np.uint64)
    with pytest.raises(ValueError, match="offsets"):
        encode(Block(0, np.arange(2, dtype=np.uint64), np.zeros((3, 4), np.float32), offsets=cut), JOB)


def test_more_matrices_than_ordinals_are_no_block() -> None:
    one = np.zeros((2, 4), np.float32)
    with pytest.raises(ValueError, match="offsets"):
        encode(make_ragged(0, [1], [one, one]), JOB)


def test_a_batch_index_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="no block"):
        encode(Block(2**64, np.empty(0, np.uint64), np.empty((0, 4), np.float32)), JOB)


# ---- rows of one record


def test_the_windows_of_a_record_come_in_their_order_together_or_apart() -> None:
    embeddings = np.arange(10, dtype=np.float32).reshape(5, 2)
    block = Block(0, np.array([7, 7, 8, 7, 9], np.uint64), embeddings)
    np.testing.assert_array_equal(block.rows(7), embeddings[[0, 1, 3]])
    assert np.shares_memory(block.rows(8), embeddings)
    with pytest.raises(KeyError):
        block.rows(10)


def test_the_ragged_windows_of_a_record_are_one_matrix() -> None:
    matrices = [np.full((length, 2), length, np.float32) for length in (3, 1, 2)]
    block = make_ragged(0, [7, 8, 7], matrices)
    np.testing.assert_array_equal(block.rows(7), np.concatenate([matrices[0], matrices[2]]))
    assert block.rows(8).shape == (1, 2)
