"""The files of a model directory: which of them count, and what can be read from them without loading it."""

import json
import re
import struct
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import xxhash

from queue_app.errors import ModelError
from queue_app.model_spec import ModelFile

FILES = (
    "config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "vocab.json", "merges.txt", "*.model",
    "*.safetensors", "*.safetensors.index.json", "*_Pooling/config.json", "*_Normalize/config.json",
)  # fmt: skip
"""Everything in a model directory that can change a vector, or in the folder of its transformer."""
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
SPECIAL_TOKENS = 2
"""Around a text, where there is no tokenizer.json that says how many."""
MAX_HEADER_BYTES = 100 << 20
HASHED_AT_ONCE = 4
_CHUNK_BYTES = 4 << 20
_BASES = re.compile("[ACGTUN]+")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model directory. `transformer` is where its transformer lies: `path` itself, or a folder in it.

    `modules` are the folders of a sentence-transformers directory by their kind; empty without modules.json.
    """

    path: Path
    transformer: Path
    modules: Mapping[str, Path]
    config: Mapping[str, Any]

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file beside the weights; empty when there is none. Raises ModelError for a damaged one."""
        path = self.transformer / name
        return read_json(path) if path.exists() else {}

    def num_parameters(self) -> int:
        """Raises ModelError when there are no safetensors, or damaged ones."""
        weights = sorted(self.transformer.glob("*.safetensors"))
        if not weights:
            raise ModelError(_no_weights(self.transformer))
        return sum(_num_parameters(file) for file in weights)

    def digest(self) -> str:
        """xxh3-128 (hex) over names and contents of all files that count, in the order of their names."""
        folders = {self.path, self.transformer}
        files = {file for folder in folders for pattern in FILES for file in folder.glob(pattern)}
        state = xxhash.xxh3_128()
        for file in sorted(files):
            state.update(f"{file.relative_to(self.path)}\n{file.stat().st_size}\n".encode())
            for chunk in _chunks(file):
                state.update(chunk)
        return state.hexdigest()


def check_files(files: Iterable[ModelFile], directory: Path) -> None:
    """Hold the files of a directory against those that a job was submitted with, one thread a file.

    Raises:
        ModelError: one is missing, or is another one; names the first of them.
    """
    with ThreadPoolExecutor(HASHED_AT_ONCE) as pool:  # hashing leaves the interpreter to the others
        for found in pool.map(lambda file: _difference(file, directory / file.name), files):
            if found is not None:
                raise ModelError(f"{found}: the job was submitted with another model")


def _difference(file: ModelFile, path: Path) -> str | None:
    try:
        if path.stat().st_size != file.size_bytes:
            return f"{path}: {path.stat().st_size:,} bytes instead of {file.size_bytes:,}"
        state = xxhash.xxh3_128()
        for chunk in _chunks(path):
            state.update(chunk)
    except OSError as error:
        return f"{path}: {error.strerror or error}"
    return None if state.hexdigest() == file.digest else f"{path}: other contents"


def open_files(path: Path) -> ModelFiles:
    """Raises ModelError when a file is damaged, or there is no config.json."""
    modules = _modules(path)
    transformer = modules.get("Transformer", path)
    config = transformer / "config.json"
    if not config.exists():
        raise ModelError(f"{transformer}: no config.json: not a model directory")
    return ModelFiles(path, transformer, modules, read_json(config))


def read_json(path: Path) -> dict[str, Any]:
    """Raises ModelError when it is no readable JSON object."""
    fields = _parse(path)
    if not isinstance(fields, dict):
        raise ModelError(f"{path}: not a JSON object")
    return fields


def num_special_tokens(tokenizer: Mapping[str, Any]) -> int:
    """How many tokens a tokenizer.json puts around a text."""
    return _num_added(tokenizer.get("post_processor") or {}) if tokenizer else SPECIAL_TOKENS


def bases_of(tokenizer: Mapping[str, Any]) -> Literal["dna", "rna"] | None:
    """What every token of a tokenizer.json, but the special ones, is made of; None: not of bases alone."""
    vocabulary = (tokenizer.get("model") or {}).get("vocab") or {}
    words = [word if isinstance(word, str) else word[0] for word in vocabulary]
    special = {added["content"] for added in tokenizer.get("added_tokens") or () if added.get("special")}
    ordinary = [word for word in words if word not in special]
    if not ordinary or not all(map(_BASES.fullmatch, ordinary)):
        return None
    letters = set().union(*ordinary)
    return "rna" if "U" in letters and "T" not in letters else "dna"


def _modules(path: Path) -> dict[str, Path]:
    listed = path / "modules.json"
    if not listed.exists():
        return {}
    try:
        modules = {module["type"].rpartition(".")[2]: path / module["path"] for module in _parse(listed)}
    except (TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{listed}: not a list of modules: {error}") from None
    if any(".." in module.parts or not module.is_relative_to(path) for module in modules.values()):
        raise ModelError(f"{listed}: names a folder outside of the model directory")
    return modules


def _parse(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from None


def _num_added(processor: Mapping[str, Any]) -> int:
    """The kinds are those of https://huggingface.co/docs/tokenizers/api/post-processors."""
    kind = processor.get("type")
    if kind == "Sequence":
        return sum(map(_num_added, processor["processors"]))
    if kind == "TemplateProcessing":
        return sum(
            len(processor["special_tokens"][part["SpecialToken"]["id"]]["ids"])
            for part in processor["single"]
            if "SpecialToken" in part
        )
    return SPECIAL_TOKENS if kind in ("BertProcessing", "RobertaProcessing") else 0


def _no_weights(path: Path) -> str:
    pickled = [file.name for pattern in PICKLED for file in path.glob(pattern)]
    if not pickled:
        return f"{path}: no *.safetensors in it"
    return (
        f"{path}: only pickled weights ({pickled[0]}), which can run any code when read; "
        "Holdfast reads safetensors only: convert with transformers' save_pretrained(safe_serialization=True)"
    )


def _num_parameters(path: Path) -> int:
    """Counted from the header alone: 8 bytes of length, then JSON with every tensor's shape."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > MAX_HEADER_BYTES:
                raise ValueError("header too long")
            header = json.loads(file.read(length))
        shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
        end = max((t["data_offsets"][1] for n, t in header.items() if n != "__metadata__"), default=0)
        if path.stat().st_size < 8 + length + end:
            raise ValueError("cut off")
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise ModelError(f"{path}: damaged safetensors file ({error}); fetch it again") from None
    return sum(prod(shape) for shape in shapes)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
