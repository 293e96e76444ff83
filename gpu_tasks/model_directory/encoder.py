"""config.json and the heads of the weights: which family computes the transformer, and with which numbers.

transformers' own AutoConfig reads config.json, so that what a file leaves out has transformers' defaults.
Only what a native family computes exactly is given to it; all else is left to transformers.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.model_directory.config_bounds import require_bounded
from gpu_tasks.model_directory.files import StoredTensor, read_object
from gpu_tasks.models.t5.buckets import KNOWN
from gpu_tasks.models.weight_names import find_prefix, stored_name, weight_shapes, words_of
from queue_app.model.spec import EncoderSpec, Family

CONFIG = "config.json"
ROBERTA = ("roberta", "xlm-roberta", "camembert")
NATIVE: Mapping[str, Family] = {
    "esm": "esm2", "mpnet": "mpnet", "t5": "t5", "mt5": "t5", **dict.fromkeys(("bert", *ROBERTA), "bert")
}  # fmt: skip
BEHIND_PADDING = (
    *ROBERTA, "data2vec-text", "ibert", "lilt", "longformer", "luke", "markuplm", "mluke",
    "roberta-prelayernorm", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Model types whose positions begin behind the padding token's id."""
RELATIVE = ("t5", "mt5", "umt5", "longt5", "switch_transformers", "deberta-v2", "xlnet")
"""Model types whose positions have no end, whatever number their config names."""
MPNET_FIRST_POSITION = 2
SHARED_LAYERS_MOST = 256
"""Layers may share their weights, as those of ALBERT do; of others each has at least one."""
ESM2_PADDING_POSITIONS = 2
"""The published ESM-2 configs count two positions that fairseq keeps for padding."""
_VARIANTS = ("is_decoder", "is_causal", "add_cross_attention", "pruned_heads")
_POSITIONS = ("max_position_embeddings", "n_positions")


def is_mosaic(config: Mapping[str, Any]) -> bool:
    """True for MosaicBERT, DNABERT-2 and DNABERT-S, which say `bert` and mean code of their own."""
    own = config.get("auto_map")
    names = own.values() if isinstance(own, dict) else ()
    return config.get("model_type") == "bert" and (
        "alibi_starting_size" in config
        or any(str(name).rpartition("--")[2].startswith("bert_layers.") for name in names)
    )


def refuse_unreadable(folder: Path) -> dict[str, Any]:
    """config.json, unless it asks for what no one here computes.

    Raises:
        ModelLoadError: there is none, or it is damaged, or a number in it is that of no model.
        UnsupportedModel: the directory brings code of its own, is quantized, or of no known type.
    """
    path = folder / CONFIG
    if not path.exists():
        raise ModelLoadError(_no_config(folder))
    config = read_object(path)
    require_bounded(path, config)
    if not isinstance(config.get("model_type"), str):
        raise UnsupportedModel(f"{path}: names no model_type")
    if config.get("quantization_config") is not None:
        raise UnsupportedModel(
            f"{path}: quantization_config: quantized weights; save the model in float32 or half of it"
        )
    if not is_mosaic(config):
        for file in (path, folder / "tokenizer_config.json"):
            refuse_code(file, read_object(file) if file.exists() else {})
        if config.get("position_embedding_type", "absolute") not in ("absolute", "rotary"):
            raise UnsupportedModel(
                f"{path}: position_embedding_type {config['position_embedding_type']!r} is not implemented "
                "in transformers either, which computes something else without a word"
            )
    return config


def refuse_code(path: Path, fields: Mapping[str, Any]) -> None:
    """Without that code transformers takes the nearest class that it has, and says nothing."""
    if fields.get("auto_map"):
        raise UnsupportedModel(
            f"{path}: auto_map names code of its own, and Holdfast runs no code from a model directory"
        )


