"""Where the vectors of sequences in memory go when nobody names an output: into the user's cache.

The directory is named by all that the vectors depend on, so that the same call finds its job again, and no
other call meets it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import xxhash

from queue_app.choices import DeviceClass
from queue_app.errors import UsageError
from queue_app.host.durable_files import file_digest
from queue_app.host.own_files import make_own_directory
from queue_app.ingest.request import DECLARED, EmbedRequest
from queue_app.job.directory import JOB_SCHEMA, PLANNER_VERSION
from queue_app.job.readouts import EVERY_TOKEN
from queue_app.job.spec import RunOptions
from queue_app.model.spec import FoundModel
from queue_app.settings import runtime_config

_OF_NO_VECTOR = {"inputs", "model", "output", "job_dir", "overwrite"} | RunOptions.__dataclass_fields__.keys()


def unnamed_output(options: Mapping[str, Any]) -> Path:
    """In the cache; not yet that of a job. An array, where it can hold what is asked for.

    Raises:
        UsageError: the user has no home.
    """
    cache = runtime_config().cache
    if cache is None:
        raise UsageError("output: name one, as in output='out.npy': there is no home to keep a cache in")
    is_array = options.get("pool") != EVERY_TOKEN and options.get("h5_layout", "flat") == "flat"
    return cache / "jobs" / ("embeddings.npy" if is_array else "embeddings.h5")


def make_cache(output: Path) -> None:
    """The directory in which `named_by_content` makes its own. Raises OSError."""
    make_own_directory(output.parent)


def named_by_content(request: EmbedRequest, model: FoundModel, device_class: DeviceClass) -> EmbedRequest:
    """A settled request with its unnamed output in a directory of its own. Raises OSError."""
    state = xxhash.xxh3_128()
    for part in _parts(request, model, device_class):
        state.update(f"{part}\n".encode())
    home = make_own_directory(request.output.parent / state.hexdigest())
    return replace(request, output=home / request.output.name)


def _parts(request: EmbedRequest, model: FoundModel, device_class: DeviceClass) -> Iterator[object]:
    yield from (file_digest(path) for path in request.inputs)
    yield from model.spec.identity()
    yield from (device_class, JOB_SCHEMA, PLANNER_VERSION)
    yield from ((name, getattr(request, name)) for name in DECLARED if name not in _OF_NO_VECTOR)
