"""What a call of the Python API may ask for: the options of the command, by name."""

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from queue_app.errors import UsageError
from queue_app.ingest.readers.columns import parse_delimiter
from queue_app.ingest.request import EmbedRequest
from queue_app.job.readouts import parse_pool
from queue_app.job.spec import Dtype, H5Layout, InputFormat, LongRule, RunOptions, StoreDtype
from queue_app.model.spec import Alphabet
from queue_app.model.token_rules import RuleName

Count = Annotated[int, Field(ge=1)]


@with_config(ConfigDict(extra="forbid"))
class Options(TypedDict, total=False):
    """What else may be asked for, under the names and with the defaults of `holdfast embed --help`."""

    job_dir: Path | None
    pool: str | None
    layers: tuple[int, ...]
    prompt: str | None
    prompt_name: str | None
    truncate_dim: Count | None
    normalize: bool | None
    rules: RuleName
    revision: str | None
    dtype: Dtype | Literal["auto"]
    store_dtype: StoreDtype
    alphabet: Alphabet | Literal["auto"]
    long: LongRule
    max_length: Count | None
    toks_per_batch: Count | None
    num_shards: Count | None
    dedup: bool
    reuse: Path | None
    input_format: InputFormat | None
    id_column: str | None
    sequence_column: str | None
    delimiter: str | None
    overwrite: bool
    commit_seconds: Annotated[float, Field(ge=0.01)]
    commit_sequences: Count
    keep_checkpoints: bool
    h5_layout: H5Layout
    allow_same_vectors: bool


_OPTIONS = TypeAdapter(Options)


def request_of(
    model: str | os.PathLike[str], output: str | os.PathLike[str], options: Mapping[str, Any]
) -> EmbedRequest:
    """What `embed` or `submit` was called with, but for its inputs.

    Raises:
        UsageError: an option is unknown or cannot be; names it.
    """
    try:
        known = _OPTIONS.validate_python(dict(options))
    except ValidationError as error:
        wrong = error.errors()[0]
        name = wrong["loc"][0]
        if wrong["type"] == "extra_forbidden":
            raise UsageError(f"no option {name!r}; there are: {', '.join(Options.__annotations__)}") from None
        raise UsageError(f"{name}={wrong['input']!r}: {wrong['msg']}") from None
    if (pool := known.get("pool")) is not None:
        known["pool"] = parse_pool(pool)
    if (delimiter := known.get("delimiter")) is not None:
        known["delimiter"] = parse_delimiter(delimiter)
    run_names = {field.name for field in fields(RunOptions)}
    of_run: Any = {name: value for name, value in known.items() if name in run_names}
    others: Any = {name: value for name, value in known.items() if name not in run_names}
    return EmbedRequest(
        inputs=(), model=os.fspath(model), output=Path(output), run=RunOptions(**of_run), **others
    )
