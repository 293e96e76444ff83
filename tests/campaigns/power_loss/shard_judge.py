"""Does everything that names a result name one that is whole, and does the next attempt end as the first?"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import checkpoint.store
from checkpoint import CheckpointStore, DoneRecord
from queue_app.host.durable_files import file_digest
from queue_app.job.directory import JobDir
from tests.campaigns.power_loss import forks
from tests.campaigns.power_loss.operations import Recording
from tests.campaigns.power_loss.shard import shard_run
from tests.campaigns.power_loss.verdict import Verdict
from tests.campaigns.power_loss.writers import TOKEN


class ShardJudge:
    def __init__(self, recording: Recording, subject: str) -> None:
        self.recording = recording

    def judge(self, home: Path, moment: int) -> Verdict:
        told: dict[str, int | str] = {}
        for text in self.recording.marks(moment):
            told |= json.loads(text)
        try:
            return forks.in_fork(partial(_judge, home, told))
        except forks.Died as died:
            return Verdict(int(told.get("batches_done", 0)), broken=f"going on: {died}")


def _judge(directory: Path, told: dict[str, int | str]) -> Verdict:
    setattr(checkpoint.store, "verify_store", forks.verify_store)  # noqa: B010 - in this fork alone
    acknowledged = 0 if "published" in told else int(told.get("batches_done", 0))
    job_dir = JobDir(directory)
    run = shard_run(directory, TOKEN + 1, report=lambda progress: None, commit_sequences=1_000)
    report = forks.verify_store(run.store_path)
    problems = [*_of_named_results(job_dir, run.store_path, told)]
    lost = tuple(range(report.num_blocks, acknowledged))
    done = run.run()
    if done is None or file_digest(job_dir.results / done.file) != done.digest:
        problems.append("the next attempt published nothing that is whole")
    return Verdict(acknowledged, lost, report.damaged, " and ".join(problems))


def _of_named_results(job_dir: JobDir, store_path: Path, told: dict[str, int | str]) -> Iterator[str]:
    """The done file and the store's done record each stand for a result that is durable and whole."""
    if job_dir.done(0).exists():
        yield from _of_one_result(job_dir, "done file", job_dir.done(0).read_bytes())
    elif "published" in told:
        yield "the done file of a published shard is gone"
    if forks.verify_store(store_path).done_file is not None:
        with CheckpointStore.open_readonly(store_path) as store:
            record = store.done_record()
        assert record is not None
        yield from _of_one_result(job_dir, "done record", record.encode())


def _of_one_result(job_dir: JobDir, source: str, encoded: bytes) -> Iterator[str]:
    try:
        record = DoneRecord.decode(encoded)
    except ValueError:
        yield f"the {source} is not whole"
        return
    path = job_dir.results / record.file
    if not path.exists():
        yield f"the result that the {source} names is missing"
    elif file_digest(path) != record.digest:
        yield f"the result that the {source} names is damaged"
