"""The files of a model directory: JSON, and what the heads of safetensors say. No torch."""

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from queue_app.model.files import open_regular
from queue_app.model.safetensors_head import LENGTH_BYTES, head_length, parse_head
from queue_app.model.strict_json import may_hold_half_a_character, parse_json

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The types of weights that are numbers by themselves; those of quantized ones need a scale beside them."""
INTEGERS = ("I64", "I32", "BOOL")
"""Buffers such as position_ids."""
JSON_BYTES_MOST = 16 << 20
"""Of a file that says what a model is; the index of a model of a thousand parts has a few."""
READ = (
    "*.json", "*.safetensors", "*.txt", "*.model", "*.model.v*", "*.tiktoken", "*.codes", "spm*", "*.spm",
    "*.bpe*", "*.jinja",
)  # fmt: skip
"""What may be read of a folder, here or by transformers."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What the head of a safetensors file says of a tensor."""

    file: str
    dtype: str
    shape: tuple[int, ...]


def require_plain(folder: Path, directory: Path) -> None:
    """Look at what may be read of a folder of a model directory, before any of it is.

    Links may lead to files of the directory itself and of the hub's cache that it lies in, and those of
    weights anywhere: of other files a part might be shown, or kept with the job.

    Raises:
        ModelLoadError: a file is none, as a pipe is, or a link leads out of the directory.
    """
    home = directory.resolve()
    homes = (home, home.parents[1] / "blobs") if home.parent.name == "snapshots" else (home,)
    for path in sorted(each for pattern in READ for each in folder.glob(pattern)):
        _require_file(path)
        target = path.resolve()
        is_inside = any(target.is_relative_to(each) for each in homes)
        if not is_inside and path.suffix != ".safetensors":
            raise ModelLoadError(
                f"{path}: leads out of the model directory, to {target}; put a copy of that file in its place"
            )


def _require_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ModelLoadError(f"{path}: {error.strerror or error}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise ModelLoadError(f"{path}: not an ordinary file")


def read_json(path: Path) -> Any:
    """Raises ModelLoadError when the file is missing or no JSON."""
    return _parsed(path, _content(path, JSON_BYTES_MOST))


def require_unicode(path: Path) -> None:
    """Look at a JSON file that others parse, such as a vocabulary, which may be long.

    Raises:
        ModelLoadError: a name or a value in it holds half a character; names the key.
    """
    content = _content(path)
    if may_hold_half_a_character(content):
        _parsed(path, content)


def _content(path: Path, bytes_most: int | None = None) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.readall() if bytes_most is None else file.read(bytes_most + 1)
    except FileNotFoundError:
        raise ModelLoadError(f"{path}: missing") from None
    except OSError as error:
        raise ModelLoadError(f"{path}: not readable as JSON: {error}") from None
    if bytes_most is not None and len(content) > bytes_most:
        raise ModelLoadError(f"{path}: not readable as JSON: more than {bytes_most >> 20} MiB")
    return content


def _parsed(path: Path, content: bytes) -> Any:
    try:
        return parse_json(content)
    except ValueError as error:
        raise ModelLoadError(f"{path}: not readable as JSON: {error}") from None


def read_object(path: Path) -> dict[str, Any]:
    """Raises ModelLoadError when the file is missing or no JSON object."""
    fields = read_json(path)
    if not isinstance(fields, dict):
        raise ModelLoadError(f"{path}: not a JSON object")
    return fields


def read_object_if_there(path: Path) -> dict[str, Any]:
    """Empty where there is no such file."""
    return read_object(path) if path.exists() else {}


def weight_files(folder: Path) -> tuple[Path, ...]:
    """The weights, in the order that transformers prefers: one file, else those of the index.

    Raises:
        ModelLoadError: there are none, or the index names others than there are.
    """
    if (folder / WHOLE).exists():
        return (folder / WHOLE,)
    if not (folder / INDEX).exists():
        raise ModelLoadError(_no_weights(folder))
    index = read_object(folder / INDEX).get("weight_map")
    if not isinstance(index, dict) or not index or not all(isinstance(name, str) for name in index.values()):
        raise ModelLoadError(f"{folder / INDEX}: weight_map does not say where the weights lie")
    names = sorted(set(index.values()))
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelLoadError(f"{folder / INDEX}: weight_map: {name!r} is no file beside it")
    files = tuple(folder / name for name in names)
    there = {tensor: file.name for file in files for tensor in read_heads([file])}
    if there != index:
        wrong = min({*there.items()} ^ {*index.items()})[0]
        raise ModelLoadError(f"{folder / INDEX}: weight_map: {wrong} does not lie where it says")
    return files


def read_heads(files: Iterable[Path]) -> dict[str, StoredTensor]:
    """All tensors by name, from the heads of the files alone.

    Raises:
        ModelLoadError: a file is damaged or cut off.
        UnsupportedModel: a tensor is of a type that needs a scale, as those of quantized models.
    """
    return {name: tensor for file in files for name, tensor in _read_head(file).items()}


def count_parameters(tensors: Mapping[str, StoredTensor]) -> int:
    """Numbers in all of them."""
    return sum(prod(tensor.shape) for tensor in tensors.values())


def stored_dtype(tensors: Mapping[str, StoredTensor]) -> str:
    """The type of most numbers."""
    sizes: dict[str, int] = {}
    for tensor in tensors.values():
        sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + prod(tensor.shape)
    return FLOATS.get(max(sizes, key=lambda dtype: sizes[dtype]), "float32")


def _read_head(path: Path) -> dict[str, StoredTensor]:
    try:
        with open_regular(path) as file:
            length = head_length(file.read(LENGTH_BYTES))
            size = os.fstat(file.fileno()).st_size
            head = parse_head(file.read(length), size - LENGTH_BYTES - length)
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{path}: damaged safetensors file ({error}); fetch it again") from None
    tensors = {name: StoredTensor(path.name, entry.dtype, entry.shape) for name, entry in head.items()}
    _refuse_quantized(path, tensors)
    return tensors


def _refuse_quantized(path: Path, tensors: Mapping[str, StoredTensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype not in FLOATS and tensor.dtype not in INTEGERS:
            raise UnsupportedModel(
                f"{path}: {name} is stored as {tensor.dtype}, as in quantized models; save the model in "
                "float32, float16 or bfloat16"
            )


def _no_weights(folder: Path) -> str:
    pickled = [file.name for pattern in PICKLED for file in sorted(folder.glob(pattern))]
    if pickled:
        return (
            f"{folder}: only pickled weights ({pickled[0]}), which can run any code when read; "
            f"holdfast convert {folder} makes safetensors of them without running any"
        )
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    if others:
        return f"{folder}: no {WHOLE} and no {INDEX}, which says whether {others[0]} belongs to the model"
    return f"{folder}: no {WHOLE} in it"
