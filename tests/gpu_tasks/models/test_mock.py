"""The model of the tests: its vectors depend on the sequence and on nothing else."""

import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_tasks import load_model
from gpu_tasks.errors import ModelLoadError
from queue_app.model.spec import Pool
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import embed

SEQUENCES = [protein(number) for number in range(20)]


def plainly_embedded(sequence: str, dim: int) -> list[float]:
    """The documented arithmetic, in Python's own integers."""
    golden, mask = 0x9E3779B97F4A7C15, 2**64 - 1
    tokens = [256, *sequence.encode(), 257]
    hashed = sum((token + 1) * golden**place for place, token in enumerate(tokens, start=1))
    vector = []
    for column in range(1, dim + 1):
        state = (hashed + column * golden) & mask
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & mask
        state = (state ^ state >> 27) * 0x94D049BB133111EB & mask
        vector.append(((state ^ state >> 31) >> 40) / 2**23 - 1)
    return vector


@given(st.text(max_size=50))
def test_a_vector_is_integer_arithmetic_on_the_bytes_of_the_sequence(sequence: str) -> None:
    assert embed(load_model("mock:3"), [sequence])[0].tolist() == plainly_embedded(sequence, 3)


def run_python(script: str, *paths: str) -> str:
    program = f"import sys; sys.path[:0] = {list(paths)}; {script}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_another_process_computes_the_same_bytes() -> None:
    script = (
        "from gpu_tasks import load_model;"
        "from tests.support.jobs_and_inputs import protein;"
        "from tests.support.model_directories import embed;"
        "print(embed(load_model('mock:16'), [protein(n) for n in range(20)]).tobytes().hex())"
    )
    printed = run_python(script, *sys.path)
    assert bytes.fromhex(printed) == embed(load_model("mock:16"), SEQUENCES).tobytes()


def test_embedding_with_it_never_imports_torch() -> None:
    printed = run_python(
        "import sys; from gpu_tasks import AsyncInferenceRunner, load_model;"
        "from gpu_tasks.inference.plan_batches import plan_batches;"
        "from gpu_tasks.inference.windows import combine_windows;"
        "m = load_model('mock:4');"
        "plan = plan_batches(m.tokenize(['MKV', 'MK' * 2000]), [0, 1], prefix=m.prefix, suffix=m.suffix,"
        " toks_per_batch=2048, max_length=m.max_length, long='window', window_overlap=9);"
        "results = list(AsyncInferenceRunner(m).run(plan));"
        "import numpy as np;"
        "combine_windows(np.concatenate([r.ordinals for r in results]),"
        " [row[None] for r in results for row in r.embeddings],"
        " m.readout.side_by_side, lambda ordinal: m.left.pooled(*plan.owned(ordinal)), m.finish,"
        " nothing=results[0].embeddings[:0]);"
        "print(len(results), 'torch' in sys.modules)"
    )
    assert printed.split() == ["3", "False"]


@given(st.lists(st.text(max_size=30), min_size=2, max_size=10, unique=True))
def test_different_sequences_have_different_vectors(sequences: list[str]) -> None:
    vectors = embed(load_model("mock:8"), sequences)
    assert len(np.unique(vectors, axis=0)) == len(sequences)


def test_a_sequence_has_the_same_vector_in_every_batch() -> None:
    model = load_model("mock:8")
    together = embed(model, SEQUENCES)
    alone = np.concatenate([embed(model, [sequence]) for sequence in SEQUENCES])
    assert together.tobytes() == alone.tobytes() == embed(model, SEQUENCES, toks_per_batch=100).tobytes()


def test_a_delay_changes_no_vector() -> None:
    assert embed(load_model("mock:16,delay_ms=40"), SEQUENCES).tobytes() == (
        embed(load_model("mock:16"), SEQUENCES).tobytes()
    )


def test_the_numbers_are_spread_over_minus_one_to_one() -> None:
    vectors = embed(load_model("mock:2000"), SEQUENCES)
    assert vectors.min() >= -1
    assert vectors.max() < 1
    assert abs(vectors.mean()) < 0.01
    assert abs(vectors.var() - 1 / 3) < 0.01


@pytest.mark.parametrize("dim", [1, 320, 99999])
def test_the_dimension_is_the_one_that_was_asked_for(dim: int) -> None:
    model = load_model(f"mock:{dim}")
    assert model.dim == dim
    assert embed(model, ["MKV"]).shape == (1, dim)


@pytest.mark.parametrize("pool", get_args(Pool))
def test_it_takes_the_pool_that_the_windows_are_combined_with(pool: Pool) -> None:
    assert load_model("mock:8", pool=pool).readout.pools == (pool,)


@pytest.mark.parametrize(
    "ref",
    ["mock:", "mock:0", "mock:-1", "mock:x", "mock:8,", "mock:8,delay=4", "mock:8,delay_ms=x", "mock:8 "],
)
def test_a_malformed_reference_is_refused_with_the_right_form(ref: str) -> None:
    with pytest.raises(ModelLoadError, match=r"write mock:DIM or mock:DIM,delay_ms=N"):
        load_model(ref)
