"""Which models run on packed tokens, against transformers itself: one text at a time."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import processors
from torch import Tensor
from transformers import AutoModel
from transformers.models.llama import modeling_llama

from gpu_tasks import load_model
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models.hugging_face import pack_attention, packing
from gpu_tasks.models.hugging_face.encoder import Batching, HuggingFaceEncoder
from gpu_tasks.models.hugging_face.probe_rows import change, hidden_rows, some_rows
from gpu_tasks.models.loading import load
from tests.support.families import save_of_type
from tests.support.model_directories import (
    change_json,
    embed,
    plan_for,
    spec_of,
)

END = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 96}
QWEN3 = {
    "hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 3072, "num_hidden_layers": 2,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
}  # fmt: skip
GEMMA = {
    "hidden_size": 768, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 256,
    "intermediate_size": 1152, "num_hidden_layers": 3, "sliding_window": 512, "query_pre_attn_scalar": 256,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
}  # fmt: skip
PACKED: dict[str, tuple[str, dict[str, Any]]] = {
    "ESM-C 300M": ("esmc", {"hidden_size": 960, "num_attention_heads": 15, "intermediate_size": 2560}),
    "ModernBERT-base": ("modernbert", {"num_hidden_layers": 4}),
    "Qwen3-Embedding-0.6B": ("qwen3", QWEN3),
    "EmbeddingGemma-300M": ("gemma3_text", {**GEMMA, "use_bidirectional_attention": True}),
    "Gemma 3": ("gemma3_text", {**GEMMA, "use_bidirectional_attention": False}),
    "DistilBERT": ("distilbert", {"n_layers": 2}),
    "nomic-embed": ("nomic_bert", {}),
    "Llama": ("llama", {**SHAPE, "num_key_value_heads": 2}),
    "Mistral": ("mistral", {**SHAPE, "num_key_value_heads": 2, "sliding_window": 40}),
    "ELECTRA": ("electra", SHAPE),
    "ALBERT": ("albert", SHAPE),
    "OPT": ("opt", {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "ffn_dim": 96}),
    "GPT-2": ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4}),
}
"""Model types with shapes as they were published, of fewer layers where that is all; the last are small."""
LEFT: dict[str, tuple[str, dict[str, Any], Batching]] = {
    "convolutions beside the attention": ("convbert", {**SHAPE, "embedding_size": 64}, "equal"),
    "a Fourier transform over the tokens": (
        "fnet", {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96}, "equal",
    ),
    "a state that goes on": ("mamba", {"hidden_size": 64, "num_hidden_layers": 2}, "padded"),
    "a convolution in some layers": (
        "lfm2", {**SHAPE, "num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]}, "padded",
    ),
    "positions that begin behind the padding": ("longformer", {**SHAPE, "attention_window": 16}, "padded"),
    "positions by distance": ("deberta-v2", {**SHAPE, "relative_attention": True}, "padded"),
    "positions by the length": ("bloom", {"n_head": 4, "n_layer": 2, "hidden_size": 64}, "padded"),
    "a cap on scores": ("gemma2", {**SHAPE, "num_key_value_heads": 2, "head_dim": 16}, "padded"),
    "chunks in the place of windows": (
        "llama4_text",
        {**SHAPE, "num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 1,
         "intermediate_size_mlp": 96, "attention_chunk_size": 8},
        "padded",
    ),
}  # fmt: skip
"""What speaks against packing, a model type that has it, its shape, and how it runs instead."""
LENGTHS = (640, 130, 130, 3, 1, 75)
"""Longer than each window but Gemma's own is wide twice over, out of order, and two of one length."""
WORDS = ["a", "protein", "kinase", "of", "the", "ATP-binding", "subunit,", "found", "in", "membranes"]
TEXTS = [" ".join((WORDS * 9)[count % 5 : count % 5 + count]) for count in (1, 40, 2, 7, 7, 19)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each of PACKED once."""
    found: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in found:
            kind, shape = PACKED[name]
            layers = {} if kind in ("distilbert", "gpt2") else {"num_hidden_layers": 3}
            found[name] = save_of_type(tmp_path_factory.mktemp("model"), kind, END, **{**layers, **shape})
        return found[name]

    return of


def encoder_of(directory: Path, **options: Any) -> HuggingFaceEncoder:
    encoder = load_model(str(directory), **options).encoder  # type: ignore[attr-defined]
    assert isinstance(encoder, HuggingFaceEncoder)
    return encoder


def rows_for(encoder: HuggingFaceEncoder, directory: Path) -> list[Tensor]:
    most = spec_of(directory).max_positions or 640
    return some_rows(encoder, [min(length, most) for length in LENGTHS], first=5)


def alone(directory: Path, row: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """The hidden states [length, dim] of each layer, by transformers."""
    model = AutoModel.from_pretrained(directory, dtype=dtype).eval()
    with torch.inference_mode():
        output = model(
            input_ids=row[None], attention_mask=torch.ones_like(row)[None], output_hidden_states=True
        )
    return (*(each[0] for each in output.hidden_states[:-1]), output.last_hidden_state[0])


# ---- the same vectors


@pytest.mark.parametrize("name", PACKED)
def test_a_row_in_a_pack_has_the_hidden_states_that_transformers_gives_it_alone(
    saved: Callable[[str], Path], name: str
) -> None:
    encoder = encoder_of(saved(name))
    assert encoder.batching == "packed"
    rows = rows_for(encoder, saved(name))
    for row, found in zip(rows, hidden_rows(encoder, "packed", rows), strict=True):
        assert change(found, alone(saved(name), row)[-1]) < 1e-5


@pytest.mark.parametrize(
    "name", ["ESM-C 300M", "ModernBERT-base", "Qwen3-Embedding-0.6B", "EmbeddingGemma-300M"]
)
@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_half_precision_stays_as_close_as_its_rounding(
    saved: Callable[[str], Path], name: str, dtype: str, most: float
) -> None:
    encoder = encoder_of(saved(name), dtype=dtype)
    assert encoder.batching == "packed"
    rows = rows_for(encoder, saved(name))[1:]
    for row, found in zip(rows, hidden_rows(encoder, "packed", rows), strict=True):
        assert change(found, alone(saved(name), row, getattr(torch, dtype))[-1]) < most


@pytest.mark.parametrize("name", ["ESM-C 300M", "ModernBERT-base", "Qwen3-Embedding-0.6B", "DistilBERT"])
def test_inner_layers_are_those_of_transformers(saved: Callable[[str], Path], name: str) -> None:
    num_layers = spec_of(saved(name)).num_layers
    model = load_model(str(saved(name)), pool="none", layers=tuple(range(num_layers + 1)))
    plan = plan_for(model, TEXTS)
    assert plan.num_batches == 1
    batch = plan.batch(0)
    found = model.stage(batch).launch("float32").wait()
    bounds = found.offsets
    assert bounds is not None
    for place, (start, stop) in enumerate(zip(batch.cu_seqlens, batch.cu_seqlens[1:], strict=False)):
        states = alone(saved(name), torch.from_numpy(batch.input_ids[start:stop].astype(np.int64)))
        expected = torch.cat(states, dim=1)[len(model.prefix) : stop - start - len(model.suffix)]
        own = torch.from_numpy(found.embeddings[bounds[place] : bounds[place + 1]])
        for layer in range(num_layers + 1):
            dim = expected.shape[1] // (num_layers + 1)
            columns = slice(layer * dim, (layer + 1) * dim)
            assert change(own[:, columns], expected[:, columns]) < 1e-5


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["Qwen3-Embedding-0.6B", "EmbeddingGemma-300M"])
def test_the_last_token_is_that_of_sentence_transformers_on_whichever_side_it_pads(
    saved: Callable[[str], Path], tmp_path: Path, name: str, side: str
) -> None:
    change_json(saved(name) / "tokenizer_config.json", padding_side=side)
    transformer = Transformer(str(saved(name)))
    dim = transformer.get_embedding_dimension()
    modules = [transformer, Pooling(dim, pooling_mode="lasttoken"), Normalize()]
    theirs = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "Find: "})
    theirs.save(str(tmp_path), create_model_card=False)
    theirs = SentenceTransformer(str(tmp_path), device="cpu")
    model = load_model(str(tmp_path))
    np.testing.assert_allclose(embed(model, TEXTS), theirs.encode(TEXTS, batch_size=3), atol=1e-5)


# ---- what is left to padding


@pytest.mark.parametrize("reason", LEFT)
def test_a_model_that_would_see_the_other_rows_of_a_pack_is_not_packed(tmp_path: Path, reason: str) -> None:
    kind, shape, batching = LEFT[reason]
    encoder = encoder_of(save_of_type(tmp_path, kind, END, **shape))
    assert encoder.batching == batching
    assert encoder.model.config._attn_implementation != pack_attention.NAME


def leaky(share: float) -> Callable[..., Tensor]:
    """A feed-forward that takes in some of the token before, as a convolution does."""
    forward = modeling_llama.LlamaMLP.forward

    def leaking(self: Any, x: Tensor) -> Tensor:
        return forward(self, x) + share * x.roll(1, dims=1)

    return leaking


@pytest.mark.parametrize("share", [1.0, 1e-5], ids=["much", "less than rounding is allowed"])
def test_a_row_that_leaks_into_the_next_is_seen_however_little(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", leaky(share))
    assert encoder_of(saved("Llama")).batching != "packed"


def test_what_only_the_last_row_leaks_into_the_first_is_seen(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = modeling_llama.LlamaMLP.forward

    def leaking(self: Any, x: Tensor) -> Tensor:
        first = torch.zeros_like(x)
        first[:, 0] = 1e-5 * x[:, -1]
        return forward(self, x) + first

    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", leaking)
    assert encoder_of(saved("Llama")).batching != "packed"


def test_a_window_that_is_off_by_one_is_seen(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the probe are longer than the window."""
    band_of = pack_attention.band_of

    def off(*arguments: Any) -> pack_attention.Band:
        band = band_of(*arguments)
        return replace(band, left=None if band.left is None else band.left + 1)

    assert encoder_of(saved("Mistral")).batching == "packed"
    monkeypatch.setattr(pack_attention, "band_of", off)
    assert encoder_of(saved("Mistral")).batching == "padded"


def test_positions_that_begin_elsewhere_are_seen(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of RoBERTa, which are counted from behind the padding's id."""
    run = HuggingFaceEncoder.run

    def shifted(self: Any, ids: Tensor, mask: Tensor, layers: Any, positions: Tensor | None = None) -> Any:
        return run(self, ids, mask, layers, None if positions is None else positions + 2)

    monkeypatch.setattr(HuggingFaceEncoder, "run", shifted)
    assert encoder_of(saved("DistilBERT")).batching == "padded"


def test_a_probe_that_costs_too_much_leaves_the_model_padded(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(packing._COSTS_MOST, "cpu", 1e6)
    assert encoder_of(saved("Mistral")).batching == "padded"


def test_a_pack_may_be_longer_than_the_table_of_positions(saved: Callable[[str], Path]) -> None:
    for name in ("ELECTRA", "ALBERT", "DistilBERT"):
        encoder = encoder_of(saved(name))
        assert spec_of(saved(name)).max_positions == 512
        rows = some_rows(encoder, [500, 500, 500], first=5)
        found = hidden_rows(encoder, "packed", rows)
        assert change(found[2], alone(saved(name), rows[2])[-1]) < 1e-5


# ---- jobs of before


def test_a_job_that_was_begun_padded_goes_on_padded(saved: Callable[[str], Path]) -> None:
    reading = read_model(saved("DistilBERT"))
    assert reading.spec.packs
    older = replace(reading.spec, packs=False)
    assert older.identity() != reading.spec.identity()
    assert load(older, reading.tokenizer).encoder.batching == "padded"  # type: ignore[attr-defined]


# ---- rotary positions that turn with the length


def test_a_long_row_does_not_change_the_positions_of_those_beside_it(tmp_path: Path) -> None:
    """LongRoPE takes other angles for a whole batch, once one of its rows is long."""
    rope = {
        "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32,
        "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
    }  # fmt: skip
    directory = save_of_type(
        tmp_path, "phi3", END, **SHAPE, num_key_value_heads=2, max_position_embeddings=512,
        original_max_position_embeddings=32, rope_parameters=rope, pad_token_id=1,
    )  # fmt: skip
    encoder = encoder_of(directory)
    assert encoder.batching == "equal"
    rows = some_rows(encoder, [29, 40, 29, 17], first=5)
    for row, found in zip(rows, hidden_rows(encoder, encoder.batching, rows), strict=True):
        assert change(found, alone(directory, row)[-1]) < 1e-5
