"""From published results to one output."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pytest

from checkpoint.records import DoneRecord
from queue_app.choices import H5Layout
from queue_app.errors import Damage, HoldfastError, UsageError
from queue_app.host.durable_files import file_digest
from queue_app.host.own_files import NotOurs
from queue_app.ingest.request import EmbedRequest
from queue_app.job.directory import JobDir
from queue_app.job.done_records import create, current_generation, read_done, reopen
from queue_app.job.output_place import check_output, take_place
from queue_app.job.readouts import column_names, is_ragged
from queue_app.job.result_rows import in_input_order
from queue_app.job.spec import Job
from queue_app.outputs import content
from queue_app.outputs.export import export, export_once, output_damage
from queue_app.outputs.verify import verify_job
from tests.support.jobs_and_inputs import make_job, publish, publish_anew, publish_vectors
from tests.support.other_user import needs_root, of_nobody
from tests.support.output_files import EVERY_FORMAT, files_of, ids_of, ragged_rows_of, table_of, vectors_of

FORMATS = EVERY_FORMAT


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return dataclasses.replace(make_job(num_shards=3, records_per_shard=5), output=str(tmp_path / "out.npy"))


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    return JobDir(tmp_path / "job")


def rows(output: Path) -> tuple[list[str], np.ndarray]:
    return ids_of(output), vectors_of(output)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_holds_every_row_in_input_order(
    job: Job, job_dir: JobDir, tmp_path: Path, name: str
) -> None:
    publish(job, job_dir)
    report = export(job, job_dir, tmp_path / name)
    ids, vectors = rows(tmp_path / name)
    assert ids == [f"p{number}" for number in range(15)]
    np.testing.assert_array_equal(vectors, np.repeat(np.arange(15.0)[:, None], 8, axis=1))
    assert (report.num_records, report.num_embedded, report.num_quarantined) == (15, 15, 0)


@pytest.mark.parametrize("name", FORMATS)
def test_quarantined_records_have_no_row_and_are_listed(
    job: Job, job_dir: JobDir, tmp_path: Path, name: str
) -> None:
    publish(job, job_dir, quarantined={0, 7})
    report = export(job, job_dir, tmp_path / name)
    ids, vectors = rows(tmp_path / name)
    assert ids == [f"p{number}" for number in range(15) if number not in {0, 7}]
    assert len(vectors) == 13
    assert report.num_quarantined == 2
    listed = (tmp_path / f"{name}.quarantine.tsv").read_text().splitlines()
    assert listed == [
        "ordinal\tid\tlength\treason",
        "0\tp0\t7\tempty\\tsequence",
        "7\tp7\t7\tempty\\tsequence",
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_job_whose_records_are_all_quarantined_has_an_empty_output(
    job: Job, job_dir: JobDir, tmp_path: Path, name: str
) -> None:
    publish(job, job_dir, quarantined=set(range(15)))
    export(job, job_dir, tmp_path / name)
    ids, vectors = rows(tmp_path / name)
    assert ids == []
    assert len(vectors) == 0


@pytest.mark.parametrize("quarantined", [set(), set(range(15))], ids=["all", "none"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_digests_of_its_files_are_those_of_what_lies_on_the_disk(
    job: Job, job_dir: JobDir, tmp_path: Path, name: str, quarantined: set[int]
) -> None:
    publish(job, job_dir, quarantined=quarantined)
    export(job, job_dir, tmp_path / name)
    card = json.loads((tmp_path / f"{name}.card.json").read_text())
    written = files_of(tmp_path / name)
    assert card["output"]["files"] == {str(path.relative_to(tmp_path)): file_digest(path) for path in written}


@pytest.mark.parametrize(
    "name", ["out.npy", "out.npz", "out.safetensors", "out.parquet", "out.feather", "out"]
)
def test_exporting_twice_gives_the_same_bytes(job: Job, job_dir: JobDir, tmp_path: Path, name: str) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / name)
    first = {path.name: path.read_bytes() for path in files_of(tmp_path / name)}
    export(job, job_dir, tmp_path / name)
    assert {path.name: path.read_bytes() for path in files_of(tmp_path / name)} == first


def test_h5_says_where_its_numbers_come_from(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["model_name"] == "mock:8"
        assert file.attrs["model_digest"] == job.model.digest
        assert json.loads(file.attrs["inputs"])[0]["name"] == "a.fasta"
        assert json.loads(file.attrs["options"])["pool"] == "mean"


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow"])
def test_a_table_says_where_its_numbers_come_from(
    job: Job, job_dir: JobDir, tmp_path: Path, name: str
) -> None:
    publish(job, job_dir, quarantined={7})
    export(job, job_dir, tmp_path / name)
    schema = table_of(tmp_path / name).schema
    assert schema.types == [pa.string(), pa.list_(pa.float32(), 8)]
    assert (schema.metadata[b"model_name"], schema.metadata[b"num_quarantined"]) == (b"mock:8", b"1")


def test_an_arrow_file_is_mapped_and_never_copied(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out.arrow")
    before = pa.total_allocated_bytes()
    with pa.memory_map(str(tmp_path / "out.arrow")) as mapped, pa.ipc.open_file(mapped) as file:
        assert file.num_record_batches == 1, "small results of many shards are one array"
        column = file.get_batch(0).column("embedding")
        vectors = column.flatten().to_numpy(zero_copy_only=True).reshape(15, 8)
        np.testing.assert_array_equal(vectors[:, 0], np.arange(15.0))
        assert pa.total_allocated_bytes() == before


def test_an_arrow_file_is_written_a_batch_at_a_time(
    job: Job, job_dir: JobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_app.outputs.formats.writers.ROWS_PER_GROUP", 6)
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out.arrow")
    with pa.OSFile(str(tmp_path / "out.arrow")) as source, pa.ipc.open_file(source) as file:
        batches = [file.get_batch(number).num_rows for number in range(file.num_record_batches)]
    assert batches == [10, 5], "of shards of 5 rows, so many that they have at least 6"


def test_half_precision_stays_half_precision(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    half = dataclasses.replace(job, options=dataclasses.replace(job.options, store_dtype="float16"))
    publish(half, job_dir)
    export(half, job_dir, tmp_path / "out.npy")
    export(half, job_dir, tmp_path / "out.h5")
    assert np.load(tmp_path / "out.npy").dtype == np.float16
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["embeddings"].dtype == np.float16


def test_an_unfinished_job_is_not_exported(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    publish(job, job_dir)
    job_dir.done(1).unlink()
    with pytest.raises(HoldfastError, match="1 of 3 shards are not done"):
        export(job, job_dir, tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


def test_a_damaged_result_is_never_exported_and_the_earlier_output_stays(
    job: Job, job_dir: JobDir, tmp_path: Path
) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out.npy")
    before = (tmp_path / "out.npy").read_bytes()
    job_dir.result(2, 1).write_bytes(job_dir.result(1, 1).read_bytes())
    with pytest.raises(Damage, match="shard 2"):
        export(job, job_dir, tmp_path / "out.npy")
    assert (tmp_path / "out.npy").read_bytes() == before


def test_a_record_that_nobody_accounts_for_stops_the_export(
    job: Job, job_dir: JobDir, tmp_path: Path
) -> None:
    publish(job, job_dir, quarantined={7})
    record = read_done(job_dir, job.shards[1])
    assert record is not None
    job_dir.done(1).write_bytes(dataclasses.replace(record, quarantine=()).encode())
    with pytest.raises(Damage, match="shard 1: 4 embedded"):
        export(job, job_dir, tmp_path / "out.npy")


def test_an_id_with_a_line_break_keeps_one_line(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    from queue_app.job.output_names import one_line

    assert one_line("a\u2028b\r\nc") == "a b c"


def test_a_changed_output_is_damage_and_a_moved_one_is_not(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out.npy")
    assert output_damage(job, job_dir) == []
    ids = tmp_path / "out.ids.txt"
    ids.write_text(ids.read_text().replace("p3", "p4"))
    (found,) = output_damage(job, job_dir)
    assert str(ids) in found
    (tmp_path / "out.npy").rename(tmp_path / "elsewhere.npy")
    assert output_damage(job, job_dir) == []


def test_an_output_of_other_results_than_those_that_count_is_damage_and_export_writes_it_anew(
    job: Job, job_dir: JobDir, tmp_path: Path
) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out.npy")
    reopen(job_dir, job.shards[1], current_generation(job_dir, job.shards[1]))
    assert verify_job(job_dir).num_done == 2
    assert not any("out.npy" in line for line in verify_job(job_dir).damage), "it is yet to be written"
    publish_anew(job, job_dir, 2, 0.5)
    create(job_dir, job.shards[1], again(job, job_dir, 1))
    (found,) = [line for line in verify_job(job_dir).damage if "out.npy" in line]
    output = tmp_path / "out.npy"
    assert found == (
        f"output {output} was written from other results than those that count now; "
        f"holdfast export {job_dir.path} -o {output} writes it anew"
    )
    export(job, job_dir, output)
    assert not any("out.npy" in line for line in verify_job(job_dir).damage)
    assert np.load(output)[-1, 0] == 0.5


@pytest.mark.parametrize(
    ("name", "written", "asked"),
    [
        ("out.npy", {"precision": "int8"}, " --precision int8"),
        ("out.h5", {"h5_layout": "per-id"}, " --h5-layout per-id"),
        ("out.h5", {}, ""),
    ],
)
def test_an_output_that_is_written_anew_is_as_it_was_asked_for(
    job: Job, job_dir: JobDir, tmp_path: Path, name: str, written: dict[str, Any], asked: str
) -> None:
    job = dataclasses.replace(job, output=str(tmp_path / name))
    publish(job, job_dir)
    export(job, job_dir, tmp_path / name, **written)
    publish_anew(job, job_dir, 2, 0.5)
    (found,) = [line for line in verify_job(job_dir).damage if name in line]
    assert f"; holdfast export {job_dir.path} -o {tmp_path / name}{asked} writes it anew" in found


def again(job: Job, job_dir: JobDir, index: int) -> DoneRecord:
    """The same bytes, published once more."""
    path = job_dir.result(index, 1)
    count = job.shards[index].num_records
    return DoneRecord(path.name, file_digest(path), count, count, job=job.job_id, generation=1)


def test_an_output_of_the_same_bytes_published_twice_is_sound(
    job: Job, job_dir: JobDir, tmp_path: Path
) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out.npy")
    reopen(job_dir, job.shards[1], current_generation(job_dir, job.shards[1]))
    create(job_dir, job.shards[1], again(job, job_dir, 1))
    assert not any("out.npy" in line for line in verify_job(job_dir).damage)


@pytest.mark.parametrize("name", FORMATS)
def test_a_shard_that_is_published_anew_while_it_is_read_stops_the_export_and_the_output_stays(
    job: Job, job_dir: JobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def meanwhile(*args: Any) -> Iterator[pa.RecordBatch]:
        yield from in_input_order(*args)
        publish_anew(job, job_dir, 0, 0.5)

    publish(job, job_dir)
    export(job, job_dir, tmp_path / name)
    before = {path: path.read_bytes() for path in files_of(tmp_path / name)}
    with monkeypatch.context() as patched:
        patched.setattr(content, "in_input_order", meanwhile)
        with pytest.raises(HoldfastError, match="published anew meanwhile; run again"):
            export(job, job_dir, tmp_path / name)
    assert {path: path.read_bytes() for path in files_of(tmp_path / name)} == before
    export(job, job_dir, tmp_path / name)
    assert rows(tmp_path / name)[1][0, 0] == 0.5


def test_a_changed_arrow_file_is_damage(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    job = dataclasses.replace(job, output=str(tmp_path / "out.arrow"))
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out.arrow")
    assert output_damage(job, job_dir) == []
    with (tmp_path / "out.arrow").open("r+b") as file:
        file.seek(-100, 2)
        file.write(b"\xff")
    (found,) = output_damage(job, job_dir)
    assert "out.arrow is not what was written" in found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.xyz", r"unknown format \.xyz"),
        ("is_a_file/out.npy", "is_a_file is no directory"),
        ("is_a_directory.npy", "a directory is there already"),
        ("is_a_file", "a file is there already"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused_early(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "is_a_directory.npy").mkdir()
    (tmp_path / "is_a_file").write_text("")
    with pytest.raises(UsageError, match=message):
        check_output(tmp_path / name)


def test_a_directory_without_a_name_is_no_output() -> None:
    with pytest.raises(UsageError, match=r"name an output in it, as in out\.h5"):
        check_output(Path())
    with pytest.raises(UsageError, match="name an output"):
        _ = EmbedRequest(inputs=[], model="mock:4", output=Path()).directory


def test_a_directory_with_other_things_in_it_is_never_replaced(
    job: Job, job_dir: JobDir, tmp_path: Path
) -> None:
    publish(job, job_dir)
    export(job, job_dir, tmp_path / "out")
    export(job, job_dir, tmp_path / "out")
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match=r"thesis\.tex lies in it"):
        export(job, job_dir, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


# ---- several vectors a record, or one for every token


def with_options(job: Job, **changed: object) -> Job:
    return dataclasses.replace(job, options=dataclasses.replace(job.options, **changed))  # type: ignore[arg-type]


def publish_rows(job: Job, job_dir: JobDir, rows: list[np.ndarray]) -> None:
    """One shard, with these vectors for its records: [k * dim] each, or [L, dim] where they are ragged."""
    job_dir.results.mkdir(parents=True)
    (job_dir.path / "done").mkdir()
    job_dir.write(job)
    ragged = is_ragged(job.options)
    digest = publish_vectors(
        job_dir.result(0, 1),
        np.concatenate(rows) if ragged else np.stack(rows),
        np.cumsum([0, *map(len, rows)]).astype(np.uint64) if ragged else None,
        names=column_names(job.options),
    )
    done = DoneRecord(job_dir.result(0, 1).name, digest, len(rows), len(rows), job=job.job_id)
    job_dir.done(0).write_bytes(done.encode())


@pytest.fixture
def ragged(job_dir: JobDir) -> tuple[Job, list[np.ndarray]]:
    job = with_options(make_job(num_shards=1, records_per_shard=4), pool="none")
    rng = np.random.default_rng(3)
    rows = [rng.standard_normal((length, 8)).astype(np.float32) for length in (5, 1, 300, 2)]
    publish_rows(job, job_dir, rows)
    return job, rows


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("out.npy", "out.h5ad")])
def test_every_token_of_every_record_comes_out(
    ragged: tuple[Job, list[np.ndarray]], job_dir: JobDir, tmp_path: Path, name: str
) -> None:
    job, rows = ragged
    export(job, job_dir, tmp_path / name)
    found = ragged_rows_of(tmp_path / name)
    assert [row.shape for row in found] == [row.shape for row in rows]
    for own, expected in zip(found, rows, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_where_a_record_ends_is_part_of_the_content_digest(tmp_path: Path) -> None:
    job = with_options(make_job(num_shards=1, records_per_shard=2), pool="none")
    digests = []
    for name, lengths in (("a", (1, 2)), ("b", (2, 1))):
        job_dir = JobDir(tmp_path / name)
        publish_rows(job, job_dir, [np.ones((length, 8), np.float32) for length in lengths])
        digests.append(export(job, job_dir, tmp_path / f"{name}.parquet").output_digest)
    assert digests[0] != digests[1]


@pytest.mark.parametrize("name", ["out.npy", "out.h5ad"])
def test_what_has_one_vector_a_row_refuses_rows_of_different_lengths(
    ragged: tuple[Job, list[np.ndarray]], job_dir: JobDir, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match=r"--pool none makes; use \.h5"):
        export(ragged[0], job_dir, tmp_path / name)


def test_a_dataset_for_each_record_has_its_id_whatever_letters_are_in_it(
    ragged: tuple[Job, list[np.ndarray]], job_dir: JobDir, tmp_path: Path
) -> None:
    job, rows = ragged
    export(job, job_dir, tmp_path / "out.h5", h5_layout="per-sequence")
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == ["0", "1", "2", "3"]
        assert [file[name].attrs["original_id"] for name in file] == ["p0", "p1", "p2", "p3"]
        for name, expected in zip(file, rows, strict=True):
            np.testing.assert_array_equal(file[name][:], expected)
        assert file.attrs["model_name"] == "mock:8"


def test_pooled_vectors_have_a_dataset_for_each_record_too(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    publish(job, job_dir, quarantined={7})
    export(job, job_dir, tmp_path / "out.h5", h5_layout="per-sequence")
    with h5py.File(tmp_path / "out.h5") as file:
        assert list(file) == [str(number) for number in range(15) if number != 7]
        np.testing.assert_array_equal(file["11"][:], np.full(8, 11.0, np.float32))


@pytest.mark.parametrize("name", FORMATS)
def test_several_pools_and_layers_have_a_column_each(job_dir: JobDir, tmp_path: Path, name: str) -> None:
    job = with_options(make_job(num_shards=1, records_per_shard=3), pool="mean,cls", layers=(1, 3))
    rows = [np.arange(32, dtype=np.float32) + 100 * number for number in range(3)]
    publish_rows(job, job_dir, rows)
    export(job, job_dir, tmp_path / name)
    names = ["layer_1_mean", "layer_1_cls", "layer_3_mean", "layer_3_cls"]
    expected = np.stack(rows).reshape(3, 4, 8)
    for place, column in enumerate(names):
        np.testing.assert_array_equal(
            vectors_of(tmp_path / name, f"embedding_{column}", place), expected[:, place]
        )


@pytest.mark.parametrize("layout", ["per-sequence", "per-id", "per-hash"])
def test_a_dataset_for_each_record_holds_one_vector_of_it(
    job_dir: JobDir, tmp_path: Path, layout: H5Layout
) -> None:
    job = with_options(make_job(num_shards=1, records_per_shard=1), pool="mean,cls")
    publish_rows(job, job_dir, [np.ones(16, np.float32)])
    with pytest.raises(UsageError, match=f"{layout} has one vector a record; choose one pool and one layer"):
        export(job, job_dir, tmp_path / "out.h5", h5_layout=layout)


# ---- asked for by a message, as anybody may send it


@pytest.fixture
def placed(job: Job, job_dir: JobDir) -> Path:
    """Where the output of a finished job goes, as its producer has noted."""
    publish(job, job_dir)
    take_place(job_dir, Path(job.output))
    return Path(job.output)


@pytest.mark.parametrize("theirs", [b"of the user", b""])
def test_a_finished_output_that_the_user_replaced_is_never_written_again(
    job: Job, job_dir: JobDir, placed: Path, theirs: bytes
) -> None:
    assert export_once(job, job_dir) is not None
    placed.write_bytes(theirs)
    for _ in range(2):
        assert export_once(job, job_dir) is None
    assert placed.read_bytes() == theirs


def test_an_output_is_written_anew_from_other_results_unless_it_was_changed_since(
    job: Job, job_dir: JobDir, placed: Path
) -> None:
    export_once(job, job_dir)
    publish_anew(job, job_dir, 1, 7.0)
    assert export_once(job, job_dir) is not None
    assert vectors_of(placed)[5, 0] == 7.0
    publish_anew(job, job_dir, 2, 8.0)
    with placed.open("ab") as file:
        file.write(b"of the user")
    changed = placed.read_bytes()
    with pytest.raises(UsageError, match="was changed since it was written"):
        export_once(job, job_dir)
    assert placed.read_bytes() == changed


def test_an_output_that_is_gone_is_written_anew(job: Job, job_dir: JobDir, placed: Path) -> None:
    export_once(job, job_dir)
    placed.unlink()
    assert export_once(job, job_dir) is not None
    assert placed.is_file()


def test_a_file_of_the_users_is_not_replaced_where_the_output_was_to_go(
    job: Job, job_dir: JobDir, placed: Path
) -> None:
    placed.write_bytes(b"of the user")
    with pytest.raises(UsageError, match="not written by this job"):
        export_once(job, job_dir)
    assert placed.read_bytes() == b"of the user"


@pytest.mark.parametrize("what", ["job.json", "all of it"])
def test_a_copy_of_a_job_does_not_write_to_the_output_of_the_first(
    job: Job, job_dir: JobDir, placed: Path, tmp_path: Path, what: str
) -> None:
    copy = JobDir(tmp_path / "copy")
    shutil.copytree(job_dir.path, copy.path)
    if what == "job.json":
        copy.place.unlink()
    with pytest.raises(UsageError, match=r"holdfast resume .* -o OUTPUT"):
        export_once(job, copy)
    assert not placed.exists()


@needs_root
def test_an_output_does_not_go_where_another_users_link_leads(
    job: Job, job_dir: JobDir, placed: Path, tmp_path: Path
) -> None:
    for name in (placed.name, f"{placed.name}.card.json", f"{placed.stem}.ids.txt"):
        link = tmp_path / name
        link.symlink_to(tmp_path / "new")
        of_nobody(link)
        with pytest.raises(NotOurs, match="a link that another user has made"):
            export_once(job, job_dir)
        link.unlink()
    assert not (tmp_path / "new").exists()
    assert export_once(job, job_dir) is not None
