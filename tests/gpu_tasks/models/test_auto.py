"""Models that transformers runs, against transformers itself: one text at a time, without padding."""

import subprocess
import sys
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
from transformers import (
    AutoModel,
    AutoTokenizer,
    BartModel,
    ByT5Tokenizer,
    PreTrainedModel,
    SwitchTransformersModel,
    T5EncoderModel,
    T5Model,
)

from gpu_tasks import load_model
from gpu_tasks.errors import ModelLoadError, UnsupportedModel
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models import auto
from gpu_tasks.models.auto import UNSTEADY
from gpu_tasks.models.files import model_files
from gpu_tasks.models.hugging_face.encoder import HuggingFaceEncoder, groups
from gpu_tasks.models.loading import load
from gpu_tasks.models.packed import PackedModel
from tests.support.families import save_of_type
from tests.support.model_directories import (
    Tensors,
    change_config,
    change_json,
    change_weights,
    cosines,
    embed,
    plan_for,
    spec_of,
)

WORDS = ["a", "protein", "kinase", "of", "the", "ATP-binding", "subunit,", "Δ9-desaturase", "(EC", "2.7)"]
TEXTS = [" ".join((WORDS * 9)[count % 5 : count % 5 + count]) for count in (1, 2, 3, 4, 4, 7, 12, 13, 20, 31)]
LONG = " ".join(WORDS * 80)

BOTH = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
END = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
BEGIN = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
NONE = processors.ByteLevel()

BERTISH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
T5ISH = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
BARTISH = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4}
BARTISH |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
OPTISH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64}
OPTISH |= {"word_embed_proj_dim": 32}
GPTISH = {"n_embd": 32, "n_layer": 2, "n_head": 4}

