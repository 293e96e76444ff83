"""Model directories for the tests, and the shortest way to embed with one."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from tokenizers import ByteLevelBPETokenizer, Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    EsmConfig,
    EsmForMaskedLM,
    EsmModel,
    EsmTokenizer,
    MPNetConfig,
    MPNetModel,
    MPNetTokenizer,
    PreTrainedModel,
    RobertaModel,
)

from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import EmbeddingModel, StoreDtype
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.inference.rows import split_rows
from gpu_tasks.inference.runner import AsyncInferenceRunner
from gpu_tasks.inference.segments import LongRule
from gpu_tasks.inference.windows import combine_windows
from gpu_tasks.model_directory.reader import read_model
from queue_app.model.spec import ModelSpec
from tests.support.minilm import MINILM
from tests.zoo.vocabularies import ESM2_VOCABULARY

ESM2_8M = {"num_hidden_layers": 6, "hidden_size": 320}
ESM2_35M = {"num_hidden_layers": 12, "hidden_size": 480}
TINY = {"num_hidden_layers": 2, "hidden_size": 80}

Tensors = dict[str, torch.Tensor]


def save_esm2(directory: Path, *, masked_lm: bool = False, **changed: Any) -> Path:
    """An ESM-2 of random weights, laid out as the published ones are. `changed` goes to the config."""
    return change_weights(save_esm2_in_parts(directory, masked_lm=masked_lm, **changed), _name_as_published)


def save_esm2_in_parts(
    directory: Path, *, masked_lm: bool = False, max_shard_size: str = "1GB", **changed: Any
) -> Path:
    """The same as transformers saves it: in several files, under the names that it prefers."""
    config = EsmConfig(**_esm2_config(**{**TINY, **changed}))
    model = EsmForMaskedLM(config) if masked_lm else EsmModel(config, add_pooling_layer=False)
    randomize(model)
    model.save_pretrained(directory, max_shard_size=max_shard_size)
    (directory / "vocab.txt").write_text("\n".join(ESM2_VOCABULARY))
    return directory


def save_bert(directory: Path, *, masked_lm: bool = False, **changed: Any) -> Path:
    """A BERT of random weights with MiniLM's tokenizer, without modules.json."""
    config = BertConfig(**{**TINY, "num_attention_heads": 4, "intermediate_size": 160, **changed})
    randomize(model := BertForMaskedLM(config) if masked_lm else BertModel(config, add_pooling_layer=False))
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((MINILM / name).read_bytes())
    return directory


def save_mpnet(directory: Path, **changed: Any) -> Path:
    """An MPNet of random weights with MPNet's tokenizer over MiniLM's words, without modules.json."""
    words = json.loads((MINILM / "tokenizer.json").read_bytes())["model"]["vocab"]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *words, "<mask>"]
    shape = {"num_attention_heads": 4, "intermediate_size": 160, "max_position_embeddings": 514}
    config = MPNetConfig(**{**TINY, **shape, "vocab_size": len(vocabulary), **changed})
    randomize(model := MPNetModel(config, add_pooling_layer=False))
    model.save_pretrained(directory)
    tokenizer = MPNetTokenizer(vocab={word: index for index, word in enumerate(vocabulary)})
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(directory)
    return directory


