"""HDF5 files: how the datasets of records are called, that no row is lost, and a disk that takes no more."""

import errno
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from queue_app.choices import H5Layout
from queue_app.errors import Damage, UsageError
from queue_app.outputs.clean import clean
from queue_app.outputs.export import export
from queue_app.outputs.formats.hdf5 import new_file, sequence_hash
from tests.support.inline_job import InlineJob, embedded, submitted, write_numbered
from tests.support.jobs_and_inputs import protein

LAYOUTS: list[H5Layout] = ["per-sequence", "per-id", "per-hash"]
PER_HASH = {"h5_layout": "per-hash"}


def write_table(path: Path, ids: Sequence[str]) -> Path:
    """Proteins 0, 1, … under these ids."""
    lines = [f"{record_id}\t{protein(number)}\n" for number, record_id in enumerate(ids)]
    path.write_text("id\tsequence\n" + "".join(lines))
    return path


def exported(job: InlineJob, layout: H5Layout) -> dict[str, tuple[str, np.ndarray]]:
    """Original id and vectors of every dataset, in the order of the file."""
    path = job.job_dir.path.with_name(f"{layout}.h5")
    export(job.job, job.job_dir, path, h5_layout=layout)
    with h5py.File(path) as file:
        return {name: (dataset.attrs["original_id"], dataset[:]) for name, dataset in file.items()}


def vectors_of(job: InlineJob) -> np.ndarray:
    job.export(job.job_dir.path.with_name("rows.npy"))
    rows: np.ndarray = np.load(job.job_dir.path.with_name("rows.npy"))
    return rows


def key(number: int) -> str:
    return sequence_hash(protein(number))


# ---- names


def test_each_layout_names_the_same_rows_in_input_order(tmp_path: Path) -> None:
    job = embedded(tmp_path / "out.parquet", [write_table(tmp_path / "a.tsv", "abc")], alphabet="protein")
    names = {"per-sequence": ["0", "1", "2"], "per-id": ["a", "b", "c"], "per-hash": [key(0), key(1), key(2)]}
    for layout in LAYOUTS:
        found = exported(job, layout)
        assert list(found) == names[layout]
        assert [record_id for record_id, _ in found.values()] == ["a", "b", "c"]
        np.testing.assert_array_equal([vector for _, vector in found.values()], vectors_of(job))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_holds_the_vectors_of_every_token(tmp_path: Path, layout: H5Layout) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", range(40))
    job = embedded(tmp_path / "out.parquet", [fasta], pool="none", store_dtype="float16")
    found = [vectors for _, vectors in exported(job, layout).values()]
    assert [vectors.shape for vectors in found] == [(len(protein(number)), 8) for number in range(40)]
    assert {vectors.dtype for vectors in found} == {np.dtype(np.float16)}


NAMED = {
    "a": "a",
    "b/c/d": "b_c_d",
    "a#3": "a#3",
    ".": ".#3",
    "..": "..",
    "./b": "._b",
    "b_c_d": "b_c_d#6",
    "sp|P12345|X": "sp|P12345|X",
    "é ü": "é ü",
    "": "#9",
    "x" * 70_000: "x" * 70_000,
}