def may_be_native(directory: Path) -> bool:
    """A first look at who will compute the model, without transformers. False where that cannot be told."""
    for path in (directory / CONFIG, *sorted(directory.glob("*/config.json"))):
        with contextlib.suppress(ModelLoadError):
            if "model_type" in (config := read_object(path)):
                return config["model_type"] in NATIVE or is_mosaic(config)
    return False


def read_encoder(
    folder: Path, name: str, fields: Mapping[str, Any], config: Any, tensors: Mapping[str, StoredTensor],
    weights: tuple[str, ...],
) -> tuple[Family, EncoderSpec]:  # fmt: skip
    """Who computes the transformer, and its numbers.

    Args:
        folder: where it lies; `name` is that relative to the model directory.
        fields: its config.json; `config` is transformers' reading of it.
        tensors: the heads of `weights`.

    Raises:
        ModelLoadError: weights are missing or of other shapes than config.json says.
        UnsupportedModel: it is no text model.
    """
    path = folder / CONFIG
    family: Family = "mosaic" if is_mosaic(fields) else NATIVE.get(config.model_type, "auto")
    if family == "mosaic":
        _require_plain_mosaic(path, fields)
    elif family != "auto" and not _is_plain(family, config):
        family = "auto"
    spec = _numbers(path, name, family, config, weights)
    if family != "auto":
        _require_weights(folder, family, spec, tensors)
    elif spec.num_layers > max(len(tensors), SHARED_LAYERS_MOST):
        raise ModelLoadError(f"{path}: says {spec.num_layers:,} layers, and there are {len(tensors)} weights")
    return family, spec


def default_length(family: Family, spec: EncoderSpec, config: Any, stated: int | None) -> int | None:
    """Tokens of a segment, special ones included, where nobody asks for another number; None: no limit.

    ESM-2's rotary positions have no end, but it was trained on as many as its config says.
    """
    limit = spec.max_positions
    if spec.model_type == "esm" and limit is None:
        limit = int(config.max_position_embeddings) - ESM2_PADDING_POSITIONS
    if family == "mosaic":
        limit = int(getattr(config, "alibi_starting_size", 512))
    return min((each for each in (limit, stated) if each), default=None)


def _require_plain_mosaic(path: Path, fields: Mapping[str, Any]) -> None:
    """There is no one else to compute its variants: transformers does not know the model."""
    for key, expected in (("hidden_act", "gelu"), ("is_decoder", False)):
        if fields.get(key, expected) != expected:
            raise UnsupportedModel(f"{path}: {key}={fields[key]!r}: only {expected!r} is implemented")


def _is_plain(family: Family, config: Any) -> bool:
    """True when a native family computes exactly what transformers does with this config."""
    if family == "t5":
        return _is_plain_t5(config)
    plain = (
        (family == "esm2" or config.hidden_act == "gelu")  # ESM's is not configured
        and not any(getattr(config, key, None) for key in _VARIANTS)
        and config.hidden_size % config.num_attention_heads == 0
    )
    if family == "esm2":
        rotary = config.position_embedding_type == "rotary" and float(config.rope_theta) == 1e4
        learned = config.position_embedding_type == "absolute" and isinstance(config.pad_token_id, int)
        return plain and (rotary or learned) and not config.is_folding_model
    if family == "mpnet":
        return plain and config.relative_attention_num_buckets == 32 and config.pad_token_id == 1
    return plain and isinstance(config.pad_token_id, int)


def _is_plain_t5(config: Any) -> bool:
    buckets = config.relative_attention_num_buckets, config.relative_attention_max_distance
    return (
        config.dense_act_fn in ("relu", "gelu_new")
        and isinstance(config.is_gated_act, bool)
        and buckets in KNOWN
        and not any(getattr(config, key, None) for key in _VARIANTS)
    )


