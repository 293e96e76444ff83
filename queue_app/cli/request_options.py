"""What a job is asked for on the command line: the options that `embed`, `plan` and `enqueue` have in common.

As cli.py, this is imported for every `holdfast --help`: everything heavy is imported inside the functions.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from queue_app.cli import options as options
from queue_app.host.limits import require_limits

if TYPE_CHECKING:
    from queue_app.ingest.request import EmbedRequest

Command = Callable[..., None]


def request_of(
    inputs: options.Inputs,
    model: options.Model,
    output: options.Output,
    job_dir: options.JobDir = None,
    keep_checkpoints: options.KeepCheckpoints = False,
    pool: options.Pool = None,
    layer: options.Layer = "-1",
    prompt: options.Prompt = None,
    prompt_name: options.PromptName = None,
    truncate_dim: options.TruncateDim = None,
    normalize: options.Normalize = None,
    rules: options.Rules = "auto",
    revision: options.Revision = None,
    dtype: options.Dtype = "auto",
    store_dtype: options.StoreDtype = "float32",
    toks_per_batch: options.ToksPerBatch = None,
    max_length: options.MaxLength = None,
    long: options.Long = "window",
    shards: options.Shards = None,
    no_dedup: options.NoDedup = False,
    reuse: options.Reuse = None,
    commit_seconds: options.CommitSeconds = 2.0,
    commit_sequences: options.CommitSequences = 10_000,
    h5_layout: options.H5Layout = "flat",
    allow_same_vectors: options.AllowSameVectors = False,
    overwrite: options.Overwrite = False,
    input_format: options.InputFormat = None,
    id_column: options.IdColumn = None,
    sequence_column: options.SequenceColumn = None,
    delimiter: options.Delimiter = None,
    alphabet: options.Alphabet = "auto",
) -> "EmbedRequest":
    """The request that these options make. Raises UsageError for a pool, layer or delimiter that is none."""
    from queue_app.ingest.readers.columns import parse_delimiter
    from queue_app.ingest.request import EmbedRequest
    from queue_app.job.readouts import parse_layers, parse_pool
    from queue_app.job.spec import RunOptions

    return EmbedRequest(
        inputs=inputs,
        model=model,
        output=output,
        job_dir=job_dir,
        pool=None if pool is None else parse_pool(pool),
        layers=parse_layers(layer),
        prompt=prompt,
        prompt_name=prompt_name,
        truncate_dim=truncate_dim,
        normalize=normalize,
        rules=rules,
        revision=revision,
        dtype=dtype,
        store_dtype=store_dtype,
        alphabet=alphabet,
        long=long,
        max_length=max_length,
        toks_per_batch=toks_per_batch,
        num_shards=shards,
        dedup=not no_dedup,
        reuse=reuse,
        input_format=input_format,
        id_column=id_column,
        sequence_column=sequence_column,
        delimiter=None if delimiter is None else parse_delimiter(delimiter),
        run=RunOptions(
            commit_seconds=commit_seconds,
            commit_sequences=commit_sequences,
            keep_checkpoints=keep_checkpoints,
            h5_layout=h5_layout,
            allow_same_vectors=allow_same_vectors,
        ),
        overwrite=overwrite,
    )


SHARED = inspect.signature(request_of).parameters


def takes_request(command: Command) -> Command:
    """Give a command the options of `request_of` before its own, and what they make as its `request`."""
    own = [each for each in inspect.signature(command).parameters.values() if each.name != "request"]

    @wraps(command)
    def called(**given: Any) -> None:
        asked = {name: given.pop(name) for name in SHARED}
        require_limits(asked["model"])
        command(request_of(**asked), **given)

    _set_parameters(called, [*SHARED.values(), *own])
    return called


def output_by_default(annotation: Any, path: Path) -> Callable[[Command], Command]:
    """Let a command that takes a request do without an output."""

    def changed(command: Command) -> Command:
        parameters = inspect.signature(command).parameters
        output = parameters["output"].replace(annotation=annotation, default=path)
        _set_parameters(command, [*{**parameters, "output": output}.values()])
        return command

    return changed


def _set_parameters(command: Any, parameters: list[inspect.Parameter]) -> None:
    """What typer reads, by either way, as the options of a command."""
    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    command.__signature__ = inspect.Signature(keyword)
    command.__annotations__ = {each.name: each.annotation for each in keyword}