KINDS: dict[str, tuple[object, dict[str, Any]]] = {
    "electra": (BOTH, {**BERTISH, "embedding_size": 16}),
    "distilbert": (BOTH, {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "albert": (BOTH, {**BERTISH, "embedding_size": 16}),
    "deberta-v2": (BOTH, {**BERTISH, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]}),
    "modernbert": (BOTH, {**BERTISH, "local_attention": 8, "global_attn_every_n_layers": 2}),
    "nomic_bert": (BOTH, BERTISH),
    "longformer": (BOTH, {**BERTISH, "attention_window": 16, "max_position_embeddings": 514}),
    "t5": (END, T5ISH),
    "bart": (BOTH, BARTISH),
    "gpt2": (NONE, GPTISH),
    "llama": (BEGIN, BERTISH),
}
"""Model types with their tokenizers' special tokens and their shapes."""

LONELY: dict[str, tuple[str, dict[str, Any]]] = {
    "convbert": ("equal", {**BERTISH, "embedding_size": 32}),
    "fnet": ("equal", {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}),
    "switch_transformers": (
        "alone",
        {
            **T5ISH,
            "num_decoder_layers": 1,
            "num_experts": 4,
            "expert_capacity": 4,
            "num_sparse_encoder_layers": 1,
        },
    ),
}
"""Model types whose texts cannot be padded, or are told apart by what lies beside them; and their shapes."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Each kind once."""
    directories: dict[str, Path] = {}

    def of(family: str) -> Path:
        if family not in directories:
            processor, shape = KINDS[family]
            directories[family] = save_of_type(tmp_path_factory.mktemp(family), family, processor, **shape)
        return directories[family]

    return of


def open_reference(directory: Path) -> PreTrainedModel:
    model = AutoModel.from_pretrained(directory, dtype=torch.float32).eval()
    return model.get_encoder() if isinstance(model, T5Model | BartModel | SwitchTransformersModel) else model


def hidden_states(directory: Path, texts: list[str], *, truncation: bool = True) -> list[np.ndarray]:
    """Of the texts' own tokens, by transformers, one text at a time."""
    model, tokenizer = open_reference(directory), AutoTokenizer.from_pretrained(directory)
    loaded = load_model(str(directory))
    states = []
    for text in texts:
        encoded = tokenizer(text, return_tensors="pt", truncation=truncation)
        with torch.inference_mode():
            hidden = model(**encoded).last_hidden_state[0].numpy()
        states.append(hidden[len(loaded.prefix) : len(hidden) - len(loaded.suffix)])
    return states


def means(directory: Path, texts: list[str], *, truncation: bool = True) -> np.ndarray:
    found = hidden_states(directory, texts, truncation=truncation)
    return np.array([states.mean(axis=0) for states in found])


# ---- the same vectors


@pytest.mark.parametrize("family", KINDS)
def test_texts_in_one_batch_have_the_vectors_that_transformers_gives_them_alone(
    saved: Callable[[str], Path], family: str
) -> None:
    directory = saved(family)
    model = load_model(str(directory))
    assert plan_for(model, TEXTS).num_batches == 1
    np.testing.assert_allclose(embed(model, TEXTS), means(directory, TEXTS), atol=2e-5)


@pytest.mark.parametrize("family", ["longformer", "gpt2"])
def test_the_longest_segment_has_the_vector_of_transformers(
    saved: Callable[[str], Path], family: str
) -> None:
    directory = saved(family)
    model = load_model(str(directory))
    assert len(model.tokenize([LONG])[0]) > 512
    np.testing.assert_allclose(embed(model, [LONG], long="truncate"), means(directory, [LONG]), atol=2e-5)


def test_a_model_with_relative_positions_takes_a_text_whole(saved: Callable[[str], Path]) -> None:
    model = load_model(str(saved("t5")))
    assert len(model.tokenize([LONG])[0]) > 512
    np.testing.assert_allclose(embed(model, [LONG]), means(saved("t5"), [LONG], truncation=False), atol=2e-5)


def test_a_causal_model_pools_the_last_token_of_every_text_not_the_padding(
    saved: Callable[[str], Path],
) -> None:
    directory = saved("llama")
    expected = [states[-1] for states in hidden_states(directory, TEXTS)]
    np.testing.assert_allclose(embed(load_model(str(directory), pool="last"), TEXTS), expected, atol=2e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(saved: Callable[[str], Path], dtype: str) -> None:
    directory = saved("electra")
    vectors = embed(load_model(str(directory), dtype=dtype), TEXTS[:6])
    assert cosines(vectors, means(directory, TEXTS[:6])).min() > 0.99


def test_the_encoder_alone_is_enough_of_a_t5(tmp_path: Path, saved: Callable[[str], Path]) -> None:
    directory = save_of_type(tmp_path, "t5", END, **T5ISH)
    T5EncoderModel.from_pretrained(directory).save_pretrained(directory)
    assert embed(load_model(str(directory)), TEXTS).tobytes() == (
        embed(load_model(str(saved("t5"))), TEXTS).tobytes()
    )


def test_a_tokenizer_without_a_fast_one_is_used_as_it_is(tmp_path: Path) -> None:
    directory = save_of_type(tmp_path, "t5", END, **{**T5ISH, "vocab_size": 384})
    (directory / "tokenizer.json").unlink()
    ByT5Tokenizer().save_pretrained(directory)
    model = load_model(str(directory))
    assert spec_of(directory).max_length <= model.max_length
    np.testing.assert_allclose(embed(model, TEXTS), means(directory, TEXTS), atol=2e-5)


def test_two_loads_and_two_runs_yield_the_same_bytes(saved: Callable[[str], Path]) -> None:
    vectors = [embed(load_model(str(saved("modernbert"))), TEXTS) for _ in range(2)]
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_a_sentence_model_has_the_vectors_of_sentence_transformers(
    saved: Callable[[str], Path], tmp_path: Path
) -> None:
    modules = [Transformer(str(saved("distilbert"))), Pooling(32, pooling_mode="cls"), Normalize()]
    SentenceTransformer(modules=modules, device="cpu").save(str(tmp_path), create_model_card=False)
    model = load_model(str(tmp_path))
    assert model.readout.pools == ("cls",)
    expected = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(embed(model, TEXTS), expected, atol=2e-5)


# ---- padding


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(2, 8)], [(0, [8, 8])]),
        ([(1, 8), (2, 4), (1, 3), (1, 1)], [(0, [8, 4, 4]), (3, [3]), (4, [1])]),
        ([(1, 4), (1, 8), (1, 9)], [(0, [4, 8]), (2, [9])]),
    ],
    ids=str,
)
def test_no_row_is_padded_to_more_than_twice_its_length(
    runs: list[tuple[int, int]], expected: list[tuple[int, list[int]]]
) -> None:
    assert list(groups(runs)) == expected


