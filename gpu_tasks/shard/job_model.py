"""The model of a job, loaded as its job.json says."""

from gpu_tasks.inference.model import Dtype, EmbeddingModel
from gpu_tasks.inference.readout import parse_pools
from gpu_tasks.models.loading import load
from queue_app.errors import Damage
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job


def load_job_model(
    job: Job, directory: JobDir, *, device: str, dtype: Dtype, threads: int | None = None
) -> EmbeddingModel:
    """Raises as gpu_tasks.models.load does; Damage where the tokenizer that was kept with the job is gone."""
    return load(
        job.model,
        _tokenizer(job, directory),
        device=device,
        dtype=dtype,
        pools=parse_pools(job.options.pool),
        layers=job.options.layers,
        threads=threads,
    )


def _tokenizer(job: Job, directory: JobDir) -> str | None:
    if job.model.tokens.kind != "fast":
        return None
    try:
        return directory.tokenizer.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise Damage(f"{directory.tokenizer}: not readable ({error}); embed again with --overwrite") from None
