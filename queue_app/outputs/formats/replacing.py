"""How an output comes into its place: whole, durably, or not at all; and the ids beside it."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from queue_app.host.durable_files import removed_on_failure, rename_durably
from queue_app.job.output_names import one_line, target_of

Digests = Mapping[Path, str]
"""The files that an output consists of, and the xxh3-128 (hex) of each: what was written, not what was read
back."""


@contextlib.contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A temporary name beside `output`, renamed to it at the end, removed when writing fails.

    A symbolic link stays one: the file that it leads to is replaced.
    """
    output = target_of(output)
    temporary = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    with removed_on_failure(temporary):
        yield temporary
        if temporary.is_dir() and output.exists():
            # A directory cannot be renamed over another that is not empty.
            old = output.with_name(f".{output.name}.{os.getpid()}.old")
            output.rename(old)
            rename_durably(temporary, output)
            shutil.rmtree(old)
        else:
            rename_durably(temporary, output)


def id_lines(batch: pa.RecordBatch) -> bytes:
    """One id a line, always: a line break inside an id becomes a blank."""
    return "".join(f"{one_line(each)}\n" for each in batch.column("id").to_pylist()).encode()
