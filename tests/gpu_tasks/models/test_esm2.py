"""ESM-2 against transformers, with random weights in the published architecture."""

import random
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EsmForMaskedLM, EsmModel, EsmTokenizer

from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.models.esm2 import Esm2
from gpu_tasks.models.layers import Packed
from gpu_tasks.models.packed import PackedModel
from tests.support.model_directories import (
    ESM2_8M,
    ESM2_35M,
    TINY,
    Tensors,
    change_config,
    change_weights,
    cosines,
    embed,
    plan_for,
    save_esm2,
    save_esm2_in_parts,
)

LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO"
LENGTHS = (1, 2, 50, 300, 1022)


def residues(length: int) -> str:
    return "".join(random.Random(length).choices(LETTERS, k=length))


SEQUENCES = [residues(length) for length in LENGTHS]


@dataclass(frozen=True, slots=True)
class Reference:
    """A model directory, and what transformers makes of it."""

    directory: Path
    model: EsmModel
    tokenizer: EsmTokenizer

    def tokens(self, sequence: str) -> np.ndarray:
        """Hidden states of all tokens, <cls> and <eos> included."""
        with torch.inference_mode():
            encoded = self.tokenizer(sequence, return_tensors="pt")
            hidden: np.ndarray = self.model(**encoded).last_hidden_state[0].numpy()
        return hidden

    def residues(self, sequence: str) -> np.ndarray:
        return self.tokens(sequence)[1:-1]

    def means(self, sequences: list[str]) -> np.ndarray:
        return np.array([self.residues(sequence).mean(axis=0) for sequence in sequences])


def open_reference(directory: Path) -> Reference:
    model = EsmModel.from_pretrained(directory, add_pooling_layer=False).eval()
    return Reference(directory, model, EsmTokenizer.from_pretrained(directory))


