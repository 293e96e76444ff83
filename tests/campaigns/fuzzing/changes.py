"""One change at random of a model directory: of a key of one of its JSON files, or of one of its files."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = Any

ADDED: dict[str, dict[str, Json]] = {
    "config.json": {
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
        "auto_map": {"AutoModel": "modeling.Model"},
        "is_decoder": True,
        "add_cross_attention": True,
        "position_embedding_type": "relative_key",
        "chunk_size_feed_forward": 4,
        "rope_theta": 500.0,
        "rope_parameters": {"rope_type": "linear", "factor": 4.0},
        "sliding_window": 4,
        "emb_layer_norm_before": True,
        "token_dropout": False,
        "is_folding_model": True,
        "pruned_heads": {"0": [1]},
        "torch_dtype": "float16",
        "dtype": "bfloat16",
        "output_hidden_states": True,
        "hidden_act": "relu",
        "layer_norm_eps": 0.1,
        "alibi_starting_size": 512,
        "tie_word_embeddings": False,
        "is_encoder_decoder": True,
        "problem_type": "regression",
        "id2label": {"0": "a"},
        "attn_implementation": "eager",
    },
    "tokenizer_config.json": {
        "do_lower_case": True,
        "strip_accents": True,
        "tokenize_chinese_chars": False,
        "add_prefix_space": True,
        "add_bos_token": True,
        "add_eos_token": True,
        "padding_side": "left",
        "truncation_side": "left",
        "model_max_length": 5,
        "added_tokens_decoder": {"7": {"content": "kinase", "special": False}},
        "additional_special_tokens": ["kinase"],
        "extra_special_tokens": {"image_token": "of"},
        "auto_map": {"AutoTokenizer": ["tokenization.Tokenizer", None]},
        "split_special_tokens": True,
        "never_split": ["kinase"],
        "do_basic_tokenize": False,
        "model_input_names": ["input_ids"],
        "clean_up_tokenization_spaces": True,
        "from_slow": True,
        "unk_token": "the",
    },
    "special_tokens_map.json": {"cls_token": "the", "sep_token": "[MASK]", "eos_token": "the"},
    "sentence_bert_config.json": {
        "max_seq_length": 4,
        "do_lower_case": True,
        "model_args": {"dtype": "float16"},
        "config_args": {"num_hidden_layers": 1},
        "tokenizer_args": {"do_lower_case": True},
        "transformer_task": "fill-mask",
        "module_output_name": "token_embeddings",
        "modality_config": {"text": {"method": "forward", "method_output_name": "pooler_output"}},
    },
    "config_sentence_transformers.json": {
        "truncate_dim": 16,
        "prompts": {"query": "kinase "},
        "default_prompt_name": "query",
        "similarity_fn_name": "dot",
        "model_type": "SparseEncoder",
    },
    "1_Pooling/config.json": {
        "pooling_mode": "max",
        "include_prompt": False,
        "pooling_mode_cls_token": True,
        "pooling_mode_max_tokens": True,
        "pooling_mode_weightedmean_tokens": True,
        "pooling_mode_lasttoken": True,
    },
    "2_Dense/config.json": {"use_residual": True, "module_input_name": "token_embeddings"},
}
"""Keys that mean something to transformers or sentence-transformers, or look as if they did."""
WORDS = ("", "the", "gelu", "relu", "bert", "absolute", "rotary", "mean", "[MASK]", "float16")
OTHER_TYPES: tuple[Json, ...] = (None, True, 0, 3, -1, 1.5, "3", "no", [], [1], {}, {"a": 1})


@dataclass(frozen=True, slots=True)
class Change:
    """What was done, for the report. `swapped`: a file now is another model's."""

    words: str
    swapped: bool = False


def change_directory(directory: Path, other: Path, rng: random.Random) -> Change:
    """Change one thing in a model directory; `other` is one to take files from."""
    kind: Callable[[Path, Path, random.Random], Change] = rng.choices(
        (_change_key, _add_key, _change_file, _take_file), weights=(5, 4, 2, 1)
    )[0]
    return kind(directory, other, rng)


