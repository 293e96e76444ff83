"""What differs between a job that is there and what is asked for now: each difference has a name."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

from queue_app.errors import JobChanged
from queue_app.ingest.request import EmbedRequest
from queue_app.job.spec import EmbedOptions, InputFile, Job
from queue_app.model.spec import ModelSpec
from queue_app.model.wording import model_differences


def refuse_changes(
    job: Job, inputs: Sequence[InputFile], spec: ModelSpec, options: EmbedOptions, request: EmbedRequest
) -> None:
    """Raises JobChanged, naming every difference, when the request is not the job that is there."""
    changes = [*_changed_inputs(job.inputs, inputs), *_changed_model(job.model, spec)]
    if request.exact is None:
        options = replace(options, exact=job.options.exact)  # a job that is there has made its choice
    changes += _changed_options(job.options, options)
    changes += [*_changed_reuse(job, request), *_changed_shards(job, request), *_changed_kinds(job, request)]
    if request.exact and job.options.exact and not job.run.must_be_exact:
        changes += ["exact: where it holds -> everywhere"]
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
    return [f"{name}: {_shown(before)} -> {_shown(after)}" for name, before, after in differing(old, new)]


def _shown(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _changed_reuse(job: Job, request: EmbedRequest) -> list[str]:
    """Only names are compared: the job that was reused may be gone."""
    before = named(Path(job.reuse.path)) if job.reuse else None
    after = named(request.reuse) if request.reuse else None
    return [] if before == after else [f"reuse: {before} -> {after}"]


def _changed_shards(job: Job, request: EmbedRequest) -> list[str]:
    if request.num_shards is None:
        return []
    there = len(job.shards.costs_to_compute)
    asked = min(request.num_shards, int(job.shards.num_rows[job.shards.columns["reused"] == 0].sum()))
    return [] if asked == there else [f"shards: {there} -> {asked}"]


def _changed_kinds(job: Job, request: EmbedRequest) -> list[str]:
    """Of what was begun by any kind of device nobody can promise that one alone computed it."""
    return ["one-kind: no -> yes"] if request.one_kind and not job.run.one_kind else []


def differing(old: EmbedOptions, new: EmbedOptions) -> Iterator[tuple[str, object, object]]:
    """The name of each option that is another one, and its two values."""
    for field in fields(EmbedOptions):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before != after:
            yield field.name, before, after


def named(path: Path) -> str:
    """What a job that is reused is called: its output and its job directory are the same to the user."""
    return str(path.resolve()).removesuffix(".holdfast")
