"""Twins and copied vectors of rows that are more than one vector: every token's, and several side by side."""

from pathlib import Path

import numpy as np
import pytest

from tests.support.inline_job import embedded, write_numbered
from tests.support.jobs_and_inputs import protein
from tests.support.output_files import table_of

NUMBERS = [*range(40), *range(40), 3, 3, 41]
READOUTS = [{"pool": "none"}, {"pool": "none", "layers": (1, -1)}, {"pool": "mean,cls"}]


def rows_of(output: Path) -> dict[str, list[np.ndarray]]:
    table = table_of(output)
    names = [name for name in table.column_names if name.startswith("embedding")]
    return {name: [np.array(row, np.float32) for row in table[name].to_pylist()] for name in names}


@pytest.mark.parametrize("readout", READOUTS, ids=lambda readout: "-".join(map(str, readout.values())))
@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out"])
def test_twins_and_copied_rows_are_those_of_their_sequences(
    tmp_path: Path, readout: dict[str, object], name: str
) -> None:
    before = write_numbered(tmp_path / "before.fasta", range(0, 40, 2))
    after = write_numbered(tmp_path / "after.fasta", NUMBERS)
    options = {"model": "mock:4", "toks_per_batch": 512, **readout}
    embedded(tmp_path / "before.parquet", [before], **options)
    embedded(tmp_path / name, [after], reuse=tmp_path / "before.parquet", **options)
    found = rows_of(tmp_path / name)
    assert len(found) == (1 if readout == {"pool": "none"} else 2)
    for rows in found.values():
        if readout["pool"] == "none":
            assert [len(row) for row in rows] == [len(protein(number)) for number in NUMBERS]
        first = dict(zip(NUMBERS, rows, strict=True))
        for number, row in zip(NUMBERS, rows, strict=True):
            np.testing.assert_array_equal(row, first[number])
    alone = embedded(tmp_path / "alone.parquet", [after], dedup=False, **options)
    assert alone is not None
    for column, rows in rows_of(tmp_path / "alone.parquet").items():
        for own, expected in zip(found[column], rows, strict=True):
            np.testing.assert_array_equal(own, expected)