# ---- keys


def _change_key(directory: Path, other: Path, rng: random.Random) -> Change:
    path = rng.choice(sorted(directory.rglob("*.json")))
    fields = json.loads(path.read_bytes())
    holder, key, where = _descend(fields, rng)
    if holder is None:
        return _change_file(directory, other, rng)
    before = json.dumps(holder[key])
    if rng.random() < 0.3:
        del holder[key]
        after = "deleted"
    else:
        holder[key] = _another(holder[key], rng)
        after = json.dumps(holder[key])
    path.write_text(json.dumps(fields))
    return Change(f"{path.relative_to(directory)}: {where}: {_short(before)} -> {_short(after)}")


def _descend(fields: Json, rng: random.Random) -> tuple[Json, Any, str]:
    """A place in a document: its holder, its key there, and the way to it. No holder: there is none."""
    holder, key, where = None, None, ""
    while isinstance(fields, dict | list) and fields and (holder is None or rng.random() < 0.6):
        holder = fields
        key = rng.choice(sorted(fields)) if isinstance(fields, dict) else rng.randrange(len(fields))
        where += f".{key}" if where else str(key)
        fields = fields[key]
    return holder, key, where


def _another(value: Json, rng: random.Random) -> Json:
    while (made := _other_value(value, rng)) == value and type(made) is type(value):
        pass
    return made


def _other_value(value: Json, rng: random.Random) -> Json:
    if rng.random() < 0.25:
        return rng.choice([other for other in OTHER_TYPES if type(other) is not type(value)])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return rng.choice([value + 1, value - 1, value * 2, value // 2, 0, 1])
    if isinstance(value, float):
        return rng.choice([value * 2, value / 2, 0.0, 0.1, -value])
    if isinstance(value, str):
        return rng.choice([value.upper(), value.lower(), value + "x", *WORDS])
    if isinstance(value, list):
        return rng.choice([[], value[:-1], value[::-1], value * 2, [1]])
    return {} if value else {"a": 1}


def _add_key(directory: Path, other: Path, rng: random.Random) -> Change:
    """Of a file that is there; of the transformer's where it has a folder of its own."""
    there = sorted(
        path
        for path in directory.rglob("*.json")
        if str(path.relative_to(directory)) in ADDED or path.name in ADDED
    )
    path = rng.choice(there)
    added = ADDED.get(str(path.relative_to(directory))) or ADDED[path.name]
    key = rng.choice(sorted(added))
    fields = json.loads(path.read_bytes())
    fields[key] = added[key]
    if key == "default_prompt_name":
        fields["prompts"] = ADDED["config_sentence_transformers.json"]["prompts"]
    path.write_text(json.dumps(fields))
    return Change(f"{path.relative_to(directory)}: {key} = {_short(json.dumps(added[key]))}")


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


# ---- files


def _change_file(directory: Path, other: Path, rng: random.Random) -> Change:
    path = rng.choice(sorted(path for path in directory.rglob("*") if path.is_file()))
    what = rng.choice(("deleted", "emptied", "cut off", "renamed", "null", "a list"))
    if what == "deleted":
        path.unlink()
    elif what == "renamed":
        path.rename(path.with_name(path.name + ".bak"))
    else:
        whole = path.read_bytes()
        cut = whole[: rng.randrange(max(len(whole), 1))]
        path.write_bytes({"emptied": b"", "cut off": cut, "null": b"null", "a list": b"[]"}[what])
    return Change(f"{path.relative_to(directory)}: {what}")


def _take_file(directory: Path, other: Path, rng: random.Random) -> Change:
    theirs = sorted(path.relative_to(other) for path in other.rglob("*") if path.is_file())
    name = rng.choice(theirs)
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(other / name, directory / name)
    return Change(f"{name}: that of {other.name}", swapped=True)
