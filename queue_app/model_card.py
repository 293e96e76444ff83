"""What can be known of a model without loading it: its family, its size, its fingerprint."""

import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import xxhash

from queue_app.errors import ModelError
from queue_app.job import ModelCard, Pool
from queue_app.model_files import (
    ModelFiles,
    bases_of,
    num_special_tokens,
    open_files,
    read_json,
)

MOCK = re.compile(r"mock:(\d{1,5})(,delay_ms=\d{1,6}|,(kill|hang|raise|lost|nan)=[A-Za-z]{1,32})*")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MOCK_MAX_LENGTH = 1022
MOCK_LAYERS = 3
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model"]

Family = Literal["esm2", "bert", "mpnet", "mosaic", "auto"]
ROBERTA = ("roberta", "xlm-roberta", "camembert")
BEHIND_PADDING = (
    *ROBERTA, "data2vec-text", "ibert", "lilt", "longformer", "luke", "markuplm", "mluke",
    "roberta-prelayernorm", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Model types whose positions begin behind the padding token's id."""
MPNET_FIRST_POSITION = 2
NATIVE: Mapping[str, Family] = {"esm": "esm2", "mpnet": "mpnet", **dict.fromkeys(("bert", *ROBERTA), "bert")}
ESM2_PADDING_POSITIONS = 2
DIMS = ("hidden_size", "d_model", "n_embd", "dim")
LAYERS = ("num_hidden_layers", "encoder_layers", "n_layer", "n_layers", "num_layers")
POSITIONS = ("max_position_embeddings", "n_positions")
RELATIVE = ("longt5", "mt5", "t5", "umt5")
"""Model types whose tokens know their distances alone, which have no end, whatever `n_positions` says."""
DEFAULT_LENGTH = 512
"""Where neither the config nor the tokenizer names a limit, as for T5."""
LIMIT_MOST = 1_000_000
"""A tokenizer without a limit writes a number far above it."""
MODULES = {"Transformer", "Pooling", "Normalize"}
"""Of sentence-transformers. Vectors without the work of another, as of Dense, would be other vectors."""
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
    return _mock(ref) if ref.startswith("mock:") else _directory(_locate(ref), ref)


def count_parameters(ref: str) -> int:
    """Of the same models, from the headers of their weights alone. Raises ModelError as above."""
    return 0 if ref.startswith("mock:") else open_files(_locate(ref)).num_parameters()


def _locate(ref: str) -> Path:
    path = Path(ref).expanduser()
    if path.is_dir():
        return path.absolute()
    if path.exists():
        raise ModelError(f"{ref}: a file; -m takes the directory with config.json and *.safetensors")
    if HUB_ID.fullmatch(ref) and not ref.startswith("."):
        return _from_hub(ref)
    raise ModelError(
        f"{ref}: no such model: give a directory, a hub id such as facebook/esm2_t6_8M_UR50D, or mock:DIM"
    )


def _mock(ref: str) -> ModelCard:
    match = MOCK.fullmatch(ref)
    if match is None or int(match[1]) < 1:
        raise ModelError(f"{ref}: write mock:DIM or mock:DIM,delay_ms=N, as in mock:16")
    name = f"mock:{int(match[1])}"
    digest = xxhash.xxh3_128_hexdigest(name.encode())
    dim = int(match[1])
    return ModelCard(
        name, ref, "mock", digest, dim, MOCK_MAX_LENGTH, 0, "text", "mean", MOCK_LAYERS, num_special=2
    )


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
    files = open_files(path)
    num_parameters = files.num_parameters()
    family = _family(files)
    tokenizer = {} if family == "esm2" else files.read("tokenizer.json")
    num_special = num_special_tokens(tokenizer)
    try:
        dim, positions = _dim(files.config), _positions(family, files.config)
        limit = _limit(family, files, positions)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{files.transformer / 'config.json'}: lacks {error}") from None
    return ModelCard(
        name=path.name if Path(ref).expanduser().is_dir() else ref,
        path=str(path),
        family=family,
        digest=files.digest(),
        dim=dim,
        max_length=limit - num_special,
        num_parameters=num_parameters,
        alphabet="protein" if family == "esm2" else bases_of(tokenizer) or "text",
        pool="mean" if family == "esm2" else _pool(files),
        num_layers=_first(files.config, LAYERS) or 0,
        # As gpu_tasks/models/directory.py loads them.
        pool_special=family == "mosaic" or (family != "esm2" and bool(files.modules)),
        normalize=family != "esm2" and "Normalize" in files.modules,
        max_positions=positions,
        num_special=num_special,
    )


def _family(files: ModelFiles) -> Family:
    """Raises ModelError for what cannot be run here, not even by transformers."""
    config, path = files.config, files.path
    if others := files.modules.keys() - MODULES:
        raise ModelError(f"{path}: not implemented of its modules: {', '.join(sorted(others))}")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelError(f"{path}: its config.json names no model_type")
    if kind == "bert" and is_mosaic(config):
        return "mosaic"
    if kind in NATIVE:
        return NATIVE[kind]
    for name in ("config.json", "tokenizer_config.json"):
        if "auto_map" in files.read(name):
            raise ModelError(
                f"{files.transformer / name}: model_type {kind!r} comes with code of its own (auto_map), "
                "and Holdfast runs no code from a model directory"
            )
    if "quantization_config" in config or (files.transformer / "adapter_config.json").exists():
        raise ModelError(f"{path}: quantized, or an adapter; save the whole model, in float32 or half of it")
    if "vocab_size" not in config:
        raise ModelError(f"{path}: model_type {kind!r} is no text model: no vocab_size in its config.json")
    if find_spec("transformers") is None:
        raise ModelError(f"{path}: model_type {kind!r} is run by transformers: pip install 'holdfast[hf]'")
    return "auto"


def is_mosaic(config: Mapping[str, Any]) -> bool:
    """True for MosaicBERT, DNABERT-2 and DNABERT-S, which say `bert` and mean code of their own."""
    own = config.get("auto_map")
    names = own.values() if isinstance(own, dict) else ()
    return "alibi_starting_size" in config or any(
        str(name).rpartition("--")[2].startswith("bert_layers.") for name in names
    )


def _dim(config: Mapping[str, Any]) -> int:
    return int(config[next((key for key in DIMS if key in config), DIMS[0])])


def _first(config: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    """The first of these numbers that the config names."""
    return next((int(config[key]) for key in keys if config.get(key)), None)


def _limit(family: Family, files: ModelFiles, positions: int | None) -> int:
    """Tokens of one segment, special ones included, where the user asks for nothing else."""
    if family == "esm2":
        # What ESM-2 was trained with. Two of its positions are kept for padding.
        return int(files.config["max_position_embeddings"]) - ESM2_PADDING_POSITIONS
    if family == "mosaic":
        # What the published models were made for, and where users raise it.
        positions = int(files.config.get("alibi_starting_size", DEFAULT_LENGTH))
    heeded = family == "auto" or (files.path / "modules.json").exists()
    stated = _stated(files) if heeded else None
    return min((limit for limit in (positions, stated) if limit), default=DEFAULT_LENGTH)


def _positions(family: Family, config: Mapping[str, Any]) -> int | None:
    """The longest segment that the model has positions for, special tokens included; None: they have no end.

    Those of ALiBi and of T5 have none, nor have rotary ones; of the models that transformers runs, what the
    config says is the end.
    """
    if family == "mosaic" or config["model_type"] in RELATIVE:
        return None
    if family == "esm2" and config.get("position_embedding_type") == "rotary":
        return None
    found = _first(config, POSITIONS) if family == "auto" else int(config["max_position_embeddings"])
    if found is None:
        return None
    kept = {"esm2": ESM2_PADDING_POSITIONS, "mpnet": MPNET_FIRST_POSITION}.get(family, 0)
    return found - (int(config["pad_token_id"]) + 1 if config["model_type"] in BEHIND_PADDING else kept)


def _stated(files: ModelFiles) -> int | None:
    """A sentence-transformers directory's own limit; version 6 leaves it to the tokenizer."""
    limits = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
    stated = [files.read(name).get(key) for name, key in limits]
    return next((int(length) for length in stated if length and length <= LIMIT_MOST), None)


def _pool(files: ModelFiles) -> Pool:
    config = files.modules.get("Pooling", files.path / "1_Pooling") / "config.json"
    if not config.exists():
        return "mean"
    fields = read_json(config)
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
