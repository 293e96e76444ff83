"""A data set that grew costs what it grew by: vectors of an earlier job are found by content and copied."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from queue_app.errors import Damage, DiskFull, JobChanged, JobNotFound, UsageError
from queue_app.ingest import prepare, reuse
from queue_app.job.output_names import card_paths
from queue_app.outputs.clean import clean
from queue_app.outputs.verify import verify_job
from tests.support.inline_job import InlineJob, embedded, submitted, write_numbered

BEFORE = range(190)
GROWN = np.random.default_rng(0).permutation(200).tolist()
"""95 % of it was there before, and in another order."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reuse")
    write_numbered(made / "grown.fasta", GROWN)
    return made


@pytest.fixture(scope="module")
def previous(home: Path) -> InlineJob:
    return embedded(home / "before.npy", [write_numbered(home / "before.fasta", BEFORE)])


@pytest.fixture(scope="module")
def afresh(home: Path) -> InlineJob:
    """The grown data set without reuse."""
    return embedded(home / "afresh.npy", [home / "grown.fasta"])


@pytest.fixture(scope="module")
def grown(home: Path, previous: InlineJob) -> InlineJob:
    return embedded(home / "grown.npy", [home / "grown.fasta"], reuse=Path(previous.job.output))


@pytest.fixture
def copied(previous: InlineJob, tmp_path: Path) -> Path:
    """The earlier job's directory, to do harm to."""
    return Path(shutil.copytree(previous.job_dir.path, tmp_path / "before.holdfast"))


def vectors(job: InlineJob) -> bytes:
    return Path(job.job.output).read_bytes()


def num_reused(job: InlineJob) -> int:
    return job.job.reuse.num_vectors if job.job.reuse else 0


# ---- what it costs, and gives


def test_an_overlap_of_95_per_cent_costs_at_most_15_per_cent(grown: InlineJob, afresh: InlineJob) -> None:
    assert grown.num_tokens <= 0.15 * afresh.num_tokens
    assert num_reused(grown) == 190


def test_the_rows_are_those_of_a_job_that_reused_nothing(grown: InlineJob, afresh: InlineJob) -> None:
    assert vectors(grown) == vectors(afresh)
    assert verify_job(grown.job_dir).sound


def test_an_output_says_what_was_reused(grown: InlineJob, previous: InlineJob) -> None:
    card = json.loads(card_paths(Path(grown.job.output))[1].read_bytes())
    assert card["reuse"]["job_id"] == previous.job.job_id
    assert card["counts"]["reused"] == 190


def test_a_subset_is_done_without_computing_anything(previous: InlineJob, tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", [5, 3, 5])
    job = submitted(tmp_path / "a.npy", [fasta], reuse=previous.job_dir.path)
    job.export()
    expected = np.load(previous.job.output)[[5, 3, 5]]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected)


def test_nothing_of_the_earlier_job_is_needed_afterwards(
    copied: Path, home: Path, grown: InlineJob, tmp_path: Path
) -> None:
    options = {"inputs": [home / "grown.fasta"], "reuse": copied}
    submitted(tmp_path / "a.npy", **options)  # type: ignore[arg-type]
    shutil.rmtree(copied)
    again = submitted(tmp_path / "a.npy", **options)  # type: ignore[arg-type]
    again.compute()
    again.export()
    assert vectors(again) == vectors(grown)


def test_a_copied_result_that_is_damaged_is_computed_again(home: Path, copied: Path, tmp_path: Path) -> None:
    job = embedded(tmp_path / "a.npy", [home / "grown.fasta"], reuse=copied)
    before = vectors(job)
    (shard,) = (shard for shard in job.job.shards if shard.reused)
    job.job_dir.result(shard.index, reuse.NO_TOKEN).write_bytes(b"PAR1")
    assert not verify_job(job.job_dir).sound
    job.compute()
    job.export()
    assert vectors(job) == before
    assert verify_job(job.job_dir).sound


