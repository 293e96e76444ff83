"""Holds int8 against float32 on the job's own records, before the first shard is begun.

How much a model loses in int8 depends on its weights and on what it reads: a few activations that are far
larger than all others take the steps from the rest. So each worker computes a sample of the job's records in
both. The first one leaves what it found in the job directory, for the run card; where the least cosine is
below the job's bound none begins a shard. A worker that is below it where another was not computes wrongly.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from gpu_tasks.errors import NotCertified, NumericsDeviate
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.inference.rows import Vectors, split_rows
from gpu_tasks.inference.runner import AsyncInferenceRunner
from queue_app.host.durable_files import create_durably
from queue_app.job.directory import JobDir
from queue_app.job.shard_files import num_characters_of, sequences_of
from queue_app.job.spec import Job
from queue_app.outputs.run_card.certificate import LEAST_COSINE, Certificate, read_certificate

log = logging.getLogger(__name__)

RECORDS_MOST = 64
RECORDS_LEAST = 8
CHARACTERS_MOST = 16_384
"""Of the sample, where that leaves it RECORDS_LEAST: some seconds for a model of 150 million parameters."""

_certified: set[str] = set()
"""The job that this process was seen to compute well enough, by its id."""


def certify(
    job: Job, directory: JobDir, model: EmbeddingModel, load_float32: Callable[[], EmbeddingModel]
) -> None:
    """Once per process and job; nothing where it is not in int8. `load_float32` loads the model in float32.

    Raises:
        NotCertified: the least cosine is below the job's bound.
        NumericsDeviate: that is so here alone.
        Damage: what lies there is no certificate.
    """
    if job.options.dtype != "int8" or job.model.family == "mock" or job.job_id in _certified:
        return
    found = _measure(job, directory, model, load_float32())
    asked = job.run.least_cosine
    bound = LEAST_COSINE if asked is None else asked
    if not found.least_cosine >= bound:
        _refuse(found, bound, directory)
    if create_durably(directory.certificate, found.encode()):
        log.info("int8 certified job=%s: least cosine %.6f", job.job_id, found.least_cosine)
    read_certificate(directory)
    _certified.clear()
    _certified.add(job.job_id)


def _refuse(found: Certificate, bound: float, directory: JobDir) -> None:
    told = (
        f"int8: the least cosine with float32 is {found.least_cosine:.4f} (mean {found.mean_cosine:.4f}) "
        f"over {found.num_records} of the job's records, and --least-cosine is {bound}"
    )
    if directory.certificate.exists():
        raise NumericsDeviate(f"{told}; another worker had more: is this device broken?")
    raise NotCertified(
        f"{told}; nothing was computed: embed again with --overwrite and --dtype float32, or with a smaller "
        "--least-cosine"
    )


def _measure(job: Job, directory: JobDir, model: EmbeddingModel, float32: EmbeddingModel) -> Certificate:
    sequences = draw_sample(job, directory)
    cosines = compare(_embed(job, model, sequences), _embed(job, float32, sequences))
    return Certificate(
        job_id=job.job_id,
        num_records=len(cosines),
        num_characters=sum(map(len, sequences)),
        least_cosine=round(float(cosines.min(initial=1.0)), 6),
        mean_cosine=round(float(cosines.mean()) if len(cosines) else 1.0, 6),
    )


def draw_sample(job: Job, directory: JobDir) -> list[str]:
    """Records to be computed at even steps of their order by length, the first and the last of it among them.

    The same for everybody who draws. Fewer than RECORDS_MOST where they are long.
    """
    shards = [shard.index for shard in job.shards if not shard.reused]
    lengths = [num_characters_of(directory.shard(index)) for index in shards]
    of_all = np.concatenate(lengths)
    rows = np.concatenate([np.arange(len(each)) for each in lengths])
    places = np.column_stack([np.repeat(shards, [*map(len, lengths)]), rows])
    order = np.argsort(of_all, kind="stable")
    order = order[of_all[order] > 0]  # what cannot be embedded has none
    if not len(order):
        return []
    cut = np.minimum(of_all, job.options.max_length * _characters_of_a_token(job))
    number = RECORDS_MOST
    while number > RECORDS_LEAST and cut[_evenly(order, number)].sum() > CHARACTERS_MOST:
        number //= 2
    chosen = places[_evenly(order, number)]
    return [
        sequence[: int(cut.max())]
        for index in np.unique(chosen[:, 0])
        for sequence in sequences_of(directory.shard(int(index)), chosen[chosen[:, 0] == index, 1])
    ]


def _characters_of_a_token(job: Job) -> int:
    """At most, as good as always; a k-mer or a word has some, a residue is one."""
    return 1 if job.model.tokens.kind == "letters" else 8


def _evenly(order: npt.NDArray[np.int64], number: int) -> npt.NDArray[np.int64]:
    return order[np.unique(np.linspace(0, len(order) - 1, number).round().astype(np.int64))]


def _embed(job: Job, model: EmbeddingModel, sequences: Sequence[str]) -> list[Vectors | None]:
    """All numbers of each record in a row; None where one is not finite. Of a long one the begin is taken."""
    plan = plan_batches(
        model.tokenize(sequences),
        range(len(sequences)),
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=job.options.toks_per_batch,
        max_length=job.options.max_length,
        long="truncate",
        window_overlap=0,
    )
    found: list[Vectors | None] = [None] * len(sequences)
    for result in AsyncInferenceRunner(model).run(plan):
        rows = split_rows(result.embeddings, result.offsets)
        for ordinal, row, finite in zip(result.ordinals.tolist(), rows, result.finite.tolist(), strict=True):
            found[ordinal] = row.reshape(-1).astype(np.float64) if finite else None
    return found


def compare(ours: Sequence[Vectors | None], float32: Sequence[Vectors | None]) -> npt.NDArray[np.float64]:
    """The cosine of each record's two vectors. Not finite in float32 says nothing, in int8 alone -1."""
    pairs = [(mine, other) for mine, other in zip(ours, float32, strict=True) if other is not None]
    return np.array([-1.0 if mine is None else _cosine(mine, other) for mine, other in pairs])


def _cosine(left: Vectors, right: Vectors) -> float:
    size = float(np.linalg.norm(left) * np.linalg.norm(right))
    if not size:
        return 1.0 if np.array_equal(left, right) else -1.0
    return float(left @ right) / size