def save_mosaic(directory: Path, *, prefix: str = "bert.", **changed: Any) -> Path:
    """A DNABERT-2 of random weights, laid out as the published one, with a tokenizer of the same kind."""
    directory.mkdir(exist_ok=True)
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=200, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"], show_progress=False
    )
    bases = random.Random(1)
    tokenizer.train_from_iterator(["".join(bases.choices("ACGT", k=200)) for _ in range(50)], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(directory / "tokenizer.json"))
    named = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **named, "mask_token": "[MASK]"}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    config = {**_DNABERT2, "vocab_size": tokenizer.get_vocab_size(), **changed}
    (directory / "config.json").write_text(json.dumps(config))
    shapes = _mosaic_shapes(config)
    model = torch.nn.ParameterDict(
        {name.replace(".", "/"): torch.nn.Parameter(torch.empty(shape)) for name, shape in shapes.items()}
    )
    randomize(model)
    tensors = {prefix + name.replace("/", "."): parameter.detach() for name, parameter in model.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def save_roberta(directory: Path, kind: type[PreTrainedModel] = RobertaModel, **changed: Any) -> Path:
    """A RoBERTa of random weights, with a byte-level tokenizer of its own and without modules.json."""
    shape = {"num_attention_heads": 4, "intermediate_size": 160, "type_vocab_size": 1, "pad_token_id": 1}
    config = kind.config_class(**{**TINY, **shape, "max_position_embeddings": 514, **changed})
    randomize(model := kind(config, add_pooling_layer=False))
    model.save_pretrained(directory)
    save_byte_tokenizer(directory, processors.RobertaProcessing(("</s>", 2), ("<s>", 0)))
    return directory


def save_byte_tokenizer(directory: Path, post_processor: object) -> None:
    """A byte-level tokenizer of 300 tokens: <s>, <pad>, </s>, <unk> and <mask> are the first."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        ["a protein kinase of the ATP-binding subunit"] * 9,
        vocab_size=300,
        show_progress=False,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    )
    tokenizer.post_processor = post_processor
    tokenizer.save(str(directory / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **named}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))


def randomize(model: torch.nn.Module) -> None:
    """Weights that hide nothing: fresh models have biases of 0 and norms of 1, which may be left out."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim == 2:
                parameter.copy_(noise if "embeddings" in name else noise * parameter.shape[1] ** -0.5)
            else:
                parameter.copy_(0.1 * noise + float(name.endswith("weight")))


def with_contact_head(directory: Path, *, scale: float = 8.0, bias: float = -3.0) -> Path:
    """Numbers as a trained head has them: contacts are rare, and the attention that it weighs is small."""

    def change(tensors: Tensors) -> None:
        (prefix,) = {name.partition("contact_head.")[0] for name in tensors if "contact_head." in name}
        weight = tensors[f"{prefix}contact_head.regression.weight"]
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
        tensors[f"{prefix}contact_head.regression.weight"] = (scale * noise).to(weight.dtype)
        tensors[f"{prefix}contact_head.regression.bias"] = torch.tensor([bias], dtype=weight.dtype)

    return change_weights(directory, change)


def contacts_of_transformers(directory: Path, sequences: Sequence[str]) -> list[npt.NDArray[np.float32]]:
    """[L, L] of each, one sequence at a time, as `predict_contacts` has them."""
    model = EsmForMaskedLM.from_pretrained(directory, attn_implementation="eager").eval()
    tokenizer = EsmTokenizer.from_pretrained(directory)
    found = []
    for sequence in sequences:
        encoded = tokenizer(sequence, return_tensors="pt")
        with torch.inference_mode():
            found.append(model.predict_contacts(encoded["input_ids"], encoded["attention_mask"])[0].numpy())
    return found


def contact_maps(model: EmbeddingModel, sequences: Sequence[str]) -> list[npt.NDArray[np.float32]]:
    """[L, L] of each, through the planner and the runner."""
    rows = token_rows(model, [*sequences])
    return [row.reshape(len(each), len(each)) for each, row in zip(sequences, rows, strict=True)]


def change_weights(directory: Path, change: Callable[[Tensors], None]) -> Path:
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    return directory


def change_config(directory: Path, **changed: object) -> Path:
    """None takes a key out."""
    change_json(directory / "config.json", **changed)
    return directory


def change_json(path: Path, **changed: object) -> None:
    fields = {**json.loads(path.read_bytes()), **changed}
    path.write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))


def spec_of(directory: Path) -> ModelSpec:
    return read_model(directory).spec


def plan_for(
    model: EmbeddingModel,
    sequences: Sequence[str],
    *,
    toks_per_batch: int = 2048,
    long: LongRule = "window",
    window_overlap: int = 0,
    max_length: int | None = None,
) -> BatchPlan:
    return plan_batches(
        model.tokenize(sequences),
        range(len(sequences)),
        prefix=model.prefix,
        suffix=model.suffix,
        toks_per_batch=toks_per_batch,
        max_length=max_length or model.max_length,
        long=long,
        window_overlap=window_overlap,
    )