def _numbers(path: Path, name: str, family: Family, config: Any, weights: tuple[str, ...]) -> EncoderSpec:
    inner = _text_part(config)
    try:
        spec = EncoderSpec(
            folder=name,
            model_type=config.model_type,
            weights=weights,
            hidden_size=int(inner.hidden_size),
            num_layers=int(inner.num_hidden_layers),
            vocab_size=int(inner.vocab_size),
            max_positions=_max_positions(family, inner),
            num_heads=int(getattr(inner, "num_attention_heads", 0) or 0),
            intermediate_size=_int_or_0(getattr(inner, "intermediate_size", 0)),
            layer_norm_eps=float(getattr(inner, "layer_norm_eps", 1e-12) or 0),
            num_positions=_int_or_0(getattr(inner, "max_position_embeddings", 0)),
            first_position=_first_position(family, inner),
            num_token_types=_int_or_0(getattr(inner, "type_vocab_size", 0)),
            token_dropout=bool(getattr(inner, "token_dropout", False)),
            learned_positions=family == "esm2" and _is_learned(inner),
            norm_before=family == "esm2" and bool(inner.emb_layer_norm_before),
        )
        return replace(spec, **_numbers_of_t5(inner)) if family == "t5" else spec
    except (AttributeError, TypeError, ValueError) as error:
        raise UnsupportedModel(f"{path}: {config.model_type!r} is no text model: {error}") from None


def _numbers_of_t5(config: Any) -> dict[str, Any]:
    return {
        "intermediate_size": int(config.d_ff),
        "layer_norm_eps": float(config.layer_norm_epsilon),
        "head_dim": int(config.d_kv),
        "activation": config.dense_act_fn,
        "gated": config.is_gated_act,
        "num_buckets": config.relative_attention_num_buckets,
        "farthest": config.relative_attention_max_distance,
    }


def _require_weights(
    folder: Path, family: Family, spec: EncoderSpec, tensors: Mapping[str, StoredTensor]
) -> None:
    prefix = find_prefix(family, tensors)
    if prefix is None:
        raise ModelLoadError(f"{folder}: its weights lack {words_of(family)}")
    for name, shape in weight_shapes(family, spec):
        found = stored_name(prefix + name, tensors)
        if found is None:
            raise ModelLoadError(f"{folder}: its weights lack {prefix + name}")
        if tensors[found].shape != shape:
            raise ModelLoadError(
                f"{folder}: {prefix + name} has the shape {[*tensors[found].shape]}; by config.json it is "
                f"{[*shape]}"
            )


def _is_learned(config: Any) -> bool:
    return bool(getattr(config, "position_embedding_type", "absolute") == "absolute")


def _int_or_0(value: object) -> int:
    return value if isinstance(value, int) else 0


def _text_part(config: Any) -> Any:
    """Of models with several parts, the config of the one that reads text."""
    encoder = getattr(config, "encoder", None)
    if getattr(config, "is_encoder_decoder", False) and hasattr(encoder, "hidden_size"):
        return encoder
    return config


def _max_positions(family: Family, config: Any) -> int | None:
    if family == "mosaic" or config.model_type in RELATIVE:
        return None
    if config.model_type == "esm" and config.position_embedding_type == "rotary":
        return None  # transformers' others have learned ones all the same
    found = next((int(getattr(config, key)) for key in _POSITIONS if getattr(config, key, None)), None)
    if found is None or found < 1:
        return None
    if config.model_type == "mpnet":
        return found - MPNET_FIRST_POSITION
    behind = config.model_type in BEHIND_PADDING or config.model_type == "esm"
    return found - (int(config.pad_token_id or 0) + 1 if behind else 0)


def _first_position(family: Family, config: Any) -> int:
    if family == "mpnet":
        return MPNET_FIRST_POSITION
    behind = config.model_type in ROBERTA if family == "bert" else family == "esm2" and _is_learned(config)
    return int(config.pad_token_id) + 1 if behind else 0


def _no_config(folder: Path) -> str:
    snapshots = sorted([*folder.glob("snapshots/*/config.json"), *folder.glob("*/snapshots/*/config.json")])
    if snapshots:
        return f"{folder}: the root of a hub cache; the model lies in {snapshots[-1].parent}"
    return f"{folder}: no config.json: not a model directory"
