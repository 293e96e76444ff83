"""What a sentence-transformers directory adds to its transformer: modules.json and the files that it names.

Each key is one that is understood here, at a value that is; any other is refused. The keys and what becomes
of them are those of sentence-transformers 6 (https://github.com/UKPLab/sentence-transformers), base/modules/
and sentence_transformer/modules/.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.model_directory.files import (
    WHOLE,
    read_heads,
    read_json,
    read_object,
    read_object_if_there,
    require_plain,
    weight_files,
)
from queue_app.model.spec import (
    CONCATENATED,
    DenseSpec,
    HeadModule,
    LayerNormSpec,
    NormalizeSpec,
    Pool,
    PromptSpec,
    TruncateSpec,
)

MODULES = "modules.json"
PATH_MOST = 255
"""Letters of a path within the directory."""
SETTINGS = "config_sentence_transformers.json"
TRANSFORMER_SETTINGS = (
    "sentence_bert_config.json", "sentence_roberta_config.json", "sentence_distilbert_config.json",
    "sentence_camembert_config.json", "sentence_albert_config.json", "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)  # fmt: skip
"""The first that is there counts."""

_TYPE = re.compile(
    r"sentence_transformers\.(models|base\.modules(\.[a-z_]+)?|sentence_transformer\.modules(\.[a-z_]+)?)\.(\w+)"
)
_KNOWN = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
_POOLS: Mapping[str, Pool] = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "lasttoken": "last",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
    "weightedmean": "weighted_mean",
}
# Older files have one flag per mode; several are concatenated in this order.
_POOL_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = ("Tanh", "Identity", "ReLU", "GELU", "SiLU", "Sigmoid", "ELU", "LeakyReLU", "Mish", "Softplus")
_ACTIVATION = re.compile(r"torch\.nn\.(?:modules\.(?:activation|linear)\.)?(\w+)")


@dataclass(frozen=True, slots=True)
class SentenceModules:
    """What modules.json says; the defaults hold where there is none.

    `max_seq_length` counts special tokens; None when the directory sets none. `files` are all that were read
    of it. `include_prompt` is Pooling's: whether a prompt's tokens are pooled.
    """

    transformer: Path
    pool: str = "mean"
    include_prompt: bool = True
    head: tuple[HeadModule, ...] = ()
    prompt: PromptSpec | None = None
    prompts: tuple[tuple[str, str], ...] = ()
    max_seq_length: int | None = None
    lower_case: bool = False
    files: tuple[Path, ...] = ()


class _Module(NamedTuple):
    kind: str
    folder: Path


def read_modules(directory: Path) -> SentenceModules | None:
    """Read modules.json and the files it points to; None when the directory has none.

    Raises:
        ModelLoadError: a file is missing or unreadable.
        UnsupportedModel: a module or a value has no implementation here.
    """
    path, settings = directory / MODULES, directory / SETTINGS
    prompts, named, truncated = _settings(settings)
    if not path.exists():
        return None
    transformer, pooling, *behind = _in_order(path, _modules(path))
    pool, include_prompt = _pooling(pooling.folder / "config.json")
    head = tuple(_head_module(directory, module) for module in behind)
    if truncated is not None:
        # Behind everything, and of unit length again where it was: a part of a unit vector has none.
        again = [module for module in head if isinstance(module, NormalizeSpec)][:1]
        head = (*head, TruncateSpec("truncate", truncated), *again)
    max_seq_length, lower_case, file = _transformer_settings(transformer.folder)
    configs = [module.folder / "config.json" for module in (pooling, *behind)]
    weights = [module.folder / WHOLE for module in behind]
    return SentenceModules(
        transformer=transformer.folder,
        pool=pool,
        include_prompt=include_prompt,
        head=head,
        prompt=PromptSpec(dict(prompts)[named], named, include_prompt) if named else None,
        prompts=prompts,
        max_seq_length=max_seq_length,
        lower_case=lower_case,
        files=tuple(each for each in (path, settings, file, *configs, *weights) if each and each.exists()),
    )


# ---- modules.json


def _modules(path: Path) -> list[_Module]:
    listed = read_json(path)
    if not isinstance(listed, list) or not all(isinstance(module, dict) for module in listed):
        raise ModelLoadError(f"{path}: not a list of modules")
    if len({str(module.get("name")) for module in listed}) < len(listed):
        raise UnsupportedModel(f"{path}: two modules of one name, of which the later one would count")
    return [_module(path, module) for module in listed]


def _module(path: Path, module: Mapping[str, Any]) -> _Module:
    if not all(isinstance(module.get(key), str) for key in ("name", "path", "type")):
        raise ModelLoadError(f"{path}: a module without name, path or type")
    if not module["name"] or "." in module["name"]:
        raise ModelLoadError(
            f"{path}: a module's name is empty or has a dot in it, which torch takes for no name"
        )
    kind, folder = str(module["type"]), str(module["path"])
    parts = PurePosixPath(folder)
    if len(folder) > PATH_MOST:
        raise ModelLoadError(f"{path}: a module's path has {len(folder):,} letters")
    if parts.is_absolute() or ".." in parts.parts or "\\" in folder or "\0" in folder:
        raise ModelLoadError(f"{path}: path {folder!r} is outside of the model directory")
    known = _TYPE.fullmatch(kind)
    if known is None or known[4] not in _KNOWN:
        why = "code of its own, and Holdfast runs no code from a model directory"
        if kind.startswith("sentence_transformers."):
            why = f"a module that is not implemented; {', '.join(_KNOWN)} are"
        raise UnsupportedModel(f"{path}: type {kind!r}: {why}")
    _only(path, module, idx=None, name=None, path=None, type=None, kwargs=([], {}, None))
    require_plain(path.parent / folder, path.parent)
    return _Module(known[4], path.parent / folder)


def _in_order(path: Path, modules: Sequence[_Module]) -> list[_Module]:
    kinds = [module.kind for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or {"Transformer", "Pooling"} & {*kinds[2:]}:
        raise UnsupportedModel(
            f"{path}: modules {', '.join(kinds) or 'none'}; one Transformer, one Pooling and then "
            "Dense, LayerNorm or Normalize are implemented"
        )
    return [module for module in modules if module.kind != "Dropout"]  # which does nothing once trained


# ---- each module's config.json


def _pooling(path: Path) -> tuple[str, bool]:
    """The pool, and whether a prompt's tokens take part in it."""
    config = read_object(path)
    _only(
        path, config, embedding_dimension=None, word_embedding_dimension=None, pooling_mode=None,
        include_prompt=(True, False), **dict.fromkeys(_POOL_FLAGS, (True, False, None)),
    )  # fmt: skip
    if not {"embedding_dimension", "word_embedding_dimension"} & config.keys():
        raise ModelLoadError(f"{path}: lacks embedding_dimension")
    if "pooling_mode" in config:
        mode = config["pooling_mode"]
        modes = mode if isinstance(mode, list) else [mode]
    else:
        modes = [mode for flag, mode in _POOL_FLAGS.items() if config.get(flag)] or ["mean"]
    unknown = [mode for mode in modes if not isinstance(mode, str) or mode not in _POOLS]
    if unknown or not modes:
        raise UnsupportedModel(f"{path}: pooling_mode {unknown or modes}: only {', '.join(_POOLS)}")
    return CONCATENATED.join(_POOLS[mode] for mode in modes), bool(config.get("include_prompt", True))


