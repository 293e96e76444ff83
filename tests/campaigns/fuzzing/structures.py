"""One change at random of what a model directory is made of: heads, numbers, nesting, kinds of files.

Where changes.py makes directories that mean something else, these are meant to break whoever reads them.
"""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.campaigns.fuzzing.changes import Change

NUMBERS: tuple[Any, ...] = (
    0, -1, 1 << 31, 1 << 40, 1 << 63, 10**30, -(10**12), 1e308, float("nan"), float("inf"), True, "7", [7],
    {},
)  # fmt: skip
DEPTHS = (60, 900, 5_000, 100_000)
SHAPES: tuple[Any, ...] = ([], [0], [-1], [-2, -3], [1 << 40], [10**30], ["4"], [True], "4", None, [1] * 500)
DTYPES = ("F64", "F16", "I8", "F8_E4M3", "F4", "f32", "", None, 7)


def break_directory(directory: Path, rng: random.Random) -> Change:
    """Change one thing. What another process would have to end, as a pipe is, is left behind as it is."""
    kind: Callable[[Path, random.Random], str] = rng.choice(
        (_number, _nesting, _head_entry, _head_bytes, _no_file, _link, _name)
    )
    return Change(f"{kind.__name__.lstrip('_')}: {kind(directory, rng)}")


def _json_file(directory: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(directory.rglob("*.json")))


def _any_file(directory: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path for path in directory.rglob("*") if path.is_file()))


def _number(directory: Path, rng: random.Random) -> str:
    """Of a configuration, where most of what is allocated is said."""
    path = rng.choice(sorted(directory.rglob("*config.json")))
    fields = json.loads(path.read_bytes())
    keys = sorted(key for key, value in fields.items() if type(value) in (int, float))
    key = rng.choice(keys) if keys else "hidden_size"
    fields[key] = rng.choice(NUMBERS)
    path.write_text(json.dumps(fields))
    return f"{path.name}: {key} = {fields[key]!r:.40}"


def _nesting(directory: Path, rng: random.Random) -> str:
    path, depth = _json_file(directory, rng), rng.choice(DEPTHS)
    opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
    nested = opening * depth + "1" + closing * depth
    whole = path.read_text()
    if whole.lstrip().startswith("{") and rng.random() < 0.7:
        nested = whole.rstrip()[:-1] + f', "extra": {nested}}}'
    path.write_text(nested)
    return f"{path.name}: {depth} deep"


def _head_entry(directory: Path, rng: random.Random) -> str:
    path = rng.choice(sorted(directory.rglob("*.safetensors")))
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    name = rng.choice(sorted(head))
    entry = head[name] if name != "__metadata__" else {}
    what = rng.choice(("shape", "dtype", "data_offsets", "renamed", "deleted", "other"))
    if what == "shape":
        entry["shape"] = rng.choice(SHAPES)
    elif what == "dtype":
        entry["dtype"] = rng.choice(DTYPES)
    elif what == "data_offsets":
        begin, end = entry.get("data_offsets", [0, 0])
        shift = rng.choice((-4, 4, 1 << 40, -(1 << 40)))
        entry["data_offsets"] = rng.choice(
            ([begin + shift, end + shift], [begin, end + shift], [end, begin], [0])
        )
    elif what == "other":
        head[name] = rng.choice(NUMBERS)
    else:
        value = head.pop(name)
        if what == "renamed":
            head[rng.choice(("x\0y", "", "x" * 100_000, "../x", name + ".x"))] = value
    written = json.dumps(head).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + data[8 + length :])
    return f"{path.name}: {name}: {what}"


def _head_bytes(directory: Path, rng: random.Random) -> str:
    path = rng.choice(sorted(directory.rglob("*.safetensors")))
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    what = rng.choice(("length", "cut off", "a byte", "endless name", "twice"))
    if what == "length":
        data[:8] = rng.choice((0, 1, length - 1, length + 1, 1 << 30, 1 << 63)).to_bytes(8, "little")
    elif what == "cut off":
        del data[rng.randrange(8 + length) :]
    elif what == "a byte":
        data[8 + rng.randrange(length)] = rng.randrange(256)
    else:
        begin = b'{"' + b"a" * 1_000_000 + b'":' if what == "endless name" else b'{"a":{},"a":{},'
        data[8:9] = begin
        data[:8] = (length + len(begin) - 1).to_bytes(8, "little")
    path.write_bytes(data)
    return f"{path.name}: {what}"


def _no_file(directory: Path, rng: random.Random) -> str:
    path = _any_file(directory, rng)
    what = rng.choice(("a pipe", "a folder", "/dev/zero", "/dev/null", "itself", "nowhere"))
    path.unlink()
    if what == "a pipe":
        os.mkfifo(path)
    elif what == "a folder":
        path.mkdir()
    else:
        path.symlink_to({"itself": path.name, "nowhere": "nowhere"}.get(what, what))
    return f"{path.name}: {what}"


def _link(directory: Path, rng: random.Random) -> str:
    """To where the file lies then: in the directory it is the same, outside it is not believed."""
    path = _any_file(directory, rng)
    outside = rng.random() < 0.5
    target = (
        directory.parent / f"{directory.name}.outside" if outside else path.with_name(path.name + ".there")
    )
    path.rename(target)
    path.symlink_to(target)
    return f"{path.name}: a link {'out' if outside else 'within'}"


def _name(directory: Path, rng: random.Random) -> str:
    """In what names other files or parts."""
    text = rng.choice(("\0", "a\0b", "../..", "/etc/passwd", "x" * 5_000, "\ud800", "\x1b[2J", ".", ""))
    names = ("modules.json", "model.safetensors.index.json", "tokenizer_config.json", "config.json")
    path = rng.choice([found for name in names if (found := directory / name).is_file()] or [directory / "x"])
    fields = json.loads(path.read_bytes()) if path.is_file() else {}
    if isinstance(fields, list):
        rng.choice(fields)[rng.choice(("path", "type", "name"))] = text
    elif "weight_map" in fields:
        fields["weight_map"][rng.choice(sorted(fields["weight_map"]))] = text
    else:
        keys = sorted(key for key, value in fields.items() if isinstance(value, str))
        fields[rng.choice([*keys, "tokenizer_file", "vocab_file", "_name_or_path"])] = text
    path.write_text(json.dumps(fields))
    return f"{path.name}: {text!r:.40}"
