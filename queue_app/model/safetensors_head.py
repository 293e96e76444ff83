"""The head of a safetensors file (https://huggingface.co/docs/safetensors), believed where all of it fits.

Eight bytes that say how long the head is, the head as JSON, and the tensors one behind the other. Of a file
that passes, each byte belongs to one tensor, and each tensor has as many bytes as its type and shape say.
"""

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from queue_app.model.strict_json import parse_json
from queue_app.shown import visible

LENGTH_BYTES = 8
HEAD_BYTES_MOST = 100 << 20
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4,
    "U16": 2, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1,
    "F8_E5M2FNUZ": 1, "C64": 8,
}  # fmt: skip
"""Bytes of one number of each type; those of less than a byte are refused, as all quantized ones are."""
DIMENSIONS_MOST = 16
NAME_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class HeadEntry:
    """A tensor: `begin` and `end` count the bytes behind the head."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def head_length(first: bytes) -> int:
    """What the first eight bytes say. Raises ValueError for more than any head has, or for fewer bytes."""
    if len(first) < LENGTH_BYTES:
        raise ValueError("shorter than its length")
    (length,) = struct.unpack("<Q", first)
    if length > HEAD_BYTES_MOST:
        raise ValueError("its header is too long")
    return int(length)


def parse_head(head: bytes, num_bytes: int) -> dict[str, HeadEntry]:
    """The tensors by name, in the order in which they lie. `num_bytes` follow the head.

    Raises ValueError for whatever does not fit together.
    """
    fields = parse_json(head, _once)
    if not isinstance(fields, dict):
        raise ValueError("its header is no JSON object")
    told = fields.pop("__metadata__", {})
    if not isinstance(told, dict) or not all(isinstance(each, str) for each in told.values()):
        raise ValueError("its __metadata__ are no texts by name")
    entries = sorted(((name, _entry(name, each)) for name, each in fields.items()), key=_place)
    end = 0
    for name, entry in entries:
        if entry.begin != end:
            raise ValueError(
                f"{_shown(name)} begins at byte {entry.begin:,}, and what is before it ends at {end:,}"
            )
        end = entry.end
    if end != num_bytes:
        raise ValueError("cut off, or something hangs on to it")
    return dict(entries)


def _shown(name: str) -> str:
    return f"{visible(name, NAME_CHARACTERS)!r}"


def _place(item: tuple[str, HeadEntry]) -> tuple[int, int]:
    return item[1].begin, item[1].end


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Of two tensors of one name each reader would choose as it likes."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{_shown(name)} stands twice in its header")
        found[name] = value
    return found


def _entry(name: str, fields: Any) -> HeadEntry:
    if not isinstance(fields, Mapping) or not {"dtype", "shape", "data_offsets"} <= fields.keys():
        raise ValueError(f"{_shown(name)} has no dtype, shape or data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if (
        not _are_counts(shape)
        or len(shape) > DIMENSIONS_MOST
        or not _are_counts(offsets)
        or len(offsets) != 2
    ):
        raise ValueError(f"{_shown(name)} has a shape or data_offsets that are no numbers of something")
    if not isinstance(dtype, str):
        raise ValueError(f"{_shown(name)} has a dtype that is no name")
    begin, end = offsets
    # What is of a type unknown here is refused for that, by name.
    if dtype in SIZES and end - begin != prod(shape) * SIZES[dtype]:
        raise ValueError(
            f"{_shown(name)} has {end - begin:,} bytes, and by its shape {prod(shape) * SIZES[dtype]:,}"
        )
    if end < begin:
        raise ValueError(f"{_shown(name)} ends before it begins")
    return HeadEntry(dtype, tuple(shape), begin, end)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(each) is int and 0 <= each < 1 << 62 for each in values)