@pytest.fixture(scope="module")
def esm2_8m(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return open_reference(save_esm2(tmp_path_factory.mktemp("esm2_8m"), **ESM2_8M))


@pytest.fixture(scope="module")
def esm2_35m(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return open_reference(save_esm2(tmp_path_factory.mktemp("esm2_35m"), **ESM2_35M))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return open_reference(save_esm2(tmp_path_factory.mktemp("tiny")))


# ---- the same vectors


def assert_mean_vectors_agree(reference: Reference) -> None:
    vectors, expected = embed(load_model(str(reference.directory)), SEQUENCES), reference.means(SEQUENCES)
    assert cosines(vectors, expected).min() > 0.9999
    np.testing.assert_allclose(vectors, expected, atol=1e-4)


def test_mean_vectors_of_the_8m_architecture_are_those_of_transformers(esm2_8m: Reference) -> None:
    assert_mean_vectors_agree(esm2_8m)


def test_mean_vectors_of_the_35m_architecture_are_those_of_transformers(esm2_35m: Reference) -> None:
    assert_mean_vectors_agree(esm2_35m)


def test_every_token_has_the_hidden_state_that_transformers_gives_it(esm2_8m: Reference) -> None:
    """What a ragged [L, dim] per record would hold."""
    model = load_model(str(esm2_8m.directory), threads=1)
    assert isinstance(model, PackedModel)
    batch = plan_for(model, SEQUENCES).batch(0)
    hidden = hidden_states(model, batch.input_ids, batch.cu_seqlens)
    for ordinal, start, stop in zip(batch.ordinals, batch.cu_seqlens, batch.cu_seqlens[1:], strict=False):
        expected = esm2_8m.tokens(SEQUENCES[int(ordinal)])
        np.testing.assert_allclose(hidden[start:stop], expected, atol=1e-4)


def hidden_states(model: PackedModel, input_ids: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
    lengths = np.diff(cu_seqlens).tolist()
    with torch.inference_mode():
        packed = Packed(
            input_ids=torch.from_numpy(input_ids),
            positions=torch.cat([torch.arange(length) for length in lengths]),
            cu_seqlens=torch.from_numpy(cu_seqlens),
            bounds=torch.empty(0),
            firsts=torch.empty(0),
            runs=tuple((1, length) for length in lengths),
            max_seqlen=max(lengths),
        )
        return model.encoder(packed, (len(model.encoder.layers),))[0].numpy()


@pytest.mark.parametrize("pool", ["cls", "max", "last"])
def test_the_other_pools_reduce_the_hidden_states_of_transformers(esm2_8m: Reference, pool: str) -> None:
    sequences = SEQUENCES[:4]
    reduce = {
        "cls": lambda sequence: esm2_8m.tokens(sequence)[0],
        "max": lambda sequence: esm2_8m.residues(sequence).max(axis=0),
        "last": lambda sequence: esm2_8m.residues(sequence)[-1],
    }[pool]
    expected = np.array([reduce(sequence) for sequence in sequences])
    vectors = embed(load_model(str(esm2_8m.directory), pool=pool), sequences)
    np.testing.assert_allclose(vectors, expected, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(esm2_8m: Reference, dtype: str) -> None:
    vectors = embed(load_model(str(esm2_8m.directory), dtype=dtype), SEQUENCES)
    assert cosines(vectors, esm2_8m.means(SEQUENCES)).min() > 0.99
    exact = embed(load_model(str(esm2_8m.directory)), SEQUENCES)
    assert 1e-7 < np.abs(vectors - exact).max() < 0.2


def test_a_sequence_alone_and_in_a_mixed_batch_has_the_same_vector(esm2_8m: Reference) -> None:
    model = load_model(str(esm2_8m.directory))
    sequences = [*SEQUENCES[:4], residues(51), residues(50)[::-1], residues(2)[::-1]]
    together = embed(model, sequences)
    alone = np.concatenate([embed(model, [sequence]) for sequence in sequences])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_two_loads_and_two_runs_yield_the_same_bytes(tiny: Reference) -> None:
    vectors = [embed(load_model(str(tiny.directory)), SEQUENCES) for _ in range(2)]
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_a_truncated_protein_has_the_vector_of_its_head(tiny: Reference) -> None:
    protein = residues(1500)
    vectors = embed(load_model(str(tiny.directory)), [protein], long="truncate")
    np.testing.assert_allclose(vectors, tiny.means([protein[:1022]]), atol=1e-4)


# ---- tokens


@pytest.mark.parametrize("sequence", [*string.ascii_uppercase, "A*A", "A.-A", "MJK", "AJJA", LETTERS, "AéA"])
def test_letters_have_the_ids_that_transformers_gives_them(tiny: Reference, sequence: str) -> None:
    model = load_model(str(tiny.directory))
    ids = [*model.prefix, *model.tokenize([sequence])[0].tolist(), *model.suffix]
    assert ids == tiny.tokenizer(sequence)["input_ids"]


def test_lower_case_counts_as_upper_case(tiny: Reference) -> None:
    lower, upper = load_model(str(tiny.directory)).tokenize([LETTERS.lower(), LETTERS])
    assert lower.tolist() == upper.tolist()


def test_a_vocabulary_of_another_order_is_followed(tiny: Reference, tmp_path: Path) -> None:
    directory = save_esm2(tmp_path)
    vocabulary = (directory / "vocab.txt").read_text().split()
    (directory / "vocab.txt").write_text("\n".join(reversed(vocabulary)))
    model = load_model(str(directory))
    assert (*model.prefix, *model.tokenize(["L"])[0], *model.suffix) == (32, 28, 30)


# ---- layouts and configurations


def test_a_masked_language_model_has_the_vectors_of_its_encoder(tmp_path: Path) -> None:
    directory = save_esm2(tmp_path, masked_lm=True)
    encoder = EsmForMaskedLM.from_pretrained(directory).eval().esm
    reference = Reference(directory, encoder, EsmTokenizer.from_pretrained(directory))
    vectors = embed(load_model(str(directory)), SEQUENCES[:4])
    np.testing.assert_allclose(vectors, reference.means(SEQUENCES[:4]), atol=1e-4)


def test_weights_in_many_files_are_those_in_one(tiny: Reference, tmp_path: Path) -> None:
    save_esm2_in_parts(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert embed(load_model(str(tmp_path)), SEQUENCES[:4]).tobytes() == (
        embed(load_model(str(tiny.directory)), SEQUENCES[:4]).tobytes()
    )


def test_weights_stored_in_half_precision_are_read(tmp_path: Path) -> None:
    def halve(tensors: Tensors) -> None:
        tensors.update({name: tensor.half() for name, tensor in tensors.items()})

    reference = open_reference(change_weights(save_esm2(tmp_path), halve))
    expected = Reference(tmp_path, reference.model.float(), reference.tokenizer).means(SEQUENCES[:4])
    np.testing.assert_allclose(embed(load_model(str(tmp_path)), SEQUENCES[:4]), expected, atol=1e-4)


@pytest.mark.parametrize(
    "changed", [{"token_dropout": False}, {"layer_norm_eps": 0.1}, {"num_attention_heads": 10}], ids=str
)
def test_the_configuration_is_heeded(tmp_path: Path, changed: dict[str, Any]) -> None:
    reference = open_reference(save_esm2(tmp_path, **changed))
    vectors = embed(load_model(str(tmp_path)), SEQUENCES[:4])
    np.testing.assert_allclose(vectors, reference.means(SEQUENCES[:4]), atol=1e-4)


@pytest.mark.parametrize(
    "changed",
    [
        {"position_embedding_type": "absolute"},
        {"position_embedding_type": "absolute", "pad_token_id": 31, "max_position_embeddings": 400},
        {"emb_layer_norm_before": True},
        {"position_embedding_type": "absolute", "emb_layer_norm_before": True, "token_dropout": False},
    ],
    ids=str,
)
def test_learned_positions_and_a_norm_before_the_layers_are_those_of_esm1b_and_esm1v(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    reference = open_reference(save_esm2(tmp_path, **changed))
    model = load_model(str(tmp_path))
    assert isinstance(model, PackedModel)
    assert isinstance(model.encoder, Esm2)
    np.testing.assert_allclose(embed(model, SEQUENCES[:4]), reference.means(SEQUENCES[:4]), atol=1e-4)


@pytest.mark.parametrize("changed", [{"rope_theta": 500.0}, {"is_decoder": True}], ids=str)
def test_a_variant_is_left_to_transformers(tmp_path: Path, changed: dict[str, Any]) -> None:
    reference = open_reference(change_config(save_esm2(tmp_path), **changed))
    model = load_model(str(tmp_path))
    assert not isinstance(model.encoder, Esm2)  # type: ignore[attr-defined]
    np.testing.assert_allclose(embed(model, SEQUENCES[:4]), reference.means(SEQUENCES[:4]), atol=1e-4)


def test_the_published_configuration_leaves_room_for_1022_residues(tiny: Reference) -> None:
    model = load_model(str(tiny.directory))
    assert (model.max_length, model.dim, *model.readout.pools) == (1022, TINY["hidden_size"], "mean")


# ---- what is not finite


def test_a_nan_is_reported_for_its_own_row_only(tmp_path: Path) -> None:
    def poison(tensors: Tensors) -> None:
        tensors["embeddings.word_embeddings.weight"][LETTERS.index("W") + 4] = torch.nan

    model = load_model(str(change_weights(save_esm2(tmp_path), poison)))
    sequences = ["MKV", "MWV", "MKKV", "W"]
    assert finite(model, sequences, "float32") == [True, False, True, False]


def test_a_number_too_large_for_the_stored_dtype_is_not_finite(tmp_path: Path) -> None:
    def enlarge(tensors: Tensors) -> None:
        tensors["encoder.emb_layer_norm_after.bias"][7] = 1e5

    model = load_model(str(change_weights(save_esm2(tmp_path), enlarge)))
    assert finite(model, ["MKV"], "float32") == [True]
    assert finite(model, ["MKV"], "float16") == [False]


def finite(model: Any, sequences: list[str], store_dtype: Any) -> list[bool]:
    """Of one batch, by ordinal."""
    runner = AsyncInferenceRunner(model, store_dtype=store_dtype)
    (result,) = runner.run(plan_for(model, sequences))
    return [bool(is_finite) for _, is_finite in sorted(zip(result.ordinals, result.finite, strict=True))]
