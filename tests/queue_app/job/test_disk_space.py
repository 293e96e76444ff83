"""The promises about room: told before anything is computed, and of every copy that exists at once."""

from dataclasses import replace
from pathlib import Path

import pytest

from checkpoint.records import DoneRecord
from queue_app.errors import DiskFull
from queue_app.job.directory import JobDir
from queue_app.job.disk_space import require_room, rooms
from queue_app.job.shard_table import ShardTable
from queue_app.job.spec import Job, RunOptions, TwinsFile
from queue_app.model.reader import find_model
from queue_app.settings import RuntimeConfig
from tests.support.jobs_and_inputs import make_job

CONFIG = RuntimeConfig()
ROW_BYTES = 4 * 16


@pytest.fixture
def job_dir(tmp_path: Path) -> JobDir:
    for name in ("results", "done"):
        (tmp_path / name).mkdir()
    return JobDir(tmp_path)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Shards of 100, 300 and 200 records, 16 numbers of float32 for each."""
    made = make_job(num_shards=3, records_per_shard=200)
    sizes = (100, 300, 200)
    shards = ShardTable.of(
        made.job_id, (replace(shard, num_records=sizes[shard.index]) for shard in made.shards)
    )
    model = find_model("mock:16").spec
    return replace(made, output=str(tmp_path / "out.npy"), shards=shards, model=model)


def copies(job: Job, job_dir: JobDir, num_workers: int = 2) -> list[dict[str, int]]:
    """Rows of each copy, at each of the two moments."""
    return [
        {copy.name: copy.num_bytes // ROW_BYTES for copy in room.copies}
        for room in rooms(job, job_dir, CONFIG, num_workers=num_workers)
    ]


def publish(job: Job, job_dir: JobDir, index: int) -> None:
    record = DoneRecord(f"{index:05d}-1.parquet", "digest", 1, 1, job=job.job_id)
    (job_dir.results / record.file).touch()
    job_dir.done(index).write_bytes(record.encode())


def test_while_it_computes_the_stores_of_the_largest_shards_lie_beside_the_results(
    job: Job, job_dir: JobDir
) -> None:
    assert copies(job, job_dir)[0] == {"results": 600, "checkpoints": 500}


def test_at_the_end_the_output_lies_beside_the_results(job: Job, job_dir: JobDir) -> None:
    assert copies(job, job_dir)[1] == {"results": 600, "output": 600}


def test_kept_checkpoints_are_counted_whole_at_both_moments(job: Job, job_dir: JobDir) -> None:
    kept = replace(job, run=RunOptions(keep_checkpoints=True))
    computing, exporting = copies(kept, job_dir)
    assert computing == {"results": 600, "checkpoints": 600}
    assert exporting == {"results": 600, "output": 600, "checkpoints": 600}


@pytest.mark.parametrize("keep", [False, True])
def test_checkpoints_of_workers_elsewhere_need_no_room_here(job: Job, job_dir: JobDir, keep: bool) -> None:
    of_others = replace(job, run=RunOptions(keep_checkpoints=keep))
    assert copies(of_others, job_dir, num_workers=0) == [{"results": 600}, {"results": 600, "output": 600}]


def test_what_is_published_already_needs_no_more_room(job: Job, job_dir: JobDir) -> None:
    publish(job, job_dir, 1)
    computing, exporting = copies(job, job_dir)
    assert computing == {"results": 300, "checkpoints": 300}
    assert exporting == {"results": 300, "output": 600}


def test_rejected_records_have_no_vectors(job: Job, job_dir: JobDir) -> None:
    half = replace(job, counts=replace(job.counts, num_rejected=300))
    assert copies(half, job_dir)[1] == {"results": 300, "output": 300}


def test_an_output_that_links_to_the_results_needs_no_more_room(job: Job, job_dir: JobDir) -> None:
    directory = replace(job, output=str(job_dir.path / "out"))
    assert copies(directory, job_dir)[1] == {"results": 600}
    with_twins = replace(directory, twins=TwinsFile("digest", 60, 30))
    assert copies(with_twins, job_dir)[1] == {"results": 600, "output": 600, "vectors of duplicates": 30}


@pytest.mark.parametrize(
    ("kind", "long", "num_vectors"),
    [("letters", "window", 4920), ("letters", "truncate", 600), ("fast", "window", 600)],
)
def test_of_the_vectors_of_tokens_no_more_are_counted_than_there_must_be(
    job: Job, job_dir: JobDir, kind: str, long: str, num_vectors: int
) -> None:
    """1,640 characters in each shard: how many tokens they are, of a text, is not known."""
    shards = ShardTable.of(
        job.job_id, (replace(shard, cost=8 * shard.num_rows + 1640) for shard in job.shards)
    )
    options = replace(job.options, pool="none", long=long, max_length=1)  # type: ignore[arg-type]
    model = replace(job.model, tokens=replace(job.model.tokens, kind=kind))  # type: ignore[arg-type]
    ragged = replace(job, shards=shards, options=options, model=model)
    assert copies(ragged, job_dir)[1] == {"results": num_vectors, "output": num_vectors}


@pytest.mark.parametrize(
    ("long", "max_length", "num_numbers"),
    [
        ("truncate", 100, sum(1640**2 // number for number in (100, 300, 200))),
        ("truncate", 1, 600),
        ("error", 100, sum(1640**2 // (2 * number) for number in (100, 300, 200))),
    ],
)
def test_of_contacts_the_square_of_the_mean_length_is_counted(
    job: Job, job_dir: JobDir, long: str, max_length: int, num_numbers: int
) -> None:
    """1,640 residues in each shard, of 100, 300 and 200 proteins, as if they were equally long."""
    shards = ShardTable.of(
        job.job_id, (replace(shard, cost=8 * shard.num_rows + 1640) for shard in job.shards)
    )
    options = replace(job.options, pool="contacts", long=long, max_length=max_length)  # type: ignore[arg-type]
    contacts = replace(job, shards=shards, options=options)
    num_bytes = 2 if options.store_dtype == "float16" else 4
    found = rooms(contacts, job_dir, CONFIG, num_workers=0)[0].copies
    assert {copy.name: copy.num_bytes for copy in found} == {"results": num_bytes * num_numbers}


def test_each_disk_is_held_against_its_own_part(job: Job, job_dir: JobDir, tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")
    if elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs two file systems")
    config = RuntimeConfig(scratch=elsewhere / "not-made")
    found = rooms(job, job_dir, config, num_workers=1)
    assert [([copy.name for copy in room.copies], room.path) for room in found[:2]] == [
        (["results"], job_dir.results), (["checkpoints"], elsewhere),
    ]  # fmt: skip


def test_too_little_room_names_the_disk_and_every_copy(
    job: Job, job_dir: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = replace(job, model=replace(job.model, encoder=replace(job.model.encoder, hidden_size=10**12)))
    with pytest.raises(DiskFull, match=r"needs \S+ .B \(results \S+ .B, checkpoints .*are free; make room"):
        require_room(large, job_dir, CONFIG, num_workers=2)
    require_room(job, job_dir, CONFIG, num_workers=2)
