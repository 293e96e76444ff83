"""What a call of the Python API may ask for, and what its arguments say taken together."""

import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from queue_app.errors import UsageError
from queue_app.job import Dtype, H5Layout, InputFormat, LongRule, RunOptions, StoreDtype
from queue_app.model_spec import Alphabet
from queue_app.readouts import parse_pool
from queue_app.request import EmbedRequest

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Sequences = Iterable[str] | Mapping[str, str]
Count = Annotated[int, Field(ge=1)]


@with_config(ConfigDict(extra="forbid"))
class Options(TypedDict, total=False):
    """What else may be asked for, under the names and with the defaults of `holdfast embed --help`."""

    job_dir: Path | None
    pool: str | None
    layers: tuple[int, ...]
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
    overwrite: bool
    commit_seconds: Annotated[float, Field(ge=0.01)]
    commit_sequences: Count
    keep_checkpoints: bool
    h5_layout: H5Layout


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
    run_names = {field.name for field in fields(RunOptions)}
    of_run: Any = {name: value for name, value in known.items() if name in run_names}
    others: Any = {name: value for name, value in known.items() if name not in run_names}
    return EmbedRequest(
        inputs=(), model=os.fspath(model), output=Path(output), run=RunOptions(**of_run), **others
    )


@contextmanager
def input_files(inputs: Paths | None, sequences: Sequences | None) -> Iterator[list[Path]]:
    """The files to read. Sequences in memory become one for as long as the job is not yet made.

    A job is known by what its inputs contain, not by their names: the same sequences are the same job.

    Raises:
        UsageError: both were given, or neither, or a single string instead of many.
    """
    if (inputs is None) == (sequences is None):
        raise UsageError("name either inputs, which are files, or sequences, which are strings in memory")
    if isinstance(sequences, str):
        raise UsageError("sequences: a single string; write [string]")
    if sequences is None:
        yield _paths(inputs or ())
        return
    with tempfile.TemporaryDirectory(prefix="holdfast-") as home:
        path = Path(home) / "sequences.jsonl"
        _write_json_lines(path, sequences)
        yield [path]


def _paths(inputs: Paths) -> list[Path]:
    return [Path(inputs)] if isinstance(inputs, str | os.PathLike) else [Path(each) for each in inputs]


def _write_json_lines(path: Path, sequences: Sequences) -> None:
    """One record a line, as the reader of .jsonl files takes them."""
    pairs = sequences.items() if isinstance(sequences, Mapping) else enumerate(sequences)
    with path.open("w", encoding="utf-8") as file:
        for record_id, sequence in pairs:
            if not isinstance(sequence, str):
                raise UsageError(f"sequences: that of {record_id!r} is not a string")
            file.write(json.dumps({"id": str(record_id), "sequence": sequence}) + "\n")
