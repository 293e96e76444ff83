"""What is taken out of a model: layers, several pools at once, and the vector of every token."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertModel, EsmModel, EsmTokenizer, ModernBertConfig, ModernBertModel

from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.errors import OutOfMemory
from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.canary import embed_sequences
from gpu_tasks.models.packed import PackedModel
from tests.support.model_directories import (
    MINILM,
    embed,
    plan_for,
    save_bert,
    save_esm2,
    save_mpnet,
    token_rows,
)

PROTEINS = ["MKV", "A", "ACDEFGHIKLMNPQRSTVWY" * 3, "GSHMASMTGGQQMGRGS", "WYV" * 40]
TEXTS = ["a protein kinase", "an ATP-binding subunit of the ribosome, small", "x"]


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2"), num_hidden_layers=3)


def hidden_of_transformers(directory: Path, sequence: str) -> list[np.ndarray]:
    """Of every layer, the embeddings first, without <cls> and <eos>."""
    model = EsmModel.from_pretrained(directory, add_pooling_layer=False).eval()
    with torch.inference_mode():
        encoded = EsmTokenizer.from_pretrained(directory)(sequence, return_tensors="pt")
        states = model(**encoded, output_hidden_states=True).hidden_states
    return [state[0, 1:-1].numpy() for state in states]


# ---- layers


def test_every_layer_of_esm2_is_that_of_transformers(esm2: Path) -> None:
    vectors = embed(load_model(str(esm2), layers=(0, 1, 2, 3)), PROTEINS).reshape(len(PROTEINS), 4, -1)
    for row, protein in enumerate(PROTEINS):
        expected = [hidden.mean(axis=0) for hidden in hidden_of_transformers(esm2, protein)]
        np.testing.assert_allclose(vectors[row], expected, atol=1e-4)


@pytest.mark.parametrize("save", [save_bert, save_mpnet])
def test_every_layer_of_a_text_model_is_that_of_transformers(save: object, tmp_path: Path) -> None:
    directory = save(tmp_path)  # type: ignore[operator]
    ours = load_model(str(directory), pool="cls", layers=(1, 0, -1))
    reference = AutoModel.from_pretrained(directory, add_pooling_layer=False).eval()
    vectors = embed(ours, TEXTS).reshape(len(TEXTS), 3, -1)
    for row, text in enumerate(TEXTS):
        ids = [*ours.prefix, *ours.tokenize([text])[0].tolist(), *ours.suffix]
        with torch.inference_mode():
            states = reference(torch.tensor([ids]), output_hidden_states=True).hidden_states
        expected = [states[layer][0, 0].numpy() for layer in (1, 0, 2)]
        np.testing.assert_allclose(vectors[row], expected, atol=1e-4)


def test_every_layer_of_a_model_that_transformers_runs_is_its_own(tmp_path: Path) -> None:
    config = ModernBertConfig(
        vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        pad_token_id=0, cls_token_id=101, sep_token_id=102, bos_token_id=101, eos_token_id=102,
    )  # fmt: skip
    ModernBertModel(config).eval().save_pretrained(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((MINILM / name).read_bytes())
    ours = load_model(str(tmp_path), layers=(1, 2))
    reference = ModernBertModel.from_pretrained(tmp_path).eval()
    ids = [*ours.prefix, *ours.tokenize(TEXTS[1:2])[0].tolist(), *ours.suffix]
    with torch.inference_mode():
        output = reference(torch.tensor([ids]), output_hidden_states=True)
    tokens = slice(len(ours.prefix), len(ids) - len(ours.suffix))
    expected = [output.hidden_states[1][0, tokens].mean(0), output.last_hidden_state[0, tokens].mean(0)]
    found = embed(ours, TEXTS[1:2])[0].reshape(2, -1)
    np.testing.assert_allclose(found, torch.stack(expected).numpy(), atol=1e-4)


def test_no_layer_runs_behind_the_last_one_that_is_asked_for(tmp_path: Path) -> None:
    directory = save_bert(tmp_path, num_hidden_layers=3)
    broken = BertModel.from_pretrained(directory, add_pooling_layer=False)
    with torch.no_grad():
        broken.encoder.layer[2].output.dense.bias.fill_(torch.nan)
    broken.save_pretrained(directory)
    assert np.isfinite(embed(load_model(str(directory), layers=(1, 2)), TEXTS)).all()


@pytest.mark.parametrize("layers", [(4,), (-5,), (1, 1), (-1, 3), ()])
def test_a_layer_that_is_not_there_or_named_twice_is_refused(esm2: Path, layers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"name some of 0 .* to 3, each once"):
        load_model(str(esm2), layers=layers)


# ---- several pools


def test_pools_side_by_side_are_those_of_each_alone(esm2: Path) -> None:
    together = embed(load_model(str(esm2), pool="max,mean,cls,last"), PROTEINS)
    alone = [embed(load_model(str(esm2), pool=pool), PROTEINS) for pool in ("max", "mean", "cls", "last")]
    np.testing.assert_array_equal(together, np.concatenate(alone, axis=1))


def test_each_pool_has_unit_length_by_itself_where_the_model_says_so() -> None:
    model = load_model(str(MINILM), pool="mean,cls")
    vectors = embed(model, [*TEXTS, "a text in windows " * 200], window_overlap=20).reshape(4, 2, -1)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=2), 1, atol=1e-6)


def test_windows_are_combined_by_the_pool_of_each_vector(esm2: Path) -> None:
    long = ["ACDEFGHIKLMNPQRSTVWY" * 80]
    together = embed(load_model(str(esm2), pool="max,last"), long, window_overlap=100)
    alone = [embed(load_model(str(esm2), pool=pool), long, window_overlap=100) for pool in ("max", "last")]
    np.testing.assert_array_equal(together, np.concatenate(alone, axis=1))


# ---- every token


def test_every_residue_has_the_hidden_state_that_transformers_gives_it(esm2: Path) -> None:
    for protein, row in zip(PROTEINS, token_rows(load_model(str(esm2), pool="none"), PROTEINS), strict=True):
        np.testing.assert_allclose(row, hidden_of_transformers(esm2, protein)[-1], atol=1e-4)


def test_every_token_has_the_vectors_of_several_layers_side_by_side(esm2: Path) -> None:
    (row,) = token_rows(load_model(str(esm2), pool="none", layers=(1, -1)), PROTEINS[2:3])
    states = hidden_of_transformers(esm2, PROTEINS[2])
    np.testing.assert_allclose(row, np.concatenate([states[1], states[3]], axis=1), atol=1e-4)


def test_special_tokens_have_no_row_in_a_model_that_pools_them_too() -> None:
    model = load_model(str(MINILM), pool="none")
    rows = token_rows(model, TEXTS)
    assert [len(row) for row in rows] == [len(tokens) for tokens in model.tokenize(TEXTS)]


def test_the_mean_of_every_tokens_vector_is_the_mean_vector(esm2: Path) -> None:
    rows = token_rows(load_model(str(esm2), pool="none"), PROTEINS)
    means = embed(load_model(str(esm2)), PROTEINS)
    np.testing.assert_allclose([row.mean(axis=0) for row in rows], means, atol=1e-6)


def test_a_row_with_a_number_that_is_not_finite_is_told_apart_from_its_neighbours(esm2: Path) -> None:
    model = load_model(str(esm2), pool="none")
    plan = plan_for(model, PROTEINS)
    ids = plan.batch(0).input_ids
    only_in_longest = int(model.tokenize(["D"])[0][0])
    assert np.isin(ids, only_in_longest).any()
    model.encoder.embedding[only_in_longest] = torch.nan  # type: ignore[attr-defined]
    (result,) = AsyncInferenceRunner(model).run(plan)
    bad = {number for number, protein in enumerate(PROTEINS) if "D" in protein}
    assert set(result.ordinals[~result.finite].tolist()) == bad
    assert result.finite.sum() == len(PROTEINS) - len(bad)


def test_a_text_without_any_token_counts_as_not_finite() -> None:
    model = load_model(str(MINILM), pool="none")
    (result,) = AsyncInferenceRunner(model).run(plan_for(model, ["a kinase", ""]))
    assert dict(zip(result.ordinals.tolist(), result.finite.tolist(), strict=True)) == {0: True, 1: False}


def test_a_batch_that_is_computed_in_halves_keeps_its_rows_apart(
    esm2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(esm2), pool="none")
    stage: Any = PackedModel.stage

    def small_device(model: PackedModel, batch: TokenBatch) -> Any:
        if batch.num_rows > 2:
            raise OutOfMemory("no room")
        return stage(model, batch)

    batch, runner = plan_for(model, PROTEINS).batch(0), AsyncInferenceRunner(model)
    whole = runner.compute(batch)
    assert not whole.split
    monkeypatch.setattr(PackedModel, "stage", small_device)
    halves = runner.compute(batch)
    assert halves.split
    np.testing.assert_array_equal(halves.offsets, whole.offsets)
    np.testing.assert_allclose(halves.embeddings, whole.embeddings, atol=1e-5)


def test_the_canary_of_every_token_is_the_mean_of_them(esm2: Path) -> None:
    ragged = embed_sequences(load_model(str(esm2), pool="none"))
    np.testing.assert_allclose(ragged, embed_sequences(load_model(str(esm2))), atol=1e-5)


def test_a_mock_has_other_vectors_for_every_token_pool_and_layer() -> None:
    rows = token_rows(load_model("mock:8", pool="none"), PROTEINS)
    assert [row.shape for row in rows] == [(len(protein), 8) for protein in PROTEINS]
    assert len(np.unique(np.concatenate(rows), axis=0)) == sum(map(len, PROTEINS))
    several = embed(load_model("mock:8", pool="mean,max", layers=(1, 2)), PROTEINS)
    assert several.shape == (len(PROTEINS), 32)
    np.testing.assert_array_equal(several[:, :8], embed(load_model("mock:8"), PROTEINS))
    assert len(np.unique(several.reshape(-1, 8), axis=0)) == 4 * len(PROTEINS)
