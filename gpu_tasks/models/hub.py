"""The way to transformers: imported when a model wants it, never before.

It is given what was read and hashed, laid out in a folder of our own: whatever else lies in a model
directory, such as an adapter or code, it never sees. Nothing is fetched, and nothing of it is run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from gpu_tasks.errors import ModelLoadError, first_line
from gpu_tasks.models.files import ModelFiles
from queue_app.model.spec import ModelSpec

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""For every from_pretrained."""
_NOT_OF_A_TOKENIZER = (".safetensors", ".safetensors.index.json")


def import_transformers() -> Any:
    transformers = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers


def open_tokenizer(spec: ModelSpec, files: ModelFiles) -> Any:
    """Raises ModelLoadError when transformers has no tokenizer for the files."""
    transformers = import_transformers()
    names = [name for name in _beside(spec) if not name.endswith(_NOT_OF_A_TOKENIZER)]
    with laid_out(files, names) as folder:
        try:
            return transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)
        except Exception as error:  # of any class
            raise ModelLoadError(
                f"{spec.path}: transformers has no tokenizer for it: {first_line(error)}"
            ) from None


def open_config(spec: ModelSpec, files: ModelFiles) -> Any:
    """Raises ModelLoadError when transformers does not read the config."""
    transformers = import_transformers()
    with laid_out(files, [str(PurePosixPath(spec.encoder.folder, "config.json"))]) as folder:
        try:
            return transformers.AutoConfig.from_pretrained(folder, **LOCAL)
        except Exception as error:  # of any class
            raise ModelLoadError(
                f"{spec.path}: transformers does not read its config.json: {first_line(error)}"
            ) from None


@contextmanager
def laid_out(files: ModelFiles, names: list[str]) -> Iterator[Path]:
    """These files, as they were read and hashed, side by side in a folder that only we can enter."""
    with TemporaryDirectory(prefix="holdfast-model-") as folder:
        for name in names:
            (Path(folder) / PurePosixPath(name).name).write_bytes(files.read(name))
        yield Path(folder)


def _beside(spec: ModelSpec) -> list[str]:
    """The files in the folder of the transformer, without those of an adapter."""
    folder = PurePosixPath(spec.encoder.folder)
    adapter = PurePosixPath(spec.adapter.file).parent if spec.adapter else None
    return [
        file.name
        for file in spec.files
        if PurePosixPath(file.name).parent == folder
        and not (adapter == folder and PurePosixPath(file.name).name.startswith("adapter_"))
    ]
