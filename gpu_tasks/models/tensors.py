"""Tensors from safetensors files, each in memory of its own.

The format is https://huggingface.co/docs/safetensors: eight bytes that say how long the header is, the header
as JSON, the tensors one behind the other. They are read as they lie in the file, so that of each there is
one copy and no more.
"""

import json
import struct
from collections.abc import Iterable
from math import prod
from typing import Any

import torch
from torch import Tensor

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.files import ModelFiles, Reader
from queue_app.model.spec import AdapterSpec

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
_HEADER_BYTES_MOST = 100 << 20

Tensors = dict[str, Tensor]


def read_tensors(files: ModelFiles, names: Iterable[str]) -> Tensors:
    """All tensors of these files on the host, in the dtype that they are stored in.

    Raises:
        ModelLoadError: a file is not that of the specification, or no safetensors file.
        UnsupportedModel: a tensor is of a dtype that wants more than a number to be read, as float8 does.
    """
    found: Tensors = {}
    for name in names:
        with files.open(name) as reader:
            found |= _read(reader)
    return found


def merge_adapter(tensors: Tensors, adapter: AdapterSpec, files: ModelFiles) -> None:
    """Add a LoRA's update to the weights (https://arxiv.org/abs/2106.09685), in float32 and in place.

    Raises:
        ModelLoadError: a weight that it changes, or one of its own, is missing or of another shape.
    """
    low_rank = read_tensors(files, [adapter.file])
    stems = dict(adapter.names)
    for name, scale in adapter.scales:
        if name not in tensors:
            raise ModelLoadError(f"{adapter.file}: changes {name}, which the model does not have")
        first, second = (_taken(low_rank, f"{stems[name]}.lora_{part}.weight", adapter) for part in "AB")
        weight = tensors[name].float()
        if weight.shape != (second.shape[0], first.shape[1]) or first.shape[0] != second.shape[1]:
            raise ModelLoadError(f"{adapter.file}: its update of {name} does not have the weight's shape")
        tensors[name] = weight + scale * (second @ first)
    if low_rank:
        raise ModelLoadError(f"{adapter.file}: {next(iter(low_rank))} belongs to no weight of the model")


def _read(reader: Reader) -> Tensors:
    header, found, place = _header(reader), {}, 0
    try:
        entries = sorted(header.items(), key=lambda entry: entry[1]["data_offsets"])
        for name, entry in entries:
            begin, end = entry["data_offsets"]
            reader.skip(begin - place)
            found[name] = _tensor(reader, name, entry, end - max(begin, place))
            place = end
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelLoadError(f"{reader.path}: not a readable safetensors file: {error!r}") from None
    return found


def _header(reader: Reader) -> dict[str, Any]:
    try:
        (length,) = struct.unpack("<Q", reader.read(8))
        if length > min(_HEADER_BYTES_MOST, reader.left):
            raise ValueError("its header is too long")
        header = json.loads(reader.read(length))
        header.pop("__metadata__", None)
    except (ValueError, AttributeError) as error:
        raise ModelLoadError(f"{reader.path}: not a readable safetensors file: {error}") from None
    assert isinstance(header, dict)
    return header


def _tensor(reader: Reader, name: str, entry: dict[str, Any], num_bytes: int) -> Tensor:
    dtype, shape = _DTYPES.get(entry["dtype"]), entry["shape"]
    if dtype is None:
        raise UnsupportedModel(
            f"{reader.path}: {name} is stored as {entry['dtype']}, which is not implemented"
        )
    if num_bytes != prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} has {num_bytes} bytes, and the shape {shape}")
    content = torch.empty(num_bytes, dtype=torch.uint8)
    reader.fill(content.numpy().data)
    return content.view(dtype).view(shape)


def _taken(tensors: Tensors, name: str, adapter: AdapterSpec) -> Tensor:
    if name not in tensors:
        raise ModelLoadError(f"{adapter.file}: lacks {name}")
    return tensors.pop(name).float()
