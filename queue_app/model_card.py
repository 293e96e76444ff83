"""What can be known of a model without loading it: its family, its size, its fingerprint."""

import json
import re
import struct
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, get_args

import xxhash

from queue_app.errors import ModelError
from queue_app.job import ModelCard, Pool

MOCK = re.compile(r"mock:(\d{1,5})(,delay_ms=\d{1,6}|,(kill|hang|raise|lost|nan)=[A-Za-z]{1,32})*")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MOCK_MAX_LENGTH = 1022

FILES = (
    "config.json", "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
    "vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "*.safetensors", "*.safetensors.index.json", "*_Pooling/config.json", "*_Normalize/config.json",
)  # fmt: skip
"""Everything in a model directory that can change a vector."""
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt"]

ROBERTA = ("roberta", "xlm-roberta", "camembert")
KNOWN = ("esm", "bert", *ROBERTA)
ESM2_PADDING_POSITIONS = 2
SPECIAL_TOKENS = 2
MAX_HEADER_BYTES = 100 << 20
_CHUNK_BYTES = 4 << 20
_POOLS: dict[str, Pool] = {"lasttoken": "last", **{pool: pool for pool in get_args(Pool)}}
_POOL_FLAGS: dict[str, Pool] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
}


def describe_model(ref: str) -> ModelCard:
    """Look at `mock:DIM`, a model directory, or a hub id.

    Raises:
        ModelError: there is no such model, or its directory cannot be used; says what to do.
    """
    if ref.startswith("mock:"):
        return _mock(ref)
    path = Path(ref).expanduser()
    if path.is_dir():
        return _directory(path.absolute(), ref)
    if path.exists():
        raise ModelError(f"{ref}: a file; -m takes the directory with config.json and *.safetensors")
    if HUB_ID.fullmatch(ref) and not ref.startswith("."):
        return _directory(_from_hub(ref), ref)
    raise ModelError(
        f"{ref}: no such model: give a directory, a hub id such as facebook/esm2_t6_8M_UR50D, or mock:DIM"
    )


def _mock(ref: str) -> ModelCard:
    match = MOCK.fullmatch(ref)
    if match is None or int(match[1]) < 1:
        raise ModelError(f"{ref}: write mock:DIM or mock:DIM,delay_ms=N, as in mock:16")
    name = f"mock:{int(match[1])}"
    digest = xxhash.xxh3_128_hexdigest(name.encode())
    return ModelCard(name, ref, "mock", digest, int(match[1]), MOCK_MAX_LENGTH, 0, "text", "mean")


def _from_hub(ref: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise ModelError(
            f"{ref}: no such directory; to fetch it from the hub: pip install 'holdfast[hf]'"
        ) from None
    try:
        return Path(snapshot_download(ref, allow_patterns=HUB_PATTERNS))
    except Exception as error:  # the hub client's errors have no common class below Exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{ref}: no such directory, and the hub does not give it: {reason}") from None


def _directory(path: Path, ref: str) -> ModelCard:
    config = _read_json(path / "config.json") if (path / "config.json").exists() else None
    if config is None:
        raise ModelError(f"{path}: no config.json: not a model directory")
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        raise ModelError(_no_weights(path))
    family = config.get("model_type")
    if family not in KNOWN:
        raise ModelError(f"{path}: model_type {family!r} is not implemented; known: {', '.join(KNOWN)}")
    try:
        dim, positions = int(config["hidden_size"]), int(config["max_position_embeddings"])
        if family in ROBERTA:
            positions -= int(config["pad_token_id"]) + 1  # where its positions begin
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path / 'config.json'}: lacks {error}") from None
    num_parameters = sum(_num_parameters(file) for file in weights)
    name = ref.rstrip("/").rsplit("/", 1)[-1] if Path(ref).expanduser().is_dir() else ref
    shared = (_digest(path), dim)
    if family == "esm":
        longest = positions - ESM2_PADDING_POSITIONS - SPECIAL_TOKENS
        return ModelCard(name, str(path), "esm2", *shared, longest, num_parameters, "protein", "mean")
    longest = min(positions, _max_seq_length(path) or positions) - SPECIAL_TOKENS
    return ModelCard(name, str(path), "bert", *shared, longest, num_parameters, "text", _pool(path))


def _no_weights(path: Path) -> str:
    pickled = [file.name for pattern in PICKLED for file in path.glob(pattern)]
    if not pickled:
        return f"{path}: no *.safetensors in it"
    return (
        f"{path}: only pickled weights ({pickled[0]}), which can run any code when read; "
        "Holdfast reads safetensors only: convert with transformers' save_pretrained(safe_serialization=True)"
    )


def _max_seq_length(path: Path) -> int | None:
    """A sentence-transformers directory's own limit; version 6 leaves it to the tokenizer."""
    if not (path / "modules.json").exists():
        return None
    limits = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
    stated = [_read_json(path / name).get(key) for name, key in limits if (path / name).exists()]
    return next((int(length) for length in stated if length), None)


def _pool(path: Path) -> Pool:
    config = path / "1_Pooling" / "config.json"
    if not config.exists():
        return "mean"
    fields = _read_json(config)
    if isinstance(mode := fields.get("pooling_mode"), str):
        named = _POOLS.get(mode)
    else:
        flagged = [pool for flag, pool in _POOL_FLAGS.items() if fields.get(flag)]
        named = flagged[0] if len(flagged) == 1 else None
    if named is None:
        raise ModelError(
            f"{config}: a pooling that is not implemented; choose one with --pool mean|cls|max|last"
        )
    return named


def _read_json(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ModelError(f"{path}: not a JSON object")
    return fields


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


def _digest(path: Path) -> str:
    """xxh3-128 (hex) over names and contents of all files that count, in the order of their names."""
    state = xxhash.xxh3_128()
    for file in sorted({file for pattern in FILES for file in path.glob(pattern)}):
        state.update(f"{file.relative_to(path)}\n{file.stat().st_size}\n".encode())
        for chunk in _chunks(file):
            state.update(chunk)
    return state.hexdigest()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