def test_packed_tokens_never_reach_a_model_that_is_padded(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row of the batch is a row of what transformers gets, and its mask names its own tokens."""
    model = load_model(str(saved("deberta-v2")))
    batch = plan_for(model, TEXTS).batch(0)
    seen: list[list[int]] = []
    run = HuggingFaceEncoder.run

    def watch(self: Any, input_ids: torch.Tensor, mask: torch.Tensor, layers: Any) -> Any:
        seen.extend(ids[inside].tolist() for ids, inside in zip(input_ids, mask, strict=True))
        assert (input_ids[~mask] == 1).all()
        return run(self, input_ids, mask, layers)

    monkeypatch.setattr(HuggingFaceEncoder, "run", watch)
    model.stage(batch).launch("float32").wait()
    bounds = zip(batch.cu_seqlens, batch.cu_seqlens[1:], strict=False)
    assert seen == [batch.input_ids[start:stop].tolist() for start, stop in bounds]


@pytest.mark.parametrize("family", LONELY)
def test_a_text_has_its_vector_also_where_padding_or_company_would_change_it(
    tmp_path: Path, family: str
) -> None:
    batching, shape = LONELY[family]
    directory = save_of_type(tmp_path, family, BOTH, **shape)
    model = load_model(str(directory))
    assert isinstance(model, PackedModel)
    assert isinstance(model.encoder, HuggingFaceEncoder)
    assert model.encoder.batching == batching
    assert plan_for(model, TEXTS).num_batches == 1
    np.testing.assert_allclose(embed(model, TEXTS), means(directory, TEXTS), atol=2e-5)


@pytest.mark.parametrize("family", UNSTEADY)
def test_a_model_whose_vectors_depend_on_chance_or_on_earlier_texts_is_refused(
    saved: Callable[[str], Path], family: str
) -> None:
    reading = read_model(saved("electra"))
    spec = replace(reading.spec, encoder=replace(reading.spec.encoder, model_type=family))
    with pytest.raises(UnsupportedModel, match="depends on chance, or on the texts before"):
        auto.require_loadable(spec, model_files(spec), {})


def test_a_model_that_draws_random_numbers_is_refused(
    saved: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = HuggingFaceEncoder.run

    def noisy(self: Any, *arguments: Any) -> list[torch.Tensor]:
        return [hidden + torch.randn_like(hidden) for hidden in run(self, *arguments)]

    monkeypatch.setattr(HuggingFaceEncoder, "run", noisy)
    with pytest.raises(UnsupportedModel, match="ElectraModel draws random numbers"):
        load_model(str(saved("electra")))


# ---- what is refused


def test_positions_that_are_kept_for_padding_are_not_counted_on(saved: Callable[[str], Path]) -> None:
    """On CUDA the last texts would take the context down."""
    reading = read_model(saved("longformer"))
    spec = replace(reading.spec, encoder=replace(reading.spec.encoder, max_positions=514))
    with pytest.raises(UnsupportedModel, match="have 512 positions, not 514"):
        load(spec, reading.tokenizer)


def test_a_padding_that_is_no_token_is_never_looked_up(tmp_path: Path) -> None:
    directory = save_of_type(tmp_path, "gpt2", NONE, **GPTISH)
    expected = means(directory, TEXTS)
    change_config(directory, pad_token_id=-1)
    np.testing.assert_allclose(embed(load_model(str(directory)), TEXTS), expected, atol=2e-5)


def test_a_decoder_without_weights_is_made_up_for_an_encoder_alone(tmp_path: Path) -> None:
    def drop_decoder(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith("decoder.")]:
            del tensors[name]

    encoder = change_weights(save_of_type(tmp_path / "bart", "bart", BOTH, **BARTISH), drop_decoder)
    np.testing.assert_allclose(embed(load_model(str(encoder)), TEXTS), means(encoder, TEXTS), atol=2e-5)
    decoder = save_of_type(tmp_path / "opt", "opt", BOTH, **OPTISH)
    load_model(str(decoder))
    change_weights(decoder, lambda tensors: tensors.pop("decoder.layers.1.fc2.weight"))
    with pytest.raises(ModelLoadError, match=r"lack decoder\.layers\.1\.fc2\.weight"):
        load_model(str(decoder))


def test_weights_that_transformers_would_make_up_are_missed(tmp_path: Path) -> None:
    directory = save_of_type(tmp_path, "electra", BOTH, **KINDS["electra"][1])
    change_weights(directory, lambda tensors: tensors.pop("encoder.layer.1.output.dense.weight"))
    with pytest.raises(ModelLoadError, match=r"lack encoder\.layer\.1\.output\.dense\.weight"):
        load_model(str(directory))


def test_code_in_a_model_directory_is_never_run(tmp_path: Path) -> None:
    directory = save_of_type(tmp_path, "electra", BOTH, **KINDS["electra"][1])
    (directory / "own.py").write_text("raise SystemExit('it ran')")
    change_config(directory, auto_map={"AutoModel": "own.Model", "AutoConfig": "own.Config"})
    assert_code_is_refused(directory, r"/config\.json")


def test_code_of_a_tokenizer_is_never_run(tmp_path: Path) -> None:
    directory = save_of_type(tmp_path, "electra", BOTH, **KINDS["electra"][1])
    (directory / "own.py").write_text("raise SystemExit('it ran')")
    own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    change_json(directory / "tokenizer_config.json", **own)
    assert_code_is_refused(directory, r"/tokenizer_config\.json")


def assert_code_is_refused(directory: Path, where: str) -> None:
    with pytest.raises(ModelLoadError, match=rf"{where}.*auto_map names code of its own"):
        spec_of(directory)


def test_transformers_is_not_imported_for_what_does_without(saved: Callable[[str], Path]) -> None:
    source = "import sys; import gpu_tasks.models.from_spec; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], check=False).returncode == 0