def embed(
    model: EmbeddingModel, sequences: Sequence[str], *, store_dtype: StoreDtype = "float32", **planning: Any
) -> npt.NDArray[np.float32]:
    """One row per sequence, in their order, through the planner, the runner and the windows."""
    plan = plan_for(model, sequences, **planning)
    results = list(AsyncInferenceRunner(model, store_dtype=store_dtype).run(plan))
    ordinals, vectors = combine_windows(
        np.concatenate([result.ordinals for result in results]),
        [row for result in results for row in split_rows(result.embeddings, None)],
        model.readout.side_by_side,
        lambda ordinal: model.left.pooled(*plan.owned(ordinal)),
        model.finish,
        nothing=np.empty((0, model.dim), store_dtype),
    )
    assert ordinals.tolist() == list(range(len(sequences)))
    return vectors.astype(np.float32)


def token_rows(model: EmbeddingModel, sequences: list[str]) -> list[npt.NDArray[np.float32]]:
    """[L, dim] of every sequence."""
    results = list(AsyncInferenceRunner(model).run(plan_for(model, sequences)))
    found = {
        int(ordinal): row
        for result in results
        for ordinal, row in zip(result.ordinals, split_rows(result.embeddings, result.offsets), strict=True)
    }
    assert all(result.finite.all() for result in results)
    return [found[number] for number in range(len(sequences))]


def cosines(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    similar: npt.NDArray[np.float32] = (left * right).sum(axis=1) / norms
    return similar


_DNABERT2 = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "auto_map": {"AutoModel": "bert_layers.BertModel", "AutoModelForMaskedLM": "bert_layers.BertForMaskedLM"},
    "alibi_starting_size": 512,
    "position_embedding_type": "absolute",
    "max_position_embeddings": 512,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "num_hidden_layers": 2,
    "hidden_size": 96,
    "num_attention_heads": 12,
    "intermediate_size": 128,
}


def _mosaic_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    dim, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], dim),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], dim),
        "embeddings.LayerNorm.weight": (dim,),
        "embeddings.LayerNorm.bias": (dim,),
    }
    layer: dict[str, tuple[int, ...]] = {
        "attention.self.Wqkv.weight": (3 * dim, dim),
        "attention.self.Wqkv.bias": (3 * dim,),
        "attention.output.dense.weight": (dim, dim),
        "attention.output.dense.bias": (dim,),
        "attention.output.LayerNorm.weight": (dim,),
        "attention.output.LayerNorm.bias": (dim,),
        "mlp.gated_layers.weight": (2 * inner, dim),
        "mlp.wo.weight": (dim, inner),
        "mlp.wo.bias": (dim,),
        "mlp.layernorm.weight": (dim,),
        "mlp.layernorm.bias": (dim,),
    }
    for index in range(config["num_hidden_layers"]):
        shapes |= {f"encoder.layer.{index}.{name}": shape for name, shape in layer.items()}
    return shapes


def _name_as_published(tensors: Tensors) -> None:
    """transformers 5 saves the names of the first TensorFlow models."""
    for name in list(tensors):
        new = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        tensors[new] = tensors.pop(name)


def _esm2_config(**changed: Any) -> dict[str, Any]:
    """That of facebook/esm2_t6_8M_UR50D and its larger sisters."""
    return {
        "vocab_size": len(ESM2_VOCABULARY),
        "mask_token_id": ESM2_VOCABULARY.index("<mask>"),
        "pad_token_id": ESM2_VOCABULARY.index("<pad>"),
        "num_attention_heads": 20,
        "intermediate_size": 4 * changed["hidden_size"],
        "max_position_embeddings": 1026,
        "layer_norm_eps": 1e-5,
        "position_embedding_type": "rotary",
        "emb_layer_norm_before": False,
        "token_dropout": True,
        **changed,
    }
