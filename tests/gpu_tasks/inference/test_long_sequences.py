"""One vector for every token of a long record: held against transformers, one window at a time.

Which window owns a token is found here by looking at every window, not by the planner's arithmetic.
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel, AutoTokenizer, ModernBertConfig, ModernBertModel

from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.inference.rows import split_rows
from gpu_tasks.inference.segments import window_starts
from gpu_tasks.inference.windows import join_windows
from tests.support.model_directories import MINILM, embed, plan_for, save_bert, save_esm2, save_mosaic

LIMIT, OVERLAP = 40, 5


def protein(length: int) -> str:
    return "".join(random.Random(length).choices("ACDEFGHIKLMNPQRSTVWY", k=length))


def text(length: int) -> str:
    """Of so many tokens: each of these words is one."""
    return " ".join(
        random.Random(length).choices(["kinase", "protein", "binding", "a", "of", "cell"], k=length)
    )


def random_lengths(seed: int, count: int) -> list[int]:
    """From one window to many, the first lengths beyond the limit among them."""
    drawn = random.Random(seed).choices(range(LIMIT + 1, 6 * LIMIT), k=count)
    return [LIMIT, LIMIT + 1, LIMIT + 2, 2 * LIMIT, *drawn]


def owner(token: int, starts: Sequence[int], width: int) -> int:
    """The window in which the token lies deepest; of several the first."""
    depths = [min(token - start, start + width - 1 - token) for start in starts]
    return depths.index(max(depths))


def window_states(
    directory: Path, model: EmbeddingModel, payload: list[int], layer: int, limit: int, overlap: int
) -> tuple[list[np.ndarray], list[int]]:
    """Of each window the hidden states that transformers computes of it alone, special tokens included."""
    reference = AutoModel.from_pretrained(directory, **_without_pooler(directory)).eval()
    width = min(limit, len(payload))
    starts = window_starts(len(payload), limit, overlap).tolist() if len(payload) > limit else [0]
    states = []
    for start in starts:
        ids = [*model.prefix, *payload[start : start + width], *model.suffix]
        with torch.inference_mode():
            hidden = reference(torch.tensor([ids]), output_hidden_states=True).hidden_states
        states.append(hidden[layer][0].double().numpy())
    return states, starts


def _without_pooler(directory: Path) -> dict[str, Any]:
    return {} if "modernbert" in (directory / "config.json").read_text() else {"add_pooling_layer": False}


def token_vectors(
    model: EmbeddingModel, states: list[np.ndarray], starts: list[int], length: int
) -> np.ndarray:
    """[length, dim]: each token's vector from the window in which it lies deepest."""
    width = len(states[0]) - len(model.prefix) - len(model.suffix)
    owners = [owner(token, starts, width) for token in range(length)]
    return np.array(
        [states[w][len(model.prefix) + token - starts[w]] for token, w in enumerate(owners)], np.float64
    )


def every_token(model: EmbeddingModel, sequences: list[str], **planning: Any) -> list[np.ndarray]:
    """What `--pool none` stores."""
    results = list(AsyncInferenceRunner(model).run(plan_for(model, sequences, **planning)))
    assert all(result.finite.all() for result in results)
    ordinals, joined, offsets = join_windows(
        np.concatenate([result.ordinals for result in results]),
        [row for result in results for row in split_rows(result.embeddings, result.offsets)],
        nothing=results[0].embeddings[:0],
    )
    assert ordinals.tolist() == list(range(len(sequences)))
    return split_rows(joined, offsets)  # type: ignore[return-value]


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    difference: float = np.linalg.norm(ours.astype(np.float64) - theirs) / np.linalg.norm(theirs)
    return difference


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2"))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def modernbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run by transformers, padded."""
    directory = tmp_path_factory.mktemp("modernbert")
    config = ModernBertConfig(
        vocab_size=30522, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        pad_token_id=0, cls_token_id=101, sep_token_id=102, bos_token_id=101, eos_token_id=102,
    )  # fmt: skip
    ModernBertModel(config).eval().save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).write_bytes((MINILM / name).read_bytes())
    return directory


