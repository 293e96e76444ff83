"""`holdfast convert`: safetensors of a model's pickled weights, made by a child process that has torch."""

import os
import shutil
from pathlib import Path

from queue_app.errors import HoldfastError, ModelError, UsageError
from queue_app.host.child_processes.json_child import ChildFailed, JsonChild
from queue_app.host.durable_files import removed_on_failure, room_for
from queue_app.host.processes import PYTHON

MODULE = "gpu_tasks.probes.convert"
LEFT_OUT = ("pytorch_model*.bin", "pytorch_model.bin.index.json", "adapter_model.bin")
"""Of a new directory: the pickles whose tensors it holds."""
OF_THE_HUB = (".git", ".cache")


def convert(directory: Path, new: Path | None = None, *, overwrite: bool = False) -> list[Path]:
    """Write `model.safetensors` beside each pickle, or a whole new directory without pickles.

    Raises:
        ModelError: there is nothing to convert, or a pickle wants to run code.
        UsageError: the new directory holds something already.
        HoldfastError: the disk is full, or another thing that the machine refused.
    """
    if not directory.is_dir():
        raise ModelError(f"{directory}: no directory; fetch the model first, as with: hf download MODEL")
    if new is None:
        return _run(directory, overwrite=overwrite)
    if new.resolve().is_relative_to(directory.resolve()):
        raise UsageError(f"{new}: within the model's directory; leave -o out to write beside its pickles")
    if new.exists() and (not new.is_dir() or any(new.iterdir())):
        raise UsageError(f"{new}: there already, and not empty; choose another -o")
    return _convert_copy(directory, new)


def _convert_copy(directory: Path, new: Path) -> list[Path]:
    """The new directory is there whole or not at all."""
    temporary = new.with_name(f".{new.name}.{os.getpid()}.tmp")
    with room_for(new), removed_on_failure(temporary):
        shutil.copytree(directory, temporary, ignore=shutil.ignore_patterns(*OF_THE_HUB))
        written = _run(temporary, shown=directory)
        for path in [path for pattern in LEFT_OUT for path in temporary.rglob(pattern)]:
            path.unlink()
        temporary.replace(new)  # which may be an empty directory
    return [new / path.relative_to(temporary) for path in written]


def _run(directory: Path, *, overwrite: bool = False, shown: Path | None = None) -> list[Path]:
    """Raises ModelError with the reason; `shown` is the directory that it names."""
    command = [*PYTHON, "-m", MODULE, str(directory), *(["--overwrite"] if overwrite else [])]
    try:
        answer = JsonChild(command).answer()
    except ChildFailed as error:
        said = error.last_line or f"the converter ended with {error.exit_status}"
        raise HoldfastError(f"{shown or directory}: not converted: {said}") from None
    if "error" in answer:
        raise ModelError(answer["error"].replace(str(directory), str(shown or directory)))
    return [Path(path) for path in answer["written"]]
