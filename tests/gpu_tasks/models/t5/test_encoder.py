"""T5's encoder against transformers and sentence-transformers, a sequence at a time, with random weights."""

import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from transformers import (
    AutoTokenizer,
    MT5Config,
    MT5EncoderModel,
    PreTrainedModel,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5ForTokenClassification,
    UMT5Config,
    UMT5EncoderModel,
)

from gpu_tasks import load_model
from gpu_tasks.errors import ModelLoadError
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models.auto import HuggingFaceEncoder
from gpu_tasks.models.loading import load
from gpu_tasks.models.t5.encoder import T5
from queue_app.model.spec import EncoderSpec, parse_spec
from queue_app.model.wording import model_differences
from tests.support.families import RESIDUES, save_t5
from tests.support.model_directories import (
    Tensors,
    change_config,
    change_weights,
    cosines,
    embed,
    randomize,
    save_esm2,
    spec_of,
)
from tests.zoo.vocabularies import T5_SPECIAL

Vectors = npt.NDArray[np.float32]

PROTT5_XL = {"d_model": 1024, "d_kv": 128, "d_ff": 16384, "num_heads": 32, "num_layers": 1}
"""https://huggingface.co/Rostlab/prot_t5_xl_uniref50/blob/main/config.json, but for its 24 layers."""
ANKH_LARGE = {
    "d_model": 1536, "d_kv": 64, "d_ff": 3840, "num_heads": 16, "num_layers": 1,
    "relative_attention_num_buckets": 64, "feed_forward_proj": "gated-gelu",
}  # fmt: skip
"""https://huggingface.co/ElnaggarLab/ankh-large/blob/main/config.json, but for its 48 layers."""
GATED = {"feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 64}
WIDE = {"d_kv": 24, "num_heads": 3}
"""As many numbers in all heads as the model has not."""


def protein(length: int) -> str:
    return "".join(random.Random(length).choices("ACDEFGHIKLMNPQRSTVWY", k=length))


PROTEINS = [protein(length) for length in (1, 2, 3, 9, 9, 31, 64, 127, 128, 129, 200)]
LENGTHS = [*range(1, 40), *range(40, 1100, 97), 1099, 1100]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_t5(tmp_path_factory.mktemp("t5"), **WIDE)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_t5(tmp_path_factory.mktemp("gated"), **WIDE, **GATED)


def states(
    directory: Path,
    sequence: str,
    kind: type[PreTrainedModel] = T5EncoderModel,
    dtype: torch.dtype = torch.float32,
    model: PreTrainedModel | None = None,
) -> list[torch.Tensor]:
    """Hidden states of the residues behind each layer, by transformers, of one sequence alone."""
    model = model or kind.from_pretrained(directory, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    encoded = tokenizer(" ".join(sequence), return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**encoded, output_hidden_states=True).hidden_states
    return [each[0, :-1].float() for each in hidden]


def means(directory: Path, sequences: list[str], *, layer: int = -1, **options: Any) -> Vectors:
    options["model"] = options.get("model") or (
        options.pop("kind", T5EncoderModel)
        .from_pretrained(directory, dtype=options.pop("dtype", torch.float32))
        .eval()
    )
    found = [states(directory, each, **options)[layer].mean(dim=0).numpy() for each in sequences]
    return np.array(found)


def assert_close(found: Vectors, expected: Vectors, most: float = 1e-5) -> None:
    """By the length of each vector."""
    apart = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert apart.max() <= most


def is_native(directory: Path) -> bool:
    return isinstance(load_model(str(directory)).encoder, T5)  # type: ignore[attr-defined]


# ---- the same vectors


@pytest.mark.parametrize("shape", [PROTT5_XL, ANKH_LARGE], ids=["ProtT5-XL", "Ankh-large"])
def test_the_published_widths_have_the_vectors_of_transformers(tmp_path: Path, shape: dict[str, Any]) -> None:
    directory = save_t5(tmp_path, **shape)
    sequences = [protein(length) for length in (1, 30, 1100)]
    assert is_native(directory)
    assert_close(embed(load_model(str(directory)), sequences), means(directory, sequences))


@pytest.mark.parametrize("which", ["tiny", "gated"])
def test_rows_of_every_length_have_the_vectors_of_transformers(
    which: str, request: pytest.FixtureRequest
) -> None:
    directory = request.getfixturevalue(which)
    sequences = [protein(length) for length in LENGTHS]
    assert_close(embed(load_model(str(directory)), sequences), means(directory, sequences))


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_inner_layers_are_the_hidden_states_of_transformers(tiny: Path, layer: int) -> None:
    vectors = embed(load_model(str(tiny), layers=(layer,)), PROTEINS)
    assert_close(vectors, means(tiny, PROTEINS, layer=layer))


@pytest.mark.parametrize("projection", ["relu", "gelu_new", "gated-relu", "gated-gelu_new"])
def test_each_feed_forward_is_that_of_transformers(tmp_path: Path, projection: str) -> None:
    directory = save_t5(tmp_path, feed_forward_proj=projection)
    assert is_native(directory)
    assert_close(embed(load_model(str(directory)), PROTEINS), means(directory, PROTEINS))


@pytest.mark.parametrize(
    "changed", [{"layer_norm_epsilon": 0.1}, {"num_heads": 8}, {"d_kv": 8}, {"num_layers": 1}], ids=str
)
def test_the_configuration_is_heeded(tmp_path: Path, changed: dict[str, Any]) -> None:
    directory = save_t5(tmp_path, **changed)
    assert_close(embed(load_model(str(directory)), PROTEINS), means(directory, PROTEINS))


def test_an_mt5_has_the_vectors_of_transformers(tmp_path: Path) -> None:
    directory = save_t5(tmp_path, MT5EncoderModel, feed_forward_proj="gated-gelu")
    assert isinstance(MT5EncoderModel.from_pretrained(directory).config, MT5Config)
    assert is_native(directory)
    assert_close(
        embed(load_model(str(directory)), PROTEINS), means(directory, PROTEINS, kind=MT5EncoderModel)
    )


def test_a_sentence_model_has_the_vectors_of_sentence_transformers(tiny: Path, tmp_path: Path) -> None:
    """Pooling, a dense layer without a bias, unit length: as sentence-t5 and gtr-t5."""
    dense = Dense(64, 32, bias=False, activation_function=torch.nn.Identity())
    randomize(dense)
    modules = [Transformer(str(tiny)), Pooling(64, pooling_mode="mean"), dense, Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path), create_model_card=False)
    texts = [" ".join(each) for each in PROTEINS]
    expected = SentenceTransformer(str(tmp_path), device="cpu")
    model = read_model(tmp_path, rules="plain")
    vectors = embed(load(model.spec, model.tokenizer), texts)
    assert model.spec.family == "t5"
    assert_close(vectors, np.stack([expected.encode(text) for text in texts]))


# ---- dtypes


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("which", ["tiny", "gated"])
def test_half_precision_is_as_close_as_that_of_transformers(
    which: str, dtype: str, request: pytest.FixtureRequest
) -> None:
    directory = request.getfixturevalue(which)
    exact = means(directory, PROTEINS)
    theirs = means(directory, PROTEINS, dtype=getattr(torch, dtype))
    ours = embed(load_model(str(directory), dtype=dtype), PROTEINS)
    apart = [np.linalg.norm(each - exact, axis=1).mean() for each in (ours, theirs)]
    assert apart[0] <= 1.25 * apart[1]
    assert cosines(ours, theirs).min() > (0.999 if dtype == "bfloat16" else 0.99999)


def test_sums_that_outgrow_float16_are_kept(tmp_path: Path) -> None:
    """As transformers does, which holds what the feed-forward adds in float32."""

    def enlarge(tensors: Tensors) -> None:
        for name in tensors:
            tensors[name] *= 30_000.0 if name.endswith("wo.weight") else 1.0

    directory = change_weights(save_t5(tmp_path, num_layers=3), enlarge)
    assert states(directory, PROTEINS[-1])[-2].abs().max() > torch.finfo(torch.float16).max
    vectors = embed(load_model(str(directory), dtype="float16"), PROTEINS)
    assert np.isfinite(vectors).all()
    assert_close(vectors, means(directory, PROTEINS), 5e-3)
    assert_close(vectors, means(directory, PROTEINS, dtype=torch.float16), 5e-3)


# ---- rows


def test_a_row_of_no_numbers_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    def harm(tensors: Tensors) -> None:
        tensors["shared.weight"][len(T5_SPECIAL) + RESIDUES.index("W")] = math.nan

    directory = change_weights(save_t5(tmp_path), harm)
    model = load_model(str(directory))
    vectors = embed(model, ["MKTAY", "WWWWW", "MKTA", "MKWA", "MKT"])
    assert np.isnan(vectors[[1, 3]]).all()
    assert_close(vectors[[0, 2, 4]], means(directory, ["MKTAY", "MKTA", "MKT"]))


# ---- layouts


@pytest.mark.parametrize("kind", [T5ForConditionalGeneration, T5ForTokenClassification])
def test_the_encoder_of_a_larger_model_is_found(tmp_path: Path, kind: type[PreTrainedModel]) -> None:
    directory = save_t5(tmp_path, kind)
    assert is_native(directory)
    assert_close(embed(load_model(str(directory)), PROTEINS), means(directory, PROTEINS))


def _rename(tensors: Tensors) -> None:
    tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")


def _both(tensors: Tensors) -> None:
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"].clone()


def _two(tensors: Tensors) -> None:
    tensors["encoder.embed_tokens.weight"] = 3 - tensors["shared.weight"]


@pytest.mark.parametrize("change", [_rename, _both, _two])
def test_the_word_embeddings_are_those_that_transformers_takes(
    tmp_path: Path, change: Callable[[Tensors], None]
) -> None:
    directory = change_weights(save_t5(tmp_path), change)
    assert is_native(directory)
    assert_close(embed(load_model(str(directory)), PROTEINS), means(directory, PROTEINS))


@pytest.mark.parametrize(
    "name",
    [
        "shared.weight",
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "encoder.block.1.layer.0.SelfAttention.o.weight",
        "encoder.block.1.layer.1.DenseReluDense.wi.weight",
        "encoder.final_layer_norm.weight",
    ],
)
def test_a_missing_or_misshapen_weight_is_named_before_anything_is_loaded(tmp_path: Path, name: str) -> None:
    directory = change_weights(save_t5(tmp_path), lambda all_: all_.update({name: all_[name][:-1].clone()}))
    named = "encoder.embed_tokens.weight" if name == "shared.weight" else name
    with pytest.raises(ModelLoadError, match=rf"{named} has the shape .*; by config\.json it is"):
        read_model(directory)
    change_weights(directory, lambda all_: all_.pop(name))
    with pytest.raises(ModelLoadError, match=f"weights lack {named}"):
        read_model(directory)


# ---- what is left to transformers


@pytest.mark.parametrize(
    "changed",
    [
        {"feed_forward_proj": "gated-silu"},
        {"feed_forward_proj": "gelu"},
        {"relative_attention_num_buckets": 16},
        {"relative_attention_max_distance": 100},
    ],
    ids=str,
)
def test_a_variant_is_left_to_transformers(tmp_path: Path, changed: dict[str, Any]) -> None:
    directory = save_t5(tmp_path, **changed)
    assert not is_native(directory)
    assert_close(embed(load_model(str(directory)), PROTEINS), means(directory, PROTEINS))


@pytest.mark.parametrize(
    "changed",
    [{"dense_act_fn": "gelu"}, {"is_gated_act": 1}, {"is_causal": True}, {"is_decoder": True}],
    ids=str,
)
def test_a_key_that_transformers_heeds_is_not_overlooked(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert spec_of(change_config(save_t5(tmp_path), **changed)).family == "auto"


def test_a_dropout_with_which_transformers_makes_no_model_is_refused(tmp_path: Path) -> None:
    directory = change_config(save_t5(tmp_path), dropout_rate=-1)
    with pytest.raises(ModelLoadError, match="dropout_rate=-1: not a probability"):
        read_model(directory)


def test_an_activation_that_was_saved_counts_before_the_projection(tmp_path: Path) -> None:
    directory = change_config(save_t5(tmp_path), dense_act_fn="gelu_new")
    assert_close(embed(load_model(str(directory)), PROTEINS), means(directory, PROTEINS))


def test_a_umt5_whose_layers_have_a_bias_each_is_left_to_transformers(tmp_path: Path) -> None:
    directory = save_t5(tmp_path, UMT5EncoderModel)
    assert isinstance(UMT5EncoderModel.from_pretrained(directory).config, UMT5Config)
    assert not is_native(directory)


# ---- adapters


def test_a_lora_of_the_attention_is_merged(tmp_path: Path) -> None:
    directory = save_t5(tmp_path)
    plain = embed(load_model(str(directory)), PROTEINS)
    tuned, halves = T5EncoderModel.from_pretrained(directory).eval(), dict[str, torch.Tensor]()
    generator = torch.Generator().manual_seed(5)
    for name, module in tuned.named_modules():
        if name.endswith(("SelfAttention.q", "SelfAttention.k", "SelfAttention.v", "SelfAttention.o")):
            first = torch.randn(4, module.in_features, generator=generator) * 0.2
            second = torch.randn(module.out_features, 4, generator=generator) * 0.2
            stem = f"base_model.model.{name}"
            halves |= {f"{stem}.lora_A.weight": first, f"{stem}.lora_B.weight": second}
            module.register_forward_hook(partial(_add, first, second))
    save_file(halves, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    settings = {"peft_type": "LORA", "bias": "none", "r": 4, "lora_alpha": 8, "target_modules": [*"qkvo"]}
    (directory / "adapter_config.json").write_text(json.dumps(settings))
    vectors = embed(load_model(str(directory)), PROTEINS)
    assert is_native(directory)
    assert np.abs(vectors - plain).max() > 0.01
    assert_close(vectors, means(directory, PROTEINS, model=tuned), 2e-5)


def _add(first: torch.Tensor, second: torch.Tensor, _: object, inputs: Any, output: Any) -> Any:
    return output + 2 * (inputs[0] @ first.T @ second.T)


# ---- jobs that were begun before


def test_a_job_that_transformers_began_goes_on_with_transformers(tiny: Path) -> None:
    found = read_model(tiny)
    begun = replace(found.spec, family="auto")
    model = load(begun, found.tokenizer)
    assert isinstance(model.encoder, HuggingFaceEncoder)  # type: ignore[attr-defined]
    assert_close(embed(model, PROTEINS), means(tiny, PROTEINS))


def test_a_job_that_transformers_began_is_told_from_one_of_packed_tokens(tiny: Path) -> None:
    new = spec_of(tiny)
    old = replace(new, family="auto", encoder=_without_new_fields(new.encoder))
    assert old.identity() != new.identity()
    assert list(model_differences(old, new)) == [
        ("run by", "transformers, padded", "Holdfast, without padding")
    ]


def test_the_specification_of_an_older_job_is_that_of_today_where_nothing_changed(tmp_path: Path) -> None:
    spec = spec_of(save_esm2(tmp_path))
    fields = json.loads(json.dumps(asdict(spec)))
    for name in _NEW:
        del fields["encoder"][name]
    assert parse_spec(fields).identity() == spec.identity()


_NEW = ("head_dim", "activation", "gated", "num_buckets", "farthest")


def _without_new_fields(spec: EncoderSpec) -> EncoderSpec:
    plain = {field: getattr(EncoderSpec("", "", (), 1, 1, 1, None), field) for field in _NEW}
    return replace(spec, **plain, intermediate_size=0, layer_norm_eps=1e-12)