def test_a_job_that_reused_is_reused_in_turn(grown: InlineJob, home: Path, tmp_path: Path) -> None:
    job = submitted(tmp_path / "a.npy", [home / "grown.fasta"], reuse=Path(grown.job.output))
    job.export()
    assert num_reused(job) == 200
    assert vectors(job) == vectors(grown)


def test_the_same_output_may_grow(home: Path, afresh: InlineJob, tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", BEFORE)
    embedded(tmp_path / "a.npy", [fasta])
    write_numbered(fasta, GROWN)
    job = embedded(tmp_path / "a.npy", [fasta], reuse=tmp_path / "a.npy", overwrite=True)
    assert num_reused(job) == 190
    assert vectors(job) == vectors(afresh)
    assert verify_job(job.job_dir).sound


# ---- what is taken, and what is not


def test_of_an_unfinished_job_what_is_published_is_taken(
    home: Path, afresh: InlineJob, tmp_path: Path
) -> None:
    half = submitted(tmp_path / "half.npy", [home / "grown.fasta"], num_shards=4)
    half.compute([1, 2])
    half.compute([3], num_batches=2)
    job = embedded(tmp_path / "a.npy", [home / "grown.fasta"], reuse=tmp_path / "half.npy")
    assert num_reused(job) == sum(half.job.shards[index].num_rows for index in (1, 2))
    assert vectors(job) == vectors(afresh)


def test_a_job_that_was_cleaned_is_reused_all_the_same(
    home: Path, previous: InlineJob, tmp_path: Path
) -> None:
    clean(previous.job_dir)
    job = submitted(tmp_path / "a.npy", [home / "grown.fasta"], reuse=previous.job_dir.path)
    assert num_reused(job) == 190


def test_a_damaged_result_is_not_taken(home: Path, copied: Path, afresh: InlineJob, tmp_path: Path) -> None:
    result = sorted((copied / "results").iterdir())[0]
    damaged = bytearray(result.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    result.write_bytes(damaged)
    job = embedded(tmp_path / "a.npy", [home / "grown.fasta"], reuse=copied)
    assert 0 < num_reused(job) < 190
    assert vectors(job) == vectors(afresh)


def test_what_was_quarantined_is_computed_again(tmp_path: Path) -> None:
    poison = ">x\nWWWWW\n>y\nWWWWW\n>bad\nM4\n"
    fasta = write_numbered(tmp_path / "a.fasta", [1, 2], extra=poison)
    embedded(tmp_path / "a.npy", [fasta], model="mock:8,nan=WWWWW")
    job = embedded(tmp_path / "b.npy", [fasta], model="mock:8,nan=WWWWW", reuse=tmp_path / "a.npy")
    assert num_reused(job) == 2
    listed = (tmp_path / "b.npy.quarantine.tsv").read_text()
    assert listed == (tmp_path / "a.npy.quarantine.tsv").read_text()


def test_every_record_of_a_sequence_gets_its_copy_without_dedup(previous: InlineJob, tmp_path: Path) -> None:
    fasta = write_numbered(tmp_path / "a.fasta", [4, 4, 4])
    job = submitted(tmp_path / "a.npy", [fasta], reuse=previous.job_dir.path, dedup=False)
    job.export()
    assert num_reused(job) == 3
    assert len(np.unique(np.load(tmp_path / "a.npy"), axis=0)) == 1


# ---- what is refused


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"pool": "max"}, "pool: mean there, max here"),
        ({"store_dtype": "float16"}, "store_dtype: float32 there, float16 here"),
        ({"model": "mock:16"}, "model: mock:8 there, mock:16 here"),
    ],
)
def test_vectors_of_another_kind_are_refused_by_name(
    previous: InlineJob, home: Path, tmp_path: Path, changed: dict[str, str], named: str
) -> None:
    with pytest.raises(UsageError, match=named):
        submitted(tmp_path / "a.npy", [home / "grown.fasta"], reuse=previous.job_dir.path, **changed)


def test_other_batches_and_shards_are_no_other_kind(previous: InlineJob, home: Path, tmp_path: Path) -> None:
    options = {"toks_per_batch": 900, "num_shards": 2, "reuse": previous.job_dir.path}
    job = submitted(tmp_path / "a.npy", [home / "grown.fasta"], **options)
    assert num_reused(job) == 190


