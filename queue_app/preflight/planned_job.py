"""A job as it would be, made of a survey alone: nothing of it is written, and no worker ever sees it."""

from collections.abc import Iterator
from itertools import pairwise

from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.shard_writer import cut, default_num_shards, shard_cost_most
from queue_app.job.directory import JOB_SCHEMA, PLANNER_VERSION
from queue_app.job.readouts import is_ragged, vector_bytes
from queue_app.job.spec import RECORD_COST, EmbedOptions, Job, Shard, TwinsFile
from queue_app.model.spec import ModelSpec
from queue_app.preflight.sizes import Sizes, sizes_of
from queue_app.preflight.survey import Survey


def draft(request: EmbedRequest, spec: ModelSpec, options: EmbedOptions, threads: int, found: Survey) -> Job:
    """The job as it would be, with an id and digests that stand for nothing."""
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
        shards=tuple(_shards(request, spec, options, found)),
        twins=TwinsFile("", found.num_twins, found.num_firsts) if found.num_twins else None,
        notes=found.notes,
    )


def _shards(request: EmbedRequest, spec: ModelSpec, options: EmbedOptions, found: Survey) -> Iterator[Shard]:
    """Those that are computed, then one of all vectors that are reused. The first answers for all twins."""
    token_bytes = vector_bytes(spec, options) if is_ragged(options) else 0
    cost_most = shard_cost_most(options.device_class, spec.num_parameters, token_bytes)
    twins, bounds = found.num_twins, [0]
    if len(found.costs):
        bounds = cut(found.costs, request.num_shards or default_num_shards(found.costs, cost_most))
    for index, (first, last) in enumerate(pairwise(bounds)):
        cost = int(found.costs[first:last].sum())
        yield Shard("plan", index, last - first + twins, cost, first, "", num_twins=twins)
        twins = 0
    if num_reused := len(found.reused_costs):
        cost = int(found.reused_costs.sum())
        yield Shard("plan", len(bounds) - 1, num_reused + twins, cost, 0, "", num_twins=twins, reused=True)


def draft_sizes(job: Job, found: Survey) -> Sizes:
    """How large its files would be."""
    return sizes_of(
        num_rows=len(found.costs) + len(found.reused_costs),
        num_good=len(found.lengths),
        num_shards=len(job.shards),
        num_sequence_bytes=int((found.costs - RECORD_COST).sum()),
        num_id_bytes=found.num_id_bytes,
        num_vectors=int(found.lengths.sum()) if is_ragged(job.options) else len(found.lengths),
        vector_bytes=vector_bytes(job.model, job.options),
        own_share=found.own_share,
        h5_layout=job.run.h5_layout,
    )
