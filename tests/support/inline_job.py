"""Run a job in this process: no server and no workers, but the same shards, batches, stores and files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpu_tasks.shard.job_model import load_job_model
from gpu_tasks.shard.observers import ProgressReport
from gpu_tasks.shard.plan_shard import plan_shard
from gpu_tasks.shard.shard_run import ShardRun
from queue_app.coordination.states import Lease
from queue_app.ingest.model_options import start_finding_requested
from queue_app.ingest.prepare import Prepared, prepare
from queue_app.ingest.request import EmbedRequest
from queue_app.job.directory import JobDir
from queue_app.job.done_records import finished_shards
from queue_app.job.shard_files import read_shard
from queue_app.job.spec import Job, Progress
from queue_app.outputs.export import ExportReport, export
from queue_app.settings import RuntimeConfig


@dataclass
class InlineJob:
    """A prepared job. `reports` is what the manifest would have been told, `num_tokens` what was computed."""

    job: Job
    job_dir: JobDir
    reports: list[Progress] = field(default_factory=list)
    num_tokens: int = 0
    token: int = 0

    def compute(self, indices: Iterable[int] | None = None, *, num_batches: int | None = None) -> None:
        """The shards that are not done, or some of them; stopped after a number of batches of each."""
        left = {shard.index for shard in self.job.shards} - finished_shards(self.job, self.job_dir).keys()
        for index in sorted(left if indices is None else indices):
            self._run_shard(index, num_batches)

    def export(self, output: Path | None = None) -> ExportReport:
        return export(self.job, self.job_dir, output or Path(self.job.output))

    def _run_shard(self, index: int, num_batches: int | None) -> None:
        self.token += 1
        asked = iter(range(10**9))
        shard = self.job.shards[index]
        model = load_job_model(self.job, self.job_dir, device="cpu", dtype=self.job.options.dtype)
        run = ShardRun(
            job=self.job, job_dir=self.job_dir, lease=Lease(shard, self.token), model=model,
            config=RuntimeConfig(), observer=ProgressReport(self.reports.append),
            should_stop=lambda: num_batches is not None and next(asked) >= num_batches,
        )  # fmt: skip
        records = read_shard(self.job_dir.shard(index), shard)
        self.num_tokens += plan_shard(self.job, model, records).num_tokens
        if run.run() is not None:
            run.discard_store()


def submitted(output: Path, inputs: Sequence[Path], *, model: str = "mock:8", **changed: Any) -> InlineJob:
    """A job that stands in its directory, and of which nothing is computed yet."""
    options = {"toks_per_batch": 400, "num_shards": 3, **changed}
    request = EmbedRequest(inputs=inputs, model=model, output=output, **options)
    prepared = prepare_here(request)
    return InlineJob(prepared.job, prepared.job_dir)


def prepare_here(request: EmbedRequest) -> Prepared:
    """What `embed` does before it computes, but for the server."""
    return prepare(request, start_finding_requested(request)(), device_class="cpu", threads=1)


def embedded(output: Path, inputs: Sequence[Path], **changed: Any) -> InlineJob:
    """A finished job and its output."""
    made = submitted(output, inputs, **changed)
    made.compute()
    made.export()
    return made


def write_numbered(path: Path, numbers: Iterable[int], *, extra: str = "") -> Path:
    """A FASTA of the proteins of these numbers, which may repeat, named r0, r1, … by their places."""
    from tests.support.jobs_and_inputs import protein

    records = [f">r{place}\n{protein(number)}\n" for place, number in enumerate(numbers)]
    path.write_text("".join(records) + extra)
    return path