_SENTENCE_EMBEDDING: Mapping[str, tuple[Any, ...]] = {
    "module_input_name": ("sentence_embedding",),
    "module_output_name": ("sentence_embedding", None),
}


def _head_module(directory: Path, module: _Module) -> HeadModule:
    path = module.folder / "config.json"
    if module.kind == "Normalize":
        _only(path, read_object_if_there(path), **_SENTENCE_EMBEDDING)
        return NormalizeSpec("normalize")
    config = read_object(path)
    file = (module.folder / WHOLE).relative_to(directory).as_posix()
    if module.kind == "Dense":
        return _dense(path, config, file)
    _only(path, config, dimension=None)
    dim = _number(path, config, "dimension")
    _require_weights(module.folder, {"norm.weight": (dim,), "norm.bias": (dim,)})
    return LayerNormSpec("layer_norm", dim, file)


def _dense(path: Path, config: Mapping[str, Any], file: str) -> DenseSpec:
    _only(
        path, config, in_features=None, out_features=None, bias=(True, False), activation_function=None,
        use_residual=(True, False), **_SENTENCE_EMBEDDING,
    )  # fmt: skip
    inputs, outputs = _number(path, config, "in_features"), _number(path, config, "out_features")
    biased, residual = bool(config.get("bias", True)), bool(config.get("use_residual", False))
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (outputs, inputs)}
    if biased:
        shapes["linear.bias"] = (outputs,)
    if residual and inputs != outputs:
        shapes["residual.weight"] = (outputs, inputs)
    _require_weights(path.parent, shapes)
    name = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    known = _ACTIVATION.fullmatch(name) if isinstance(name, str) else None
    if known is None or known[1] not in _ACTIVATIONS:
        raise UnsupportedModel(
            f"{path}: activation_function {name!r}: only torch.nn's {', '.join(_ACTIVATIONS)}"
        )
    return DenseSpec("dense", inputs, outputs, biased, known[1], residual, file)


