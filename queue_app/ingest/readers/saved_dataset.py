"""A dataset of Hugging Face's as a directory: what `save_to_disk` wrote, or what was downloaded from the hub.

The first is what its state.json says: what else lies there, such as the cache of a filter, would be other
records, or the same ones again. The second is Parquet in sub-directories, a split after the other.
"""

import json
import re
from pathlib import Path
from typing import Any

from queue_app.errors import InputError
from queue_app.wording import listed

_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.parquet")
"""How the hub names the files of a split."""
BYTES_MOST = 16 << 20
"""Of a file that lists others."""
STATE, INFO, SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"


def saved_dataset(directory: Path) -> list[Path] | None:
    """Its files, in their order; None for any other directory.

    Raises:
        InputError: it is one of several splits, or its state cannot be read.
    """
    if (directory / SPLITS).is_file():
        raise InputError(f"{directory}: a dataset of several splits; {_splits(directory)}")
    if not (directory / STATE).is_file():
        if (directory / INFO).is_file() and any(directory.glob("data-*.arrow")):
            raise InputError(f"{directory}: a dataset whose {STATE} is missing; name its files instead")
        return None
    state = _read(directory / STATE) if (directory / INFO).is_file() else {}
    if "_data_files" not in state:
        return None  # some other program's state.json
    try:
        names = [str(file["filename"]) for file in state["_data_files"]]
    except (TypeError, KeyError):
        names = [""]
    if any(Path(name).name != name or not name or "\0" in name for name in names):
        raise InputError(f"{directory / STATE}: its _data_files are no list of names of files beside it")
    if state.get("_indices_data_files"):
        raise InputError(
            f"{directory}: a dataset with a selection of rows of its own, as an old version of datasets "
            "wrote it: load it and save it again"
        )
    if not names:
        raise InputError(f"{directory}: a dataset without files, as its {STATE} says")
    return [directory / name for name in names]


def downloaded_dataset(directory: Path) -> list[Path] | None:
    """The Parquet files of the one split that lies in its sub-directories; None where there are none.

    Raises:
        InputError: there are several splits or configurations, or a file of one is missing.
    """
    files = sorted(directory.glob("*/*.parquet")) or sorted(directory.glob("*/*/*.parquet"))
    splits: dict[Path, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file), []).append(file)
    if not splits:
        return None
    if len(splits) > 1:
        named = listed([repr(str(pattern)) for pattern in splits])
        raise InputError(f"{directory}: a dataset of several splits or configurations; name one: {named}")
    _refuse_missing(directory, files)
    return files


def _split_of(file: Path) -> Path:
    """As a pattern: `data/train-*.parquet`, `default/train/*.parquet`, or a file by itself."""
    if part := _PART.fullmatch(file.name):
        return file.with_name(f"{part[1]}-*.parquet")
    return file.with_name("*.parquet") if file.stem.isdigit() else file


def _refuse_missing(directory: Path, files: list[Path]) -> None:
    part = _PART.fullmatch(files[0].name)
    if part is not None and len(files) != int(part[3]):
        raise InputError(
            f"{directory}: {len(files)} of {int(part[3])} files of the split {part[1]!r} are there; "
            "download the others, or name those that are meant"
        )


def _splits(directory: Path) -> str:
    names = _read(directory / SPLITS).get("splits")
    if not isinstance(names, list) or not names:
        return "name the directory of one"
    return f"name one: {listed([str(directory / str(name)) for name in names])}"


def _read(path: Path) -> dict[str, Any]:
    try:
        is_small = path.stat().st_size <= BYTES_MOST
        content = json.loads(path.read_bytes()) if is_small else None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise InputError(f"{path}: not a JSON object, as datasets writes it")
    return content
