"""A job as it would be, and how large its files: made of a survey, never written, seen by no worker."""

from dataclasses import dataclass
from functools import partial

from queue_app.choices import H5Layout
from queue_app.ingest.cut_shards import cut_rows, shard_cost_most, shard_records_most
from queue_app.ingest.request import EmbedRequest
from queue_app.job.directory import JOB_SCHEMA, PLANNER_VERSION
from queue_app.job.output_names import OF_ANY_PRECISION, Format
from queue_app.job.readouts import num_vectors_of, token_bytes, vector_bytes, written_bytes
from queue_app.job.shard_table import ShardTable
from queue_app.job.spec import RECORD_COST, EmbedOptions, Job, TwinsFile
from queue_app.model.spec import ModelSpec
from queue_app.preflight.survey import Survey

OUTPUT_BYTES = 4096
SHARD_BYTES = 1024
"""What a file takes by itself, and each shard has two: headers, names, provenance."""
ROW_BYTES: dict[Format, int] = {
    "npy": 1, "npz": 15, "safetensors": 1, "h5ad": 65, "parquet": 8, "arrow": 4, "lance": 8, "directory": 15,
}  # fmt: skip
"""What a record takes beside its vector and the letters of its id."""
H5_ROW_BYTES: dict[H5Layout, int] = {"flat": 41, "per-sequence": 350, "per-id": 355, "per-hash": 415}
"""What it takes in each layout of an .h5: a dataset of one's own has a header, a name and an attribute."""
KEPT_SHARES: dict[Format, float] = {"parquet": 0.25, "arrow": 1, "directory": 0.25}
"""What stays with the records is packed in Parquet: to about so much of its text."""
SHARD_ROW_BYTES = 28
"""What it takes in a shard's file, beside id and sequence."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The files of a job in bytes, to some percent. `outputs` is what the output would be in each format;
    `shards` and `results` stay in the job directory until `holdfast clean`."""

    vectors: int
    outputs: dict[Format, int]
    shards: int
    results: int


def planned_job(
    request: EmbedRequest, spec: ModelSpec, options: EmbedOptions, threads: int, found: Survey
) -> Job:
    """The job as it would be, with an id and digests that stand for nothing."""
    cost_most = shard_cost_most(options.device_class, spec.num_parameters, token_bytes(spec, options))
    cut = partial(cut_rows, cost_most=cost_most, records_most=shard_records_most(options.device_class))
    computed = [*cut(found.computed, num_shards=request.num_shards)]
    reused = [*cut(found.reused, num_shards=None, reused=True)]
    return Job(
        schema_version=JOB_SCHEMA,
        planner_version=PLANNER_VERSION,
        job_id="plan",
        digest="",
        output=str(request.output.absolute()),
        inputs=found.inputs,
        model=spec,
        options=options,
        threads=threads,
        run=request.run,
        counts=found.counts,
        shards=ShardTable.of(
            "plan",
            (
                rows.as_shard("plan", index, "", reused=index >= len(computed))
                for index, rows in enumerate([*computed, *reused])
            ),
        ),
        twins=TwinsFile("", found.num_duplicates, found.num_firsts) if found.num_duplicates else None,
        notes=found.notes,
    )


def planned_sizes(job: Job, found: Survey) -> Sizes:
    """Every good record has a row in the output, and every row in a shard's file; results have no duplicates.

    Datasets that records share are counted once for each.
    """
    num_good, num_rows = len(found.lengths), len(found.computed) + len(found.reused)
    num_vectors = num_vectors_of(found.lengths, job.options)
    vectors = num_vectors * vector_bytes(job.model, job.options)
    row_bytes: dict[Format, int] = {"h5": H5_ROW_BYTES[job.run.h5_layout], **ROW_BYTES}
    coded = num_vectors * written_bytes(job.model, job.options, job.run.precision)
    outputs = {
        name: (coded if name in OF_ANY_PRECISION else vectors)
        + found.num_id_bytes
        + num_good * row
        + OUTPUT_BYTES
        for name, row in row_bytes.items()
    }
    results = round(outputs["directory"] * found.own_share)
    for name, share in KEPT_SHARES.items():
        outputs[name] += round(found.num_kept_bytes * share)
    own_bytes = len(job.shards) * SHARD_BYTES
    num_sequence_bytes = int((found.computed.costs - RECORD_COST).sum())
    shards = num_sequence_bytes + found.num_id_bytes + num_rows * SHARD_ROW_BYTES + own_bytes
    return Sizes(vectors, outputs, shards, results + own_bytes)