def test_an_id_that_cannot_be_a_name_is_replaced_and_stays_in_original_id(tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.tsv", list(NAMED))
    job = embedded(tmp_path / "out.parquet", [table], alphabet="protein", limit="id=70000")
    found = exported(job, "per-id")
    assert {record_id: name for name, (record_id, _) in found.items()} == NAMED
    np.testing.assert_array_equal([vector for _, vector in found.values()], vectors_of(job))


def test_an_id_that_repeats_has_the_place_of_each_later_record_behind_it(tmp_path: Path) -> None:
    """Also where another record is called like that: no name is taken twice."""
    ids = ["a", "a", "a#4", "a#3", "a", "a#1"]
    table = write_table(tmp_path / "a.tsv", ids)
    job = embedded(tmp_path / "out.parquet", [table], alphabet="protein")
    found = exported(job, "per-id")
    assert list(found) == ["a", "a#1", "a#4", "a#3", "a#4#4", "a#1#5"]
    assert [record_id for record_id, _ in found.values()] == ids
    np.testing.assert_array_equal([vector for _, vector in found.values()], vectors_of(job))


def test_the_hash_is_that_of_the_sequence_and_its_length() -> None:
    assert sequence_hash("MKV") == hashlib.sha256(b"MKV_3").hexdigest()


# ---- sequences


TWINS = [3, 1, 3, 2, 1, 3, 4]


@pytest.mark.parametrize("dedup", [True, False])
@pytest.mark.parametrize("pool", ["mean", "none"])
def test_identical_sequences_share_the_dataset_of_the_first(tmp_path: Path, dedup: bool, pool: str) -> None:
    """Computed one by one, their vectors may differ in the last bits: those of the first are taken."""
    fasta = write_numbered(tmp_path / "a.fasta", TWINS)
    job = embedded(tmp_path / "out.parquet", [fasta], dedup=dedup, pool=pool)
    found, every = exported(job, "per-hash"), exported(job, "per-sequence")
    assert list(found) == [key(3), key(1), key(2), key(4)]
    assert [record_id for record_id, _ in found.values()] == ["r0", "r1", "r3", "r6"]
    for (_, own), place in zip(found.values(), "0136", strict=True):
        np.testing.assert_array_equal(own, every[place][1])


def test_the_sequence_is_the_one_that_was_embedded(tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">lower\nmkv\n>stop\nMKVG*\n>lines\nMK\nVW\n>bad\nMK1V\n")
    job = embedded(tmp_path / "out.parquet", [tmp_path / "a.fasta"])
    assert list(exported(job, "per-hash")) == [sequence_hash(text) for text in ("MKV", "MKVG", "MKVW")]


def test_copied_vectors_have_their_hashes_in_input_order(tmp_path: Path) -> None:
    before = write_numbered(tmp_path / "before.fasta", range(0, 60, 2))
    after = write_numbered(tmp_path / "after.fasta", [*range(59, -1, -1), 7, 8])
    embedded(tmp_path / "before.parquet", [before])
    job = embedded(tmp_path / "after.parquet", [after], reuse=tmp_path / "before.parquet")
    assert {shard.reused for shard in job.job.shards} == {True, False}
    found = exported(job, "per-hash")
    assert list(found) == [key(number) for number in range(59, -1, -1)]
    np.testing.assert_array_equal([vector for _, vector in found.values()], vectors_of(job)[:60])


def test_a_cleaned_job_is_refused_in_one_line_whose_remedy_helps(tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", TWINS)
    job = embedded(tmp_path / "out.parquet", [fasta])
    clean(job.job_dir)
    with pytest.raises(
        UsageError, match=r"names vectors by their sequences.*--reuse \S+/out\.parquet\.holdfast copies"
    ) as said:
        exported(job, "per-hash")
    assert "\n" not in str(said.value)
    assert not (tmp_path / "per-hash.h5").exists()
    assert len(exported(job, "per-id")) == len(TWINS)
    again = submitted(tmp_path / "again.h5", [fasta], reuse=tmp_path / "out.parquet", **PER_HASH)
    again.export()
    with h5py.File(tmp_path / "again.h5") as file:
        assert list(file) == [key(3), key(1), key(2), key(4)]


def test_cleaning_keeps_the_sequences_that_the_output_is_named_by(tmp_path: Path) -> None:
    job = embedded(tmp_path / "out.h5", [write_numbered(tmp_path / "a.fasta", TWINS)], **PER_HASH)
    clean(job.job_dir)
    (tmp_path / "out.h5").unlink()
    job.export()
    with h5py.File(tmp_path / "out.h5") as file:
        assert len(file) == 4


def test_a_damaged_shard_never_names_a_vector_and_the_earlier_output_stays(tmp_path: Path) -> None:
    job = embedded(tmp_path / "out.h5", [write_numbered(tmp_path / "a.fasta", range(40))], **PER_HASH)
    before = (tmp_path / "out.h5").read_bytes()
    job.job_dir.shard(1).write_bytes(job.job_dir.shard(0).read_bytes())
    with pytest.raises(Damage, match=r"00001\.arrow: not the shard that was submitted"):
        job.export()
    assert (tmp_path / "out.h5").read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


# ---- a disk that takes no more


WRITE = """
import resource, sys
from pathlib import Path
from queue_app.outputs.formats.hdf5 import new_file

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with new_file(Path(sys.argv[1])) as (file, output):
        for number in range(3000):
            file.create_dataset(str(number), data=[1.0] * 64).attrs["original_id"] = "p" * 50
            output.raise_failure()
except OSError as error:
    print(error.errno, number)
"""


@pytest.mark.parametrize("limit", [1_000, 300_000, 1_500_000])
def test_a_write_that_fails_is_an_error_and_never_the_death_of_the_process(
    tmp_path: Path, limit: int
) -> None:
    command = [sys.executable, "-c", WRITE, str(tmp_path / "a.h5"), str(limit)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    number, reached = map(int, ended.stdout.split())
    assert number == errno.EFBIG
    assert reached < 2999, "and nothing is made in vain"
    assert (tmp_path / "a.h5").stat().st_size <= limit


def test_an_error_of_the_writers_own_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="nothing"), new_file(tmp_path / "a.h5") as (file, _):
        file["nothing"]
