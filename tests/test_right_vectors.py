"""Every model of the zoo: the vectors of transformers or sentence-transformers, or a refusal that says why.

`python -m pytest tests/test_right_vectors.py --write-table` writes what it finds to docs/right_vectors.md.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import embed
from runs import holdfast
from zoo.inputs import watched
from zoo.reference import PROTBERT, Vectors, differences, sentence_vectors, transformers_vectors
from zoo.table import ROWS, Row
from zoo.zoo import Zoo

from gpu_tasks import load_model
from gpu_tasks.errors import ModelLoadError

MOST = 1e-5
"""The largest norm of a difference, over the norm of the reference."""
PAGE = Path(__file__).resolve().parent.parent / "docs" / "right_vectors.md"
BEGIN, END = "<!-- the table -->\n", "<!-- end of the table -->\n"
HEAD = "| model | directory | difference, or why it is refused |\n|---|---|---|\n"
USABLE = [row for row in ROWS if row.reference]
REFUSED = [row for row in ROWS if row.words]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, str]]:
    """The last column of each row that was right."""
    return {}


def named(row: Row) -> str:
    return row.name


def refusal(directory: Path) -> str | None:
    """What the model's loader says against it."""
    try:
        load_model(str(directory))
    except ModelLoadError as error:
        return str(error)
    return None


# ---- the same vectors


@pytest.mark.parametrize("row", USABLE, ids=named)
def test_a_model_gives_the_vectors_of_its_reference(zoo: Zoo, found: dict[str, str], row: Row) -> None:
    directory = zoo.directory(row)
    if row.words and refusal(directory):
        pytest.skip("refused, which is as right: see the refusals")
    ours = embed(load_model(str(directory)), row.records, long="truncate")
    difference = differences(ours, zoo.reference(row))
    assert difference <= MOST
    found[row.name] = f"{difference:.0e}"


@pytest.mark.parametrize("row", USABLE, ids=named)
def test_no_two_records_of_a_row_have_the_same_vector(zoo: Zoo, row: Row) -> None:
    """Else the comparison would say little."""
    vectors = zoo.reference(row)
    for index, vector in enumerate(vectors):
        assert not np.isclose(vectors[:index], vector, rtol=1e-3, atol=1e-4).all(axis=1).any()
