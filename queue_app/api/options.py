"""What a call of the Python API may ask for: the options of the command, by name."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict, get_args

from pydantic import ConfigDict, Field, ValidationError, create_model

from queue_app.api.inputs import Sequences
from queue_app.choices import (
    Alphabet,
    Dtype,
    H5Layout,
    InputFormat,
    KernelChoice,
    LongRule,
    Precision,
    RuleName,
    StoreDtype,
)
from queue_app.errors import UsageError
from queue_app.ingest.request import DECLARED, EmbedRequest
from queue_app.option_words import understood


class Options(TypedDict, total=False):
    """What else may be asked for, under the names and with the defaults of `holdfast embed --help`."""

    job_dir: str | os.PathLike[str] | None
    pool: str | None
    layers: Sequence[int]
    prompt: str | None
    prompt_name: str | None
    truncate_dim: int | None
    normalize: bool | None
    rules: RuleName
    revision: str | None
    dtype: Dtype | Literal["auto"]
    store_dtype: StoreDtype
    alphabet: Alphabet | Literal["auto"]
    long: LongRule
    max_length: int | None
    toks_per_batch: int | None
    num_shards: int | None
    exact: bool | None
    dedup: bool
    kernels: KernelChoice
    reuse: str | os.PathLike[str] | None
    input_format: InputFormat | None
    id_column: str | None
    sequence_column: str | None
    delimiter: str | None
    id: str | None
    keep: str | tuple[str, ...] | None
    limit: str | None
    overwrite: bool
    overwrite_changed: bool
    commit_seconds: float
    commit_sequences: int
    keep_checkpoints: bool
    h5_layout: H5Layout
    precision: Precision
    allow_same_vectors: bool
    one_kind: bool
    priority: int
    max_workers: int | None
    least_cosine: float | None


class RunArguments(Options, total=False):
    """What `start` and `embed_async` take as `embed` does."""

    model: Required[str | os.PathLike[str]]
    output: str | os.PathLike[str] | None
    sequences: Sequences | None
    device: str | int
    workers: int | None
    broker_url: str | None
    progress: bool | None


def _checked(name: str) -> Any:
    """The type of an option, as pydantic checks it."""
    kind, option = get_args(DECLARED[name].type)
    return kind if option.least is None else Annotated[kind, Field(ge=option.least)]


_CHECKED: Any = {name: (_checked(name), None) for name in Options.__annotations__}
_Given = create_model("_Given", __config__=ConfigDict(extra="forbid"), **_CHECKED)


def request_of(
    model: str | os.PathLike[str], output: str | os.PathLike[str], options: Mapping[str, Any]
) -> EmbedRequest:
    """What `embed` or `submit` was called with, but for its inputs.

    Raises:
        UsageError: an option is unknown or cannot be; names it, and what to use instead. Or a model or an
            output is missing.
    """
    if not os.fspath(model) or not os.fspath(output):
        raise UsageError("name a model and an output, as in model='mock:8', output='out.h5'")
    try:
        given = _Given.model_validate(understood(options, Options.__annotations__))
    except ValidationError as error:
        wrong = error.errors()[0]
        name = wrong["loc"][0]
        if wrong["type"] == "extra_forbidden":
            raise UsageError(f"no option {name!r}; there are: {', '.join(Options.__annotations__)}") from None
        raise UsageError(f"{name}={wrong['input']!r}: {wrong['msg']}") from None
    asked = {name: getattr(given, name) for name in given.model_fields_set}
    return EmbedRequest(inputs=(), model=os.fspath(model), output=Path(output), **asked)
