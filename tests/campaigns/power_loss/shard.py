"""One shard of a real job, for the writer that publishes it and for the judge who looks after a crash."""

from collections.abc import Callable
from pathlib import Path

from gpu_tasks import load_model
from gpu_tasks.shard.observers import ProgressReport
from gpu_tasks.shard.shard_run import ShardRun
from queue_app.coordination.states import Lease
from queue_app.ingest.request import EmbedRequest
from queue_app.job.directory import JobDir
from queue_app.job.spec import Progress
from queue_app.settings import RuntimeConfig
from tests.support.inline_job import prepare_here
from tests.support.jobs_and_inputs import write_fasta

MODEL = "mock:64"


def make_job(home: Path) -> Path:
    """A job of one shard of a dozen batches; answers its directory."""
    request = EmbedRequest(
        inputs=[write_fasta(home / "a.fasta", 60)], model=MODEL, output=home / "a.npy",
        toks_per_batch=600, num_shards=1, commit_seconds=3600,
    )  # fmt: skip
    prepared = prepare_here(request)
    prepared.job_dir.checkpoint(0, prepared.job.job_id, None).mkdir(parents=True)
    return prepared.job_dir.path


def shard_run(
    directory: Path, token: int, *, report: Callable[[Progress], None], commit_sequences: int = 1
) -> ShardRun:
    """An attempt at the shard under a token, with a commit for every batch where nothing else is asked."""
    job_dir = JobDir(directory)
    job = job_dir.load()
    return ShardRun(
        job=job, job_dir=job_dir, lease=Lease(job.shards[0], token), model=load_model(MODEL),
        config=RuntimeConfig(commit_sequences=commit_sequences), should_stop=lambda: False,
        observer=ProgressReport(report),
    )  # fmt: skip
