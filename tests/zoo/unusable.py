"""Directories of which Holdfast cannot compute what their publishers mean, and one reason each."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from tests.support.model_directories import change_json, change_weights
from tests.zoo.bases import dnabert2
from tests.zoo.proteins import antiberta2, esm2
from tests.zoo.sentences import sentences
from tests.zoo.texts import bert, bert_weights
from tests.zoo.vocabularies import WORDS, wordpiece, write_json, write_wordpiece

Make = Callable[[Path], None]
Change = Callable[[Path], None]


def changed(make: Make, *changes: Change) -> Make:
    """A model, and what is done to its directory then."""

    def both(directory: Path) -> None:
        make(directory)
        for change in changes:
            change(directory)

    return both


def with_keys(name: str = "config.json", **fields: object) -> Change:
    """Keys of one of its files."""
    return lambda directory: change_json(directory / name, **fields)


def without(name: str) -> Change:
    return lambda directory: (directory / name).unlink()


# ---- quantized weights


def esm2_in_int8(directory: Path) -> None:
    """What bitsandbytes leaves of an 8-bit model: each row's scale stands beside its weights."""
    esm2(directory)
    _quantize(directory, "SCB", lambda tensor: tensor.abs().amax(1), 127, torch.int8)
    change_json(
        directory / "config.json",
        quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True, "load_in_4bit": False},
    )


def bert_in_float8(directory: Path) -> None:
    """What compressed-tensors leaves: the tensor's scale stands beside it."""
    bert(directory)
    _quantize(directory, "weight_scale", lambda tensor: tensor.abs().max()[None], 448, torch.float8_e4m3fn)
    change_json(
        directory / "config.json",
        quantization_config={"quant_method": "compressed-tensors", "format": "float-quantized"},
    )


def _quantize(
    directory: Path,
    beside: str,
    scale_of: Callable[[torch.Tensor], torch.Tensor],
    most: int,
    dtype: torch.dtype,
) -> None:
    def quantize(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if ".layer." in name and tensors[name].dim() == 2]:
            scale = scale_of(tensors[name])
            scaled = tensors[name] / (scale[:, None] if scale.numel() > 1 else scale) * most
            tensors[name] = (scaled.round() if dtype == torch.int8 else scaled).to(dtype)
            tensors[name.replace("weight", beside)] = scale

    change_weights(directory, quantize)


# ---- adapters


def with_adapter(kind: str = "LORA", **fields: Any) -> Change:
    """A PEFT adapter beside the weights of an ESM-2: query and value, of rank 8."""

    def change(directory: Path) -> None:
        generator = torch.Generator().manual_seed(3)
        weights = {
            f"base_model.model.encoder.layer.{layer}.attention.self.{part}.lora_{side}.weight": torch.randn(
                (8, 64) if side == "A" else (64, 8), generator=generator
            ) / 4
            for layer in range(2) for part in ("query", "value") for side in "AB"
        }  # fmt: skip
        save_file(weights, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        settings = {
            "peft_type": kind, "r": 8, "lora_alpha": 16, "target_modules": ["query", "value"], "bias": "none",
            "fan_in_fan_out": False, "task_type": "FEATURE_EXTRACTION", "base_model_name_or_path": "org/base",
        }  # fmt: skip
        write_json(directory / "adapter_config.json", {**settings, **fields})

    return change


# ---- code and modules of their own


CODE = """from transformers import BertModel


class MyBert(BertModel):
    def forward(self, *args, **named):
        output = super().forward(*args, **named)
        output.last_hidden_state = output.last_hidden_state * 2 + 1
        return output
"""


def with_code(directory: Path) -> None:
    (directory / "modeling_my.py").write_text(CODE)
    change_json(directory / "config.json", auto_map={"AutoModel": "modeling_my.MyBert"})


def static_embedding(directory: Path) -> None:
    """sentence-transformers' model without a transformer."""
    torch.manual_seed(1)
    SentenceTransformer(modules=[StaticEmbedding(wordpiece(), embedding_dim=64)], device="cpu").save(
        str(directory)
    )


def model2vec(directory: Path) -> None:
    static_embedding(directory)
    (directory / "config_sentence_transformers.json").unlink()
    fields = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "normalize": True,
        "hidden_dim": 64,
    }
    write_json(directory / "config.json", fields)


