"""What differs between a job that is there and what is asked for now: each difference has a name."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from queue_app.errors import JobChanged
from queue_app.ingest.model_options import model_differences
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.reuse import named
from queue_app.job.spec import EmbedOptions, InputFile, Job
from queue_app.model.spec import ModelSpec


def refuse_changes(
    job: Job, inputs: Sequence[InputFile], spec: ModelSpec, options: EmbedOptions, request: EmbedRequest
) -> None:
    """Raises JobChanged, naming every difference, when the request is not the job that is there."""
    changes = [*_changed_inputs(job.inputs, inputs), *_changed_model(job.model, spec)]
    changes += _changed_options(job.options, options)
    changes += [*_changed_reuse(job, request), *_changed_shards(job, request)]
    if changes:
        raise JobChanged(
            f"{request.output} belongs to another job ({'; '.join(changes)}); "
            "use --overwrite to forget its work, or another -o"
        )


def _changed_inputs(old: Sequence[InputFile], new: Sequence[InputFile]) -> list[str]:
    if len(old) != len(new):
        return [f"inputs: {len(old)} -> {len(new)} files"]
    return [
        f"input {after.name}: content differs from {before.name} as first read"
        for before, after in zip(old, new, strict=True)
        if before.digest != after.digest
    ]


def _changed_model(old: ModelSpec, new: ModelSpec) -> list[str]:
    if old.digest != new.digest:
        return [f"model: {old.name} -> {new.name} (other files)"]
    return [f"{what}: {before} -> {after}" for what, before, after in model_differences(old, new)]


def _changed_options(old: EmbedOptions, new: EmbedOptions) -> list[str]:
    return [
        f"{field.name}: {_shown(getattr(old, field.name))} -> {_shown(getattr(new, field.name))}"
        for field in fields(EmbedOptions)
        if getattr(old, field.name) != getattr(new, field.name)
    ]


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _changed_reuse(job: Job, request: EmbedRequest) -> list[str]:
    """By name alone: the job that was reused may be gone."""
    before = named(Path(job.reuse.path)) if job.reuse else None
    after = named(request.reuse) if request.reuse else None
    return [] if before == after else [f"reuse: {before} -> {after}"]


def _changed_shards(job: Job, request: EmbedRequest) -> list[str]:
    computed = [shard for shard in job.shards if not shard.reused]
    if request.num_shards is None:
        return []
    asked = min(request.num_shards, sum(shard.num_rows for shard in computed))
    return [] if asked == len(computed) else [f"shards: {len(computed)} -> {asked}"]
