"""What a model needs of transformers: imported when a model wants it, never before.

It is given what was read and hashed, laid out in a folder of our own: whatever else lies in a model
directory, such as an adapter or code, it never sees. Nothing is fetched, and nothing of it is run.
"""

from importlib import import_module
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from gpu_tasks.errors import ModelLoadError, first_line
from gpu_tasks.models.files import ModelFiles
from queue_app.model.spec import ModelSpec

LOCAL = {"local_files_only": True, "trust_remote_code": False}
"""For every from_pretrained: nothing is fetched, and nothing of it is run."""
_NOT_OF_A_TOKENIZER = (".safetensors", ".safetensors.index.json")


def import_transformers() -> Any:
    transformers = import_module("transformers")
    transformers.utils.logging.disable_progress_bar()
    return transformers


def open_tokenizer(spec: ModelSpec, files: ModelFiles) -> Any:
    """Raises ModelLoadError when transformers has no tokenizer for the files."""
    names = [name for name in _beside(spec) if not name.endswith(_NOT_OF_A_TOKENIZER)]
    return _open("AutoTokenizer", files, names, f"{spec.path}: transformers has no tokenizer for it")


def open_config(spec: ModelSpec, files: ModelFiles) -> Any:
    """Raises ModelLoadError when transformers does not read the config."""
    config = str(PurePosixPath(spec.encoder.folder, "config.json"))
    return _open("AutoConfig", files, [config], f"{spec.path}: transformers does not read its config.json")


def _open(kind: str, files: ModelFiles, names: list[str], failed: str) -> Any:
    """What this class makes of the files as they were read and hashed, in a folder of our own."""
    transformers = import_transformers()
    with TemporaryDirectory(prefix="holdfast-model-") as folder:
        for name in names:
            Path(folder, PurePosixPath(name).name).write_bytes(files.read(name))
        try:
            return getattr(transformers, kind).from_pretrained(Path(folder), **LOCAL)
        except Exception as error:  # of any class
            raise ModelLoadError(f"{failed}: {first_line(error)}") from None


def _beside(spec: ModelSpec) -> list[str]:
    """The files in the folder of the transformer, without those of an adapter."""
    folder = PurePosixPath(spec.encoder.folder)
    adapter = PurePosixPath(spec.adapter.file).parent if spec.adapter else None
    return [
        file.name
        for file in spec.files
        if (path := PurePosixPath(file.name)).parent == folder
        and not (adapter == folder and path.name.startswith("adapter_"))
    ]