def _require_weights(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if not (folder / WHOLE).exists():
        raise ModelLoadError(f"{weight_files(folder)[0]}: only {WHOLE} is read of a module")
    found = {name: tensor.shape for name, tensor in read_heads([folder / WHOLE]).items()}
    if found != shapes:
        raise ModelLoadError(f"{folder / WHOLE}: holds {found}; by config.json it holds {dict(shapes)}")


# ---- the settings of all, and of the transformer


def _settings(path: Path) -> tuple[tuple[tuple[str, str], ...], str | None, int | None]:
    """Prompts by name, the one that stands before every text, and the numbers that are kept of a vector."""
    config = read_object_if_there(path)
    if config.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise UnsupportedModel(
            f"{path}: model_type {config['model_type']!r} makes no vectors of single texts"
        )
    _only(
        path, config, __version__=None, similarity_fn_name=None, prompts=None, default_prompt_name=None,
        truncate_dim=None, model_type=None, requirements=({}, [], None),
    )  # fmt: skip
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise ModelLoadError(f"{path}: prompts: not a text for each name")
    texts = {name: text for name, text in prompts.items() if text is not None}
    named = config.get("default_prompt_name")
    if named is not None and named not in texts:
        raise UnsupportedModel(f"{path}: default_prompt_name {named!r} is none of prompts")
    truncated = None if config.get("truncate_dim") is None else _number(path, config, "truncate_dim")
    return tuple(texts.items()), named if named is not None and texts[named] else None, truncated


def _transformer_settings(folder: Path) -> tuple[int | None, bool, Path | None]:
    """Longest text in tokens, whether it is lowered first, and the file that says so."""
    path = next((folder / name for name in TRANSFORMER_SETTINGS if (folder / name).exists()), None)
    if path is None:
        return None, False, None
    config = read_object(path)
    text = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
    nothing: tuple[Any, ...] = ({}, None)
    _only(
        path, config, max_seq_length=None, do_lower_case=(True, False, None), unpad_inputs=None,
        transformer_task=("feature-extraction", None), modality_config=(text, None),
        module_output_name=("token_embeddings", None), model_args=nothing, model_kwargs=nothing,
        tokenizer_args=nothing, processor_kwargs=nothing, config_args=nothing, config_kwargs=nothing,
        processing_kwargs=nothing, query_length=(None,), document_length=(None,), query_expansion=(None,),
    )  # fmt: skip
    given = config.get("max_seq_length") is not None
    longest = _number(path, config, "max_seq_length", of="tokens") if given else None
    return longest, bool(config.get("do_lower_case")), path


def _number(path: Path, config: Mapping[str, Any], key: str, *, of: str = "dimensions") -> int:
    number = config.get(key)
    if type(number) is not int or number < 1:
        raise UnsupportedModel(f"{path}: {key} {number!r}: not a number of {of}")
    return number


def _only(path: Path, config: Mapping[str, Any], /, **known: tuple[Any, ...] | None) -> None:
    """Refuse a key that is not known, or one whose value is none of those that are; None knows them all."""
    for key, value in config.items():
        if key not in known:
            raise UnsupportedModel(f"{path}: {key}: not understood, and it may change vectors")
        values = known[key]
        if values is not None and not any(type(value) is type(each) and value == each for each in values):
            raise UnsupportedModel(f"{path}: {key}={value!r} is not implemented")
