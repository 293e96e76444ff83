"""The part of a sentence-transformers directory that stands beside the transformer itself."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.models.weights import read_json
from gpu_tasks.readout import Pool

_POOLS: dict[str, Pool] = {"cls": "cls", "mean": "mean", "max": "max", "lasttoken": "last"}
# Older files have one flag per mode.
_POOL_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# A tokenizer without a limit writes a number far above it.
_LIMIT_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """What modules.json says. `max_seq_length` counts special tokens; None when the model sets none."""

    transformer: Path
    pool: Pool
    normalize: bool
    max_seq_length: int | None
    lower_case: bool


def read_modules(directory: Path) -> SentenceModules | None:
    """Read modules.json and the files it points to; None when the directory has none.

    Raises:
        ModelLoadError: a file is missing or unreadable.
        UnsupportedModel: a module, a pooling mode or a prompt has no implementation here.
    """
    if not (directory / "modules.json").exists():
        return None
    paths = _module_paths(directory)
    if not {"Transformer", "Pooling"} <= paths.keys() <= {"Transformer", "Pooling", "Normalize"}:
        raise UnsupportedModel(f"{directory}: modules {', '.join(paths)}; Transformer and Pooling needed, "
                               "Normalize possible, no others")  # fmt: skip
    _refuse_default_prompt(directory)
    transformer = paths["Transformer"]
    config = _read_if_there(transformer / "sentence_bert_config.json")
    return SentenceModules(
        transformer=transformer,
        pool=_pool(paths["Pooling"] / "config.json"),
        normalize="Normalize" in paths,
        max_seq_length=stated_limit(transformer),
        lower_case=bool(config.get("do_lower_case", False)),
    )


def stated_limit(directory: Path) -> int | None:
    """The longest text, special tokens included; version 6 leaves it to the tokenizer. None: no limit."""
    limits = (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length"))
    stated = [_read_if_there(directory / name).get(key) for name, key in limits]
    return next((int(length) for length in stated if length and length <= _LIMIT_MOST), None)


def _module_paths(directory: Path) -> dict[str, Path]:
    try:
        modules = json.loads((directory / "modules.json").read_bytes())
        return {module["type"].rpartition(".")[2]: directory / module["path"] for module in modules}
    except (ValueError, TypeError, KeyError) as error:
        raise ModelLoadError(f"{directory}/modules.json: not a list of modules: {error}") from None


def _refuse_default_prompt(directory: Path) -> None:
    path = directory / "config_sentence_transformers.json"
    prompt = _read_if_there(path).get("default_prompt_name")
    if prompt:
        raise UnsupportedModel(f"{path}: puts the prompt {prompt!r} before every text; put it there yourself")


def _read_if_there(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _pool(path: Path) -> Pool:
    config = read_json(path)
    modes = _modes(config)
    if len(modes) != 1 or modes[0] not in _POOLS:
        raise UnsupportedModel(f"{path}: pooling {'+'.join(modes)}; only one of {', '.join(_POOLS)}")
    return _POOLS[modes[0]]


def _modes(config: dict[str, Any]) -> list[str]:
    mode = config.get("pooling_mode")
    if mode is not None:
        return [mode] if isinstance(mode, str) else list(mode)
    return [mode for flag, mode in _POOL_FLAGS.items() if config.get(flag)] or ["mean"]
