"""`python -P -m gpu_tasks.probes.convert DIRECTORY [--overwrite]`: pickled weights become safetensors.

A pickle can run any code when it is read. Here torch reads it with `weights_only=True`, which builds tensors
and nothing else, and refuses what asks for more. No tensor is renamed, changed or left out.

The answer is JSON: `{"written": [...]}`, or `{"error": …}` for a directory that is refused.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_tasks.errors import ModelLoadError, first_line

if TYPE_CHECKING:
    from torch import Tensor

INDEX = "pytorch_model.bin.index.json"
MODULES = "modules.json"
STEMS = {"pytorch_model.bin": "model.safetensors", "adapter_model.bin": "adapter_model.safetensors"}


@dataclass(frozen=True, slots=True)
class Conversion:
    """Pickles that together become one file."""

    pickles: tuple[Path, ...]
    target: Path


def convert(directory: Path, *, overwrite: bool = False) -> list[Path]:
    """Write safetensors beside every pickle that transformers or sentence-transformers would read.

    Raises:
        ModelLoadError: nothing is to be converted, the files are there already, or a pickle holds more than
            tensors; names it.
    """
    found = [each for folder in _folders(directory) for each in _conversions(folder)]
    if not found:
        raise ModelLoadError(f"{directory}: nothing to convert: no {', '.join([*STEMS, INDEX])} in it")
    wanted = [each for each in found if overwrite or not _is_there(each.target)]
    if not wanted:
        raise ModelLoadError(
            f"{found[0].target}: there already, and read instead of the pickle; --overwrite makes it anew"
        )
    for each in wanted:
        _write(
            each.target, {name: tensor for path in each.pickles for name, tensor in _tensors(path).items()}
        )
    return [each.target for each in wanted]


def _folders(directory: Path) -> list[Path]:
    """The directory, and those of a sentence-transformers model's modules."""
    folders = [directory]
    if (directory / MODULES).exists():
        modules = _read_json(directory / MODULES)
        paths = [each.get("path", "") for each in modules if isinstance(each, dict)]
        folders += [directory / path for path in paths if isinstance(path, str) and path]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def _conversions(folder: Path) -> Iterator[Conversion]:
    """A whole pickle comes before an index, as transformers has it."""
    for pickle, target in STEMS.items():
        if (folder / pickle).is_file():
            yield Conversion((folder / pickle,), folder / target)
        elif pickle == "pytorch_model.bin" and (folder / INDEX).is_file():
            yield Conversion(_of_index(folder), folder / target)


def _of_index(folder: Path) -> tuple[Path, ...]:
    index = _read_json(folder / INDEX)
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not names:
        raise ModelLoadError(f"{folder / INDEX}: weight_map does not say where the weights lie")
    for name in names.values():
        if not isinstance(name, str) or Path(name).name != name or not (folder / name).is_file():
            raise ModelLoadError(f"{folder / INDEX}: weight_map: {name!r} is no file beside it")
    return tuple(folder / name for name in sorted(set(names.values())))


def _is_there(target: Path) -> bool:
    return target.exists() or target.with_name(f"{target.name}.index.json").exists()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelLoadError(f"{path}: not readable as JSON: {error}") from None


def _tensors(path: Path) -> "dict[str, Tensor]":
    """What the pickle holds, none of it sharing memory with another. Raises ModelLoadError."""
    import torch

    state = _load(path)
    if not isinstance(state, dict) or not state:
        raise ModelLoadError(f"{path}: holds {type(state).__name__}, and no weights by name")
    taken: set[int] = set()
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ModelLoadError(
                f"{path}: {name!r} is a {type(tensor).__name__}, and no tensor: save the state dict alone"
            )
        if tensor.layout != torch.strided or tensor.is_quantized:
            raise ModelLoadError(f"{path}: {name} is sparse or quantized, which safetensors cannot hold")
        tensors[name] = _alone(tensor.detach(), taken)
    return tensors


def _alone(tensor: "Tensor", taken: set[int]) -> "Tensor":
    """Tied weights share their memory, and safetensors holds each by itself."""
    storage = tensor.untyped_storage()
    is_whole = tensor.is_contiguous() and storage.nbytes() == tensor.numel() * tensor.element_size()
    if is_whole and storage.data_ptr() not in taken:
        taken.add(storage.data_ptr())
        return tensor
    return tensor.contiguous().clone()


def _load(path: Path) -> Any:
    import pickle  # nosec B403 # for the name of its error; torch builds nothing but tensors

    import torch

    try:
        try:
            # Mapped, a model need not fit in memory twice. Files from before torch 1.6 cannot be.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = asked[1] if asked else first_line(error)
        raise ModelLoadError(
            f"{path}: wants to run code when it is read ({what}); none of it was run"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelLoadError(f"{path}: damaged, or no file of torch: {first_line(error)}") from None


def _write(target: Path, tensors: "dict[str, Tensor]") -> None:
    """Whole or not at all, also after a power loss."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata={"format": "pt"})
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelLoadError(f"{target}: cannot be written: {first_line(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> None:
    try:
        written = convert(Path(arguments[0]), overwrite="--overwrite" in arguments)
    except ModelLoadError as error:
        print(json.dumps({"error": str(error)}))
        return
    print(json.dumps({"written": [str(path) for path in written]}))


if __name__ == "__main__":
    main(sys.argv[1:])