def router(directory: Path) -> None:
    """Another model for queries than for documents."""
    inner, base = directory / "document_0_Transformer", directory / "query_0_Transformer"
    for folder in (inner, base):
        sentences()(folder)
        shutil.move(folder / "1_Pooling", directory / f"{folder.name.partition('_')[0]}_1_Pooling")
    types = {
        f"{route}_{place}_{name}": f"sentence_transformers.models.{name}"
        for route in ("query", "document") for place, name in enumerate(("Transformer", "Pooling"))
    }  # fmt: skip
    structure = {route: [name for name in types if name.startswith(route)] for route in ("query", "document")}
    settings = {"types": types, "structure": structure, "parameters": {"default_route": "document"}}
    write_json(directory / "router_config.json", settings)
    write_json(
        directory / "modules.json",
        [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Router"}],
    )


def cross_encoder(directory: Path) -> None:
    """A model of pairs of texts: it has no vector of one."""
    bert(directory, kind="BertForSequenceClassification", num_labels=1)
    write_json(
        directory / "config_sentence_transformers.json",
        {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.activation.Sigmoid"},
    )
    change_json(directory / "config.json", sentence_transformers={"version": "5.0.0"})


# ---- tokenizers


def geneformer(directory: Path) -> None:
    """Tokens are ranked genes: there is no tokenizer."""
    bert_weights(directory, 300, kind="BertForMaskedLM", hidden_act="relu")


# ---- weights


def pickled(make: Make) -> Make:
    """The same with pytorch_model.bin in place of safetensors."""

    def change(directory: Path) -> None:
        path = directory / "model.safetensors"
        torch.save(load_file(path), directory / "pytorch_model.bin")
        path.unlink()

    return changed(make, change)


def pickled_beside(directory: Path) -> None:
    """Other weights than those of model.safetensors, which goes before them."""
    weights = {name: -tensor for name, tensor in load_file(directory / "model.safetensors").items()}
    torch.save(weights, directory / "pytorch_model.bin")


def in_bfloat16(directory: Path) -> None:
    change_weights(directory, lambda tensors: tensors.update({n: t.bfloat16() for n, t in tensors.items()}))
    change_json(directory / "config.json", dtype="bfloat16")


def hub_snapshot(directory: Path) -> None:
    """Links to blobs, as the hub's client makes them."""
    cache = directory.parent / f"{directory.name}_cache"
    blobs, snapshot = cache / "blobs", cache / "snapshots" / "0123456789abcdef"
    bert(blobs)
    snapshot.mkdir(parents=True)
    for index, path in enumerate(sorted(blobs.iterdir())):
        (snapshot / path.name).symlink_to(path.rename(blobs / f"blob{index}"))
    directory.rmdir()
    directory.symlink_to(snapshot)


def cut_off(directory: Path) -> None:
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def without_a_tensor(directory: Path) -> None:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[next(name for name in tensors if name.endswith("attention.self.query.weight"))]

    change_weights(directory, drop)


def in_parts_of_which_one_is_missing(directory: Path) -> None:
    in_parts(directory)
    (directory / _PARTS[1]).unlink()


def in_parts(directory: Path) -> None:
    """Two files of weights, and the index that says which tensor lies in which."""
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    names = sorted(tensors)
    weight_map = {name: _PARTS[place >= len(names) // 2] for place, name in enumerate(names)}
    for part in _PARTS:
        held = {name: tensors[name] for name in names if weight_map[name] == part}
        save_file(held, directory / part, metadata={"format": "pt"})
    size = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    write_json(directory / "model.safetensors.index.json", index)


_PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def hub_cache(directory: Path) -> None:
    """The folder above the snapshots, which the hub's client makes."""
    made = directory / "models--org--model" / "snapshots" / "0a1b2c"
    bert(made)
    (made.parent.parent / "refs").mkdir()
    (made.parent.parent / "refs" / "main").write_text(made.name)


def dnabert2_of_the_hub(directory: Path) -> None:
    """Pickled weights alone."""
    pickled(dnabert2)(directory)


def antiberta2_of_the_hub(directory: Path) -> None:
    """RoFormer's own tokenizer, which wants a package that is rarely there."""
    antiberta2(directory, fast=False)


def bert_of_rows(directory: Path) -> None:
    """Fewer embeddings than the tokenizer has tokens."""
    bert(directory)
    write_wordpiece(directory, (*WORDS, "mitochondrial", "chaperonin"))
