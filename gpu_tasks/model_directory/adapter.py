"""A LoRA adapter beside a model, as peft saves it: what is merged, or why not.

https://arxiv.org/abs/2106.09685
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.model_directory.files import StoredTensor, read_heads, read_object
from queue_app.model.spec import AdapterSpec

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_BEGIN = "base_model.model."
_HALVES = (".lora_A.weight", ".lora_B.weight")
_HEEDED = {"r", "lora_alpha", "use_rslora"}
_INERT = {
    "base_model_name_or_path", "revision", "inference_mode", "lora_dropout", "target_modules", "task_type",
    "peft_version", "exclude_modules", "layers_to_transform", "layers_pattern", "auto_mapping",
    "megatron_core", "runtime_config", "ensure_weight_tying", "arrow_config",
}  # fmt: skip
"""Keys that say how the adapter was made or where it goes, which the names of its weights say as well."""
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "init_lora_weights": (True, False, "gaussian"),
    "fan_in_fan_out": (False,),
}
"""Of all other keys only false, null or nothing is understood."""


def read_adapter(directory: Path, folder: Path, tensors: Mapping[str, StoredTensor]) -> AdapterSpec | None:
    """None where there is no adapter beside the weights.

    Args:
        directory: of the model; `folder` is that of its transformer.
        tensors: the heads of its weights.

    Raises:
        ModelLoadError: files are missing or do not fit the model's weights.
        UnsupportedModel: it is no plain LoRA.
    """
    path = folder / CONFIG
    if not path.exists():
        return None
    config = read_object(path)
    scale = _scale(path, config)
    if not (folder / WEIGHTS).exists():
        raise ModelLoadError(f"{path}: no {WEIGHTS} beside it")
    names: dict[str, str] = {}
    halves = read_heads([folder / WEIGHTS])
    for name in sorted({_name(folder / WEIGHTS, name) for name in halves}):
        names[_weight(folder, name, halves, tensors)] = name
    file = (folder / WEIGHTS).relative_to(directory).as_posix()
    return AdapterSpec(file, tuple((name, scale) for name in names), tuple(names.items()))


def require_base(folder: Path) -> None:
    """Raises UnsupportedModel for an adapter without its model."""
    if (folder / CONFIG).exists() and not (folder / "config.json").exists():
        base = read_object(folder / CONFIG).get("base_model_name_or_path")
        raise UnsupportedModel(
            f"{folder / CONFIG}: an adapter alone; put the files of its model ({base}) beside it, or save "
            "the merged model"
        )


def _scale(path: Path, config: Mapping[str, Any]) -> float:
    for key, value in config.items():
        allowed = _PLAIN.get(key, (None, False, {}, []))
        if key not in _HEEDED | _INERT and not any(
            type(value) is type(each) and value == each for each in allowed
        ):
            raise UnsupportedModel(
                f"{path}: {key}={value!r}: only a plain LoRA is merged; save the merged model"
            )
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if config.get("peft_type") != "LORA" or type(rank) is not int or rank < 1:
        raise UnsupportedModel(f"{path}: peft_type and r: only a plain LoRA is merged; save the merged model")
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise UnsupportedModel(f"{path}: lora_alpha={alpha!r}: not a number")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _name(path: Path, tensor: str) -> str:
    """What stands before `.lora_A.weight` in one half's name."""
    half = next((half for half in _HALVES if tensor.endswith(half)), None)
    if half is None:
        raise UnsupportedModel(f"{path}: {tensor}: no half of a plain LoRA; save the merged model")
    return tensor.removesuffix(half)


def _weight(
    folder: Path, name: str, halves: Mapping[str, StoredTensor], tensors: Mapping[str, StoredTensor]
) -> str:
    """The name of the model's own weight that this pair of halves is added to."""
    a, b = (halves.get(name + half) for half in _HALVES)
    if a is None or b is None:
        raise ModelLoadError(f"{folder / WEIGHTS}: {name} has one half only")
    wanted = name.removeprefix(_BEGIN) + ".weight"
    found = [each for each in tensors if each == wanted or each.endswith("." + wanted)]
    found = found or [each for each in tensors if wanted.endswith("." + each)]
    if len(found) != 1:
        raise ModelLoadError(f"{folder / WEIGHTS}: {name}: the model's weights have no {wanted}")
    product = (b.shape[0], a.shape[1]) if len(a.shape) == len(b.shape) == 2 else ()
    if tensors[found[0]].shape != product or a.shape[0] != b.shape[1]:
        raise ModelLoadError(
            f"{folder / WEIGHTS}: {name} makes {[*product]} of it, and {found[0]} is "
            f"{[*tensors[found[0]].shape]}"
        )
    return found[0]