@pytest.fixture(scope="module")
def sentence(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """The same BERT as a sentence-transformers directory, which pools its special tokens with the rest."""

    def saved(normalize: bool) -> Path:
        directory = tmp_path_factory.mktemp("sentence")
        modules = [Transformer(str(bert)), Pooling(80, pooling_mode="mean"), *([Normalize()] * normalize)]
        SentenceTransformer(modules=modules, device="cpu").save(str(directory), create_model_card=False)
        return directory

    return saved


# ---- against transformers


@pytest.mark.parametrize("toks_per_batch", [2048, LIMIT + 2, 3 * (LIMIT + 2)])
@pytest.mark.parametrize("family", ["esm2", "bert", "modernbert"])
def test_every_pool_and_layer_of_a_long_record_is_of_its_tokens_deepest_vectors(
    request: pytest.FixtureRequest, family: str, toks_per_batch: int
) -> None:
    """Also where the windows of a record lie in several batches, each in one of its own at the least."""
    directory = request.getfixturevalue(family)
    sequences = [(protein if family == "esm2" else text)(n) for n in random_lengths(toks_per_batch, 6)]
    planning: Any = {"max_length": LIMIT, "window_overlap": OVERLAP, "toks_per_batch": toks_per_batch}
    model = load_model(str(directory), pool="mean,max,last,cls", layers=(1, -1))
    vectors = embed(model, sequences, **planning).reshape(len(sequences), 2, 4, -1)
    tokens = every_token(load_model(str(directory), pool="none", layers=(1, -1)), sequences, **planning)
    for row, payload in enumerate(model.tokenize(sequences)):
        for place, layer in enumerate((1, -1)):
            states, starts = window_states(
                directory, model, payload.tolist(), layer if layer == 1 else 2, LIMIT, OVERLAP
            )
            expected = token_vectors(model, states, starts, len(payload))
            assert relative(np.split(tokens[row], 2, axis=1)[place], expected) < 1e-5
            firsts = np.array([state[0] for state in states])
            pooled = [expected.mean(axis=0), expected.max(axis=0), expected[-1], firsts.mean(axis=0)]
            for ours, theirs in zip(vectors[row, place], pooled, strict=True):
                assert relative(ours, theirs) < 1e-5


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pool", ["mean", "max", "last", "cls"])
def test_special_tokens_that_are_pooled_count_at_the_ends_of_the_record_and_it_is_normalised_once(
    bert: Path, sentence: Callable[[bool], Path], pool: str, normalize: bool
) -> None:
    model = load_model(str(sentence(normalize)), pool=pool)
    sequences = [text(n) for n in random_lengths(7, 4)]
    vectors = embed(model, sequences, max_length=LIMIT, window_overlap=OVERLAP)
    for row, payload in enumerate(model.tokenize(sequences)):
        states, starts = window_states(bert, model, payload.tolist(), 2, LIMIT, OVERLAP)
        own = [states[0][:1], token_vectors(model, states, starts, len(payload)), states[-1][-1:]]
        tokens, firsts = np.concatenate(own), np.array([state[0] for state in states])
        expected = {
            "mean": tokens.mean(axis=0),
            "max": tokens.max(axis=0),
            "last": tokens[-1],
            "cls": firsts.mean(axis=0),
        }[pool]
        assert relative(vectors[row], expected / np.linalg.norm(expected) if normalize else expected) < 1e-5


@pytest.mark.parametrize(("dtype", "most"), [("float32", 1e-5), ("float16", 1e-2), ("bfloat16", 5e-2)])
@pytest.mark.parametrize("normalize", [False, True])
def test_long_records_are_as_exact_in_half_precision_as_short_ones(
    bert: Path, sentence: Callable[[bool], Path], dtype: str, most: float, normalize: bool
) -> None:
    directory, sequences = sentence(normalize), [text(n) for n in (30, 90, 230)]
    planning: Any = {"max_length": LIMIT, "window_overlap": OVERLAP}
    exact = embed(load_model(str(directory)), sequences, **planning)
    found = embed(load_model(str(directory), dtype=dtype), sequences, store_dtype="float16", **planning)
    for ours, theirs in zip(found, exact, strict=True):
        assert relative(ours, theirs) < max(most, 1e-3)


# ---- one definition


@pytest.mark.parametrize("lengths", [[1022, 1023, 1100], [1500, 2000, 5000]], ids=str)
def test_the_mean_is_the_mean_of_what_pool_none_stores(esm2: Path, lengths: list[int]) -> None:
    proteins = [protein(length) for length in lengths]
    means = embed(load_model(str(esm2)), proteins, window_overlap=127)
    rows = every_token(load_model(str(esm2), pool="none"), proteins, window_overlap=127)
    assert [len(row) for row in rows] == lengths
    for mean, row in zip(means, rows, strict=True):
        assert relative(mean, row.astype(np.float64).mean(axis=0)) <= 1e-6


def test_windows_that_do_not_overlap_own_all_of_their_tokens(esm2: Path) -> None:
    model = load_model(str(esm2), pool="none")
    whole = protein(2 * LIMIT)
    (row,) = every_token(model, [whole], max_length=LIMIT)
    (head,) = every_token(model, [whole[:LIMIT]], max_length=LIMIT)
    np.testing.assert_allclose(row[:LIMIT], head, atol=1e-5)


def test_the_tokens_of_the_mock_are_those_that_each_window_owns() -> None:
    model = load_model("mock:8", pool="none")
    for length in random_lengths(3, 6):
        (row,) = every_token(model, [protein(length)], max_length=LIMIT, window_overlap=OVERLAP)
        starts = window_starts(length, LIMIT, OVERLAP).tolist() if length > LIMIT else [0]
        windows = [
            every_token(model, [protein(length)[start : start + LIMIT]], max_length=LIMIT)[0]
            for start in starts
        ]
        owners = [owner(token, starts, LIMIT) for token in range(length)]
        expected = [windows[w][token - starts[w]] for token, w in enumerate(owners)]
        np.testing.assert_array_equal(row, expected)


# ---- as long as the positions go


def test_a_protein_of_4000_residues_is_seen_at_once_where_it_is_asked_for(esm2: Path) -> None:
    """Rotary positions have no end."""
    model, whole = load_model(str(esm2)), protein(4000)
    payload = model.tokenize([whole])[0].tolist()
    states, starts = window_states(esm2, model, payload, 2, 4000, 0)
    assert starts == [0]
    (vector,) = embed(model, [whole], max_length=4000)
    assert relative(vector, states[0][1:-1].mean(axis=0)) < 1e-5


def test_alibi_has_no_end(tmp_path: Path) -> None:
    """A directory that was made for as much gives the same vector."""
    model = load_model(str(save_mosaic(tmp_path / "short")))
    longer = load_model(str(save_mosaic(tmp_path / "long", alibi_starting_size=2000)))
    bases = "".join(random.Random(1).choices("ACGT", k=4000))
    assert 510 < len(model.tokenize([bases])[0]) < 1998
    assert embed(model, [bases], max_length=1998).tobytes() == embed(longer, [bases]).tobytes()


def test_all_learned_positions_may_be_asked_for_of_a_model_that_takes_fewer() -> None:
    model, whole = load_model(str(MINILM)), text(510)
    assert model.max_length == 254
    (vector,) = embed(model, [whole], max_length=510)
    reference = AutoModel.from_pretrained(MINILM, add_pooling_layer=False).eval()
    with torch.inference_mode():
        encoded = AutoTokenizer.from_pretrained(MINILM)(whole, return_tensors="pt", truncation=False)
        mean = reference(**encoded).last_hidden_state[0].double().mean(dim=0).numpy()
    assert encoded["input_ids"].shape == (1, 512)
    assert relative(vector, mean / np.linalg.norm(mean)) < 1e-5
