"""Identical sequences are computed once, and every record has its row all the same."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.errors import Damage, JobChanged, OtherVersion
from queue_app.ingest.records_to_shards import ingest
from queue_app.job.directory import JOB_SCHEMA, PLANNER_VERSION, JobDir
from queue_app.job.disk_space import rooms
from queue_app.job.duplicates import find_firsts
from queue_app.job.quarantine import list_quarantine, retry_quarantine
from queue_app.job.shard_files import Record, read_shard
from queue_app.outputs.verify import verify_job
from queue_app.settings import RuntimeConfig
from queue_app.status.directory_snapshot import snapshot_of_directory
from tests.support.inline_job import InlineJob, embedded, submitted, write_numbered
from tests.support.jobs_and_inputs import protein
from tests.support.output_files import table_of

ONCE = range(120)
TEN_TIMES = [number for _ in range(10) for number in ONCE]
SHUFFLED = np.random.default_rng(0).permutation(TEN_TIMES).tolist()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("twins")


@pytest.fixture(scope="module")
def once(home: Path) -> InlineJob:
    return embedded(home / "once.npy", [write_numbered(home / "once.fasta", ONCE)])


@pytest.fixture(scope="module")
def ten_times(home: Path) -> InlineJob:
    return embedded(home / "ten.npy", [write_numbered(home / "ten.fasta", TEN_TIMES)])


@pytest.fixture(scope="module")
def shuffled(home: Path) -> InlineJob:
    return embedded(home / "shuffled.npy", [write_numbered(home / "shuffled.fasta", SHUFFLED)])


@pytest.fixture(scope="module")
def shuffled_in_full(home: Path, shuffled: InlineJob) -> InlineJob:
    return embedded(home / "full.npy", [home / "shuffled.fasta"], dedup=False)


def ids_of(output: Path) -> list[str]:
    return output.with_suffix(".ids.txt").read_text().splitlines()


# ---- the cost


def test_an_input_that_repeats_itself_ten_times_costs_what_it_costs_once(
    once: InlineJob, ten_times: InlineJob
) -> None:
    assert ten_times.num_tokens <= 1.2 * once.num_tokens
    assert np.load(ten_times.job.output).shape == (1200, 8)


def test_without_dedup_every_record_is_computed(shuffled: InlineJob, shuffled_in_full: InlineJob) -> None:
    assert shuffled_in_full.num_tokens == 10 * shuffled.num_tokens
    assert shuffled_in_full.job.twins is None
    assert not shuffled_in_full.job_dir.twins.exists()


@given(st.lists(st.integers(0, 5), max_size=40), st.lists(st.integers(0, 5), max_size=40))
def test_the_first_of_a_sequence_is_its_first_place(high: list[int], low: list[int]) -> None:
    pairs = list(zip(high, low, strict=False))
    firsts = find_firsts(np.array(pairs, np.uint64).reshape(-1, 2))
    assert firsts.tolist() == [pairs.index(pair) for pair in pairs]


# ---- the rows


def test_the_output_is_the_same_with_and_without_dedup(
    shuffled: InlineJob, shuffled_in_full: InlineJob
) -> None:
    ours, theirs = Path(shuffled.job.output), Path(shuffled_in_full.job.output)
    assert ours.read_bytes() == theirs.read_bytes()
    assert ids_of(ours) == ids_of(theirs) == [f"r{place}" for place in range(1200)]


def test_what_an_output_holds_has_one_digest_however_its_rows_were_batched(
    shuffled: InlineJob, shuffled_in_full: InlineJob
) -> None:
    assert shuffled.export().output_digest == shuffled_in_full.export().output_digest


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out"])
def test_a_table_and_a_directory_hold_every_record_in_input_order(
    shuffled: InlineJob, tmp_path: Path, name: str
) -> None:
    shuffled.export(tmp_path / name)
    table = table_of(tmp_path / name)
    assert table["id"].to_pylist() == [f"r{place}" for place in range(1200)]
    vectors = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_array_equal(vectors, np.load(shuffled.job.output))


def test_a_directory_of_many_files_is_in_order_by_their_names(
    shuffled: InlineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_app.outputs.formats.writers.ROWS_PER_GROUP", 100)
    shuffled.export(tmp_path / "out")
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) > 2
    ids = [name for file in files for name in pq.read_table(file)["id"].to_pylist()]
    assert ids == [f"r{place}" for place in range(1200)]


def test_exporting_leaves_nothing_aside(shuffled: InlineJob, tmp_path: Path) -> None:
    shuffled.job_dir.aside.write_bytes(b"left by an export that was killed")
    shuffled.export(tmp_path / "out.npy")
    assert not shuffled.job_dir.aside.exists()
    assert (tmp_path / "out.npy").read_bytes() == Path(shuffled.job.output).read_bytes()


# ---- the counts


def test_a_bad_record_is_nobodys_twin(tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", [1, 1], extra=">b\nM4\n>c\nM4\n>d\n\n>e\n\n")
    job = embedded(tmp_path / "a.npy", [fasta])
    assert job.job.twins is not None
    assert job.job.twins.num_twins == 1
    assert [entry.id for entry in list_quarantine(job.job_dir)] == ["b", "c", "d", "e"]


def test_a_good_record_is_never_the_twin_of_a_bad_one(tmp_path: Path) -> None:
    records = [Record(0, "a", "MK", "a problem"), Record(1, "b", "MK"), Record(2, "c", "MK")]
    job_dir = JobDir(tmp_path / "incoming")
    written = ingest(records, job_dir, "job", num_shards=1, cost_most=99, dedup=True, previous=None)
    content = read_shard(job_dir.shard(0), written.shards[0])
    assert (content.ids, content.copies.tolist()) == (["a", "b"], [1, 2])


def test_a_shard_counts_the_twins_of_its_rows(ten_times: InlineJob) -> None:
    shards = ten_times.job.shards
    assert sum(shard.num_records for shard in shards) == 1200
    assert sum(shard.num_rows for shard in shards) == 120
    for shard in shards:
        records = read_shard(ten_times.job_dir.shard(shard.index), shard)
        assert records.copies.tolist() == [10] * shard.num_rows


def test_progress_counts_twins_and_ends_with_every_record(home: Path, tmp_path: Path) -> None:
    job = submitted(tmp_path / "a.npy", [write_numbered(tmp_path / "a.fasta", TEN_TIMES)], num_shards=1)
    job.compute()
    assert job.reports[-1].sequences_done == 1200


def test_a_directory_without_a_server_counts_the_twins_of_what_is_committed(tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", TEN_TIMES)
    job = submitted(tmp_path / "a.npy", [fasta], num_shards=1)
    job.compute(num_batches=3)
    seen = snapshot_of_directory(job.job, job.job_dir, None)
    assert 0 < seen.done < 1200
    assert seen.done == job.reports[-1].sequences_done


# ---- the crash


def test_stopped_after_every_few_batches_the_bytes_are_the_same(shuffled: InlineJob, tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "shuffled.fasta", SHUFFLED)
    job = submitted(tmp_path / "a.npy", [fasta], num_shards=2)
    while not all(job.job_dir.done(shard.index).exists() for shard in job.job.shards):
        job.compute(num_batches=3)
    job.export()
    assert job.token > 6
    assert (tmp_path / "a.npy").read_bytes() == Path(shuffled.job.output).read_bytes()
    assert verify_job(job.job_dir).sound


# ---- the quarantine

POISON = "WWWWW"


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        (f"mock:8,nan={POISON}", {}, "not finite"),
        ("mock:8", {"long": "error", "max_length": 300}, "longer than 300 tokens"),
    ],
)
def test_what_befalls_a_first_befalls_its_twins(
    tmp_path: Path, model: str, options: dict[str, object], reason: str
) -> None:
    poison = POISON * 80
    extra = f">x\n{poison}\n>ok\nMKV\n>y\n{poison}\n>z\n{poison}\n"
    fasta = write_numbered(tmp_path / "a.fasta", [1, 2, 1], extra=extra)
    job = embedded(tmp_path / "a.npy", [fasta], model=model, **options)
    listed = (tmp_path / "a.npy.quarantine.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[:3] for line in listed] == [
        ["3", "x", "400"], ["5", "y", "400"], ["6", "z", "400"],
    ]  # fmt: skip
    assert all(reason in line for line in listed)
    assert [entry.id for entry in list_quarantine(job.job_dir)] == ["x", "y", "z"]
    assert ids_of(tmp_path / "a.npy") == ["r0", "r1", "r2", "ok"]
    assert sum(report.quarantined for report in job.reports[-len(job.job.shards) :]) == 3
    assert json.loads((tmp_path / "a.npy.card.json").read_text())["counts"]["quarantined"] == 3
    report = verify_job(job.job_dir)
    assert report.sound
    assert (report.num_embedded, report.num_quarantined) == (4, 3)


def test_another_chance_is_one_for_the_twins_too(tmp_path: Path) -> None:
    extra = f">x\n{POISON}\n>y\n{POISON}\n>bad\nM4\n"
    fasta = write_numbered(tmp_path / "a.fasta", [1], extra=extra)
    job = embedded(tmp_path / "a.npy", [fasta], model=f"mock:8,nan={POISON}")
    assert [entry.id for entry in retry_quarantine(job.job_dir)] == ["x", "y"]
    job.compute()
    assert [entry.id for entry in list_quarantine(job.job_dir)] == ["x", "y", "bad"]
    assert job.export().num_quarantined == 3


def test_an_output_of_which_every_record_is_set_aside_is_empty(tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", [], extra=f">x\n{POISON}\n>y\n{POISON}\n")
    job = embedded(tmp_path / "a.npy", [fasta], model=f"mock:8,nan={POISON}")
    job.export(tmp_path / "out")
    assert pq.read_table(tmp_path / "out").num_rows == 0


# ---- what is refused or found damaged


def test_a_change_of_mind_about_dedup_is_refused_by_name(once: InlineJob, home: Path) -> None:
    with pytest.raises(JobChanged, match="dedup: True -> False"):
        submitted(home / "once.npy", [home / "once.fasta"], dedup=False)


@pytest.mark.parametrize("name", ["twins.arrow", "sequences.arrow"])
def test_damage_to_the_files_beside_the_shards_is_found_and_named(ten_times: InlineJob, name: str) -> None:
    path = ten_times.job_dir.path / name
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    report = verify_job(ten_times.job_dir)
    path.write_bytes(whole)
    assert [name in line for line in report.damage] == [True]
    assert verify_job(ten_times.job_dir).sound


def test_no_output_is_written_from_other_twins_than_were_submitted(
    ten_times: InlineJob, tmp_path: Path
) -> None:
    whole = ten_times.job_dir.twins.read_bytes()
    ten_times.job_dir.twins.write_bytes(whole[:-1])
    with pytest.raises(Damage, match=r"twins\.arrow"):
        ten_times.export(tmp_path / "out.npy")
    ten_times.job_dir.twins.write_bytes(whole)
    assert not (tmp_path / "out.npy").exists()


def test_a_record_that_is_nowhere_is_found(once: InlineJob) -> None:
    job = replace(once.job, counts=replace(once.job.counts, num_records=121))
    whole = once.job_dir.job_json.read_bytes()
    once.job_dir.write(job)
    report = verify_job(once.job_dir)
    once.job_dir.job_json.write_bytes(whole)
    assert report.damage == ("records 120 are neither embedded nor quarantined",)


def test_a_job_of_an_older_version_is_refused_as_such(tmp_path: Path) -> None:
    """Both versions are named: whoever has several installed knows which one to run."""
    (tmp_path / "job.json").write_text(json.dumps({"schema_version": 1, "planner_version": 2}))
    theirs, ours = r"planner 2, job schema 1", rf"planner {PLANNER_VERSION}, job schema {JOB_SCHEMA}"
    with pytest.raises(OtherVersion, match=rf"another version of Holdfast \({theirs}; this one: {ours}\)"):
        JobDir(tmp_path).load()


def test_room_is_asked_for_the_vectors_that_twins_wait_for(ten_times: InlineJob) -> None:
    (exporting,) = rooms(ten_times.job, ten_times.job_dir, RuntimeConfig(), num_workers=1)
    sizes = {copy.name: copy.num_bytes // (8 * 4) for copy in exporting.copies}
    assert sizes == {"output": 1200, "vectors of duplicates": 120}


# ---- rows that are more than one vector: every token's, and several side by side

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
