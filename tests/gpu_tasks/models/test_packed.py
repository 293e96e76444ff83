"""What is packed beside a sequence does not change its vector, in any family, on any device, in any dtype.

The measure is the same model in float32 with each sequence alone, which the tests of each family hold
against transformers.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from gpu_tasks import load_model
from tests.support.model_directories import (
    Tensors,
    change_weights,
    embed,
    save_bert,
    save_esm2,
    save_mosaic,
    save_mpnet,
    save_roberta,
)
from tests.support.torch_devices import DEVICES
from tests.zoo.proteins import prott5
from tests.zoo.vocabularies import ESM2_VOCABULARY

Vectors = npt.NDArray[np.float32]

APART = {"float32": 1e-6, "float16": 1e-4, "bfloat16": 5e-4}
"""1 - cosine, at most."""


@dataclass(frozen=True, slots=True)
class Family:
    """A model that takes each letter as one token, and `longest` of them in a row."""

    path: Path
    letters: Sequence[str]
    between: str
    longest: int

    def make(self, length: int, seed: int = 0) -> str:
        return self.between.join(random.Random(f"{length} {seed}").choices(self.letters, k=length))


RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
WORDS = ("a", "the", "of", "in", "on", "we", "is", "not", "cat", "red", "seven")


def save_prott5(path: Path) -> Path:
    prott5(path)
    return path


FAMILIES: dict[str, Callable[[Path], Family]] = {
    "esm2": lambda path: Family(save_esm2(path), RESIDUES, "", 1022),
    "bert": lambda path: Family(save_bert(path), WORDS, " ", 510),
    "roberta": lambda path: Family(save_roberta(path), "0123456789BCDEFG", "", 510),
    "mpnet": lambda path: Family(save_mpnet(path), WORDS, " ", 510),
    "dnabert2": lambda path: Family(save_mosaic(path), "ACGT", " ", 510),
    "prott5": lambda path: Family(save_prott5(path), RESIDUES, "", 4095),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


def alone(family: Family, sequences: list[str]) -> Vectors:
    model = load_model(str(family.path))
    return np.concatenate([embed(model, [sequence]) for sequence in sequences])


def apart(left: Vectors, right: Vectors) -> float:
    """The largest 1 - cosine, in float64: float32 itself rounds at 1e-7."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    return float((1 - (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).max())


def test_a_sequence_made_for_the_test_has_as_many_tokens_as_it_says(family: Family) -> None:
    model = load_model(str(family.path))
    assert [len(ids) for ids in model.tokenize([family.make(1), family.make(77)])] == [1, 77]
    assert model.max_length == family.longest


@pytest.mark.parametrize("device", DEVICES)
def test_rows_of_every_length_have_the_vectors_that_they_have_alone(family: Family, device: str) -> None:
    between = range(66, min(family.longest, 1100), 89)
    lengths = [*range(1, 66), *between, family.longest - 1, family.longest]
    sequences = [family.make(length) for length in lengths]
    model = load_model(str(family.path), device=device)
    assert apart(embed(model, sequences), alone(family, sequences)) <= APART["float32"]


@pytest.mark.parametrize("device", DEVICES)
def test_a_budget_may_split_the_rows_at_any_place(family: Family, device: str) -> None:
    sequences = [family.make(length, seed) for seed, length in enumerate((1, 2, 3, 5, 5, 5, 8, 13, 21))]
    model = load_model(str(family.path), device=device)
    expected, num_tokens = alone(family, sequences), sum(map(len, model.tokenize(sequences)))
    for budget in range(21, num_tokens + 3 * len(sequences)):
        vectors = embed(model, sequences, toks_per_batch=budget)
        assert apart(vectors, expected) <= APART["float32"], budget


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", APART)
def test_no_dtype_is_farther_off_than_its_precision_explains(family: Family, dtype: str, device: str) -> None:
    sequences = [family.make(length, seed) for seed, length in enumerate((1, 2, 7, 7, 30, 64, 65, 200))]
    model = load_model(str(family.path), dtype=dtype, device=device)
    assert apart(embed(model, sequences), alone(family, sequences)) <= APART[dtype]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "neighbours",
    [[20] * 30, [1] * 50, [400], [19, 21], [*range(1, 60)]],
    ids=["as long", "shortest", "long", "a token more and less", "every length"],
)
def test_neighbours_of_any_length_leave_a_row_its_vector(
    family: Family, neighbours: list[int], device: str
) -> None:
    row = family.make(20)
    beside = [family.make(length, 1 + seed) for seed, length in enumerate(neighbours)]
    model = load_model(str(family.path), device=device)
    vectors = embed(model, [*beside[: len(beside) // 2], row, *beside[len(beside) // 2 :]])
    assert apart(vectors[[len(beside) // 2]], alone(family, [row])) <= APART["float32"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1e4, float("nan")], ids=["huge", "NaN"])
def test_neighbours_with_any_numbers_leave_a_row_its_vector(tmp_path: Path, size: float, device: str) -> None:
    def harm(tensors: Tensors) -> None:
        tensors["embeddings.word_embeddings.weight"][ESM2_VOCABULARY.index("W")] *= size

    path = change_weights(save_esm2(tmp_path), harm)
    family = Family(path, RESIDUES, "", 1022)
    row, bad = "MKTAYIAK", ["W" * 8, "W" * 9, "W" * 7, "MKTAYIAW"]
    vectors = embed(load_model(str(path), device=device), [bad[0], bad[1], row, bad[2], bad[3]])
    assert apart(vectors[[2]], alone(family, [row])) <= APART["float32"]