def test_a_job_of_another_version_is_refused_as_such(copied: Path, home: Path, tmp_path: Path) -> None:
    older = json.loads((copied / "job.json").read_bytes()) | {"schema_version": 1}
    (copied / "job.json").write_text(json.dumps(older))
    with pytest.raises(UsageError, match="made by another version"):
        submitted(tmp_path / "a.npy", [home / "grown.fasta"], reuse=copied)


def test_a_job_that_lost_its_sequences_is_refused_with_what_to_do(
    copied: Path, home: Path, tmp_path: Path
) -> None:
    (copied / "sequences.arrow").unlink()
    with pytest.raises(Damage, match=r"before\.holdfast/sequences\.arrow: .*; leave --reuse away"):
        submitted(tmp_path / "a.npy", [home / "grown.fasta"], reuse=copied)


def test_a_job_to_reuse_is_the_same_however_it_is_spelled(
    previous: InlineJob, grown: InlineJob, home: Path
) -> None:
    again = previous.job_dir.path.parent / "x" / ".." / previous.job_dir.path.name
    assert submitted(home / "grown.npy", [home / "grown.fasta"], reuse=again).job == grown.job


def test_nothing_to_reuse_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(JobNotFound, match=r"none\.npy"):
        submitted(tmp_path / "a.npy", [home / "grown.fasta"], reuse=tmp_path / "none.npy")


@pytest.mark.parametrize("other", [None, Path("/elsewhere/out.npy")])
def test_another_job_to_reuse_on_the_same_output_is_refused_by_name(
    grown: InlineJob, home: Path, other: Path | None
) -> None:
    with pytest.raises(JobChanged, match=r"reuse: \S+before.npy -> "):
        submitted(home / "grown.npy", [home / "grown.fasta"], reuse=other)


# ---- a crash while it is copied


def test_a_disk_that_fills_while_vectors_are_copied_leaves_no_half_job(
    copied: Path, home: Path, grown: InlineJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise DiskFull("no room on the disk")

    def submit() -> InlineJob:
        return submitted(tmp_path / "a.npy", [home / "grown.fasta"], reuse=copied)

    with monkeypatch.context() as patch:
        patch.setattr(reuse, "write_result", full)
        with pytest.raises(DiskFull):
            submit()
    assert list((tmp_path / "a.npy.holdfast").iterdir()) == []
    job = submit()
    job.compute()
    job.export()
    assert vectors(job) == vectors(grown)


class Killed(BaseException):
    """Raised where the producer is to end, as if by SIGKILL."""


@pytest.mark.parametrize("step", ["shards", "shards.table", "results", "done", "sequences.arrow", "job.json"])
def test_a_producer_killed_while_it_replaces_the_job_that_it_reuses_loses_no_vector(
    copied: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def killed_before(step: str, rename: Callable[[Path, Path], object]) -> Callable[[Path, Path], object]:
        def renamed(path: Path, target: Path) -> object:
            if path.parent.name == "incoming" and path.name == step:
                raise Killed
            return rename(path, target)

        return renamed

    def submit() -> InlineJob:
        output = tmp_path / "before.npy"
        return submitted(output, [home / "grown.fasta"], job_dir=copied, reuse=copied, overwrite=True)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_before(step, Path.rename))
        patch.setattr(prepare, "rename_durably", killed_before(step, prepare.rename_durably))
        with pytest.raises(Killed):
            submit()
    assert not (copied / "job.json").exists()
    job = submit()
    assert num_reused(job) == 190
    assert verify_job(job.job_dir).sound


def test_what_a_killed_producer_left_is_cleared_away(copied: Path, home: Path, tmp_path: Path) -> None:
    incoming = tmp_path / "a.npy.holdfast" / "incoming"
    (incoming / "results").mkdir(parents=True)
    (incoming / "results" / "00000-0.parquet").write_bytes(b"half of it")
    job = embedded(tmp_path / "a.npy", [home / "grown.fasta"], reuse=copied)
    assert verify_job(job.job_dir).sound
    assert not incoming.exists()
