"""Rows of several streams in one order, twins in their places."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_app.host.spilled_rows import SpilledRows
from queue_app.job.result_files import as_fixed_lists
from queue_app.job.result_rows import WaitingDuplicates, merged, place_duplicates

RAGGED = pa.list_(pa.float64())
batch_sizes = st.integers(1, 5)


def rows(ordinals: list[int]) -> pa.RecordBatch:
    vectors = np.repeat(np.array(ordinals, np.float32)[:, None], 3, axis=1)
    columns = [pa.array([f"r{each}" for each in ordinals]), pa.array(ordinals, pa.int64())]
    return pa.record_batch([*columns, as_fixed_lists(vectors)], names=["id", "ordinal", "embedding"])


def twin_rows(twins: list[tuple[int, int]]) -> pa.RecordBatch:
    places, firsts = zip(*twins, strict=True)
    return pa.record_batch(
        [pa.array(places, pa.uint64()), pa.array([f"r{n}" for n in places]), pa.array(firsts, pa.uint64())],
        names=["ordinal", "id", "first"],
    )


def stream(ordinals: list[int], size: int) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(ordinals), size):
        yield rows(ordinals[start : start + size])


def seen(batches: Iterator[pa.RecordBatch]) -> list[tuple[str, int, float]]:
    """Id, ordinal and the first number of each vector."""
    return [
        (row["id"], row["ordinal"], row["embedding"][0]) for batch in batches for row in batch.to_pylist()
    ]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 2), max_size=60), batch_sizes, batch_sizes)
def test_streams_that_interleave_come_out_in_order(owners: list[int], size: int, other: int) -> None:
    parts = [[place for place, owner in enumerate(owners) if owner == each] for each in range(3)]
    streams = [stream(part, number) for part, number in zip(parts, (size, other, 7), strict=True)]
    assert seen(merged(streams)) == [(f"r{n}", n, n) for n in range(len(owners))]


def test_a_single_stream_passes_as_it_is() -> None:
    sizes = [batch.num_rows for batch in merged([stream(list(range(10)), 4)])]
    assert sizes == [4, 4, 2]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 8), max_size=60), st.sets(st.integers(0, 8)), batch_sizes, batch_sizes)
def test_a_twin_has_its_own_id_and_the_vector_of_its_first(
    tmp_path_factory: pytest.TempPathFactory, sequences: list[int], gone: set[int], size: int, twin_size: int
) -> None:
    """The record at place n has sequence sequences[n]; of some sequences the first one has no row."""
    first_of = {place: sequences.index(sequence) for place, sequence in enumerate(sequences)}
    computed = [place for place, first in first_of.items() if place == first and sequences[place] not in gone]
    twins = [(place, first) for place, first in first_of.items() if place != first]
    batches = (twin_rows(twins[start : start + twin_size]) for start in range(0, len(twins), twin_size))
    firsts = np.unique(np.array([first for _, first in twins], np.int64))
    with SpilledRows(tmp_path_factory.mktemp("aside") / "rows") as file:
        found = seen(place_duplicates(stream(computed, size), WaitingDuplicates(batches), firsts, file))
    assert found == [(f"r{n}", n, first_of[n]) for n in first_of if sequences[n] not in gone]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 19), min_size=1, max_size=50), batch_sizes)
def test_rows_put_aside_come_back_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, places: list[int], size: int
) -> None:
    path = tmp_path_factory.mktemp("aside") / "rows"
    with SpilledRows(path) as file:
        for start in range(0, 20, size):
            numbers = range(start, min(20, start + size))
            ragged, even = [[float(n)] * n for n in numbers], list(numbers)
            file.append(pa.record_batch({"ragged": pa.array(ragged, RAGGED), "even": pa.array(even)}))
        taken = file.take(np.array(places))
        file.append(pa.record_batch({"ragged": pa.array([[7.0]], RAGGED), "even": pa.array([20])}))
        assert file.take(np.array([20])).to_pylist() == [{"ragged": [7.0], "even": 20}]
    assert taken.to_pylist() == [{"ragged": [float(n)] * n, "even": n} for n in places]
    assert not path.exists()


def test_a_file_that_cannot_grow_is_gone_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(OSError), SpilledRows(tmp_path / "none" / "rows"):
        pass
    assert list(tmp_path.iterdir()) == []
