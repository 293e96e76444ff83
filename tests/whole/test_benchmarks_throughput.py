"""The throughput benchmark at a tiny size: it yields ratios and a report, and refuses wrong vectors."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.common.esm2_shapes import SHAPES, Arithmetic, esm2
from benchmarks.common.tables import as_markdown
from benchmarks.throughput import __main__ as entry
from benchmarks.throughput.bench import Bench, Settings
from benchmarks.throughput.comparisons import note_comparison, table_of_outcomes
from benchmarks.throughput.footprint import footprint
from benchmarks.throughput.gpu import busy_share
from benchmarks.throughput.insides import table_of_ways
from benchmarks.throughput.machinery import compare_ways
from benchmarks.throughput.ours import Ours
from benchmarks.throughput.padded import by_padded_tokens, in_batches_of
from benchmarks.throughput.roof import Roof
from benchmarks.throughput.rounds import Absent, Outcome, System, Vectors, compare, ratios
from benchmarks.throughput.side_by_side import workers

SEQUENCES = ("MKV", "ACDEFGHIK", "LLL", "MNPQRS", "WYV")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, Settings(rounds=2, num_proteins=6, shapes=("tiny",)))


def measure(report: Path, *parts: str) -> str:
    texts = report.with_name("texts.txt")
    texts.write_text("\n".join(["a kinase", "a subunit of the ribosome, small", "", "ATP synthase"]))
    sizes = "--rounds 1 --proteins 6 --shape tiny --roof-seconds 0.01 --threads 1 --dtype float32"
    words = ["--only", *parts, *sizes.split(), "--texts-file", str(texts)]
    assert entry.main([*words, "--report", str(report)]) == 0
    return report.read_text()


def test_workers_side_by_side_answer_in_order(bench: Bench) -> None:
    alone = bench.load(bench.esm2, "float32").embed(SEQUENCES)
    with workers(bench.esm2, "float32", 2) as system:
        np.testing.assert_allclose(system.embed(SEQUENCES), alone, atol=1e-6)


def test_the_report_has_its_ratios_first_then_its_sections(tmp_path: Path) -> None:
    text = measure(tmp_path / "report.md", "text", "protein", "roof", "fill", "gpu")
    for section in (
        "## In short", "## all-MiniLM-L6-v2, 3 texts", "## ESM-2 tiny, 6 proteins", "## The roof",
        "## Fill", "## ESM-2 tiny, float32, 78 proteins of 49 residues", "## The device under ESM-2 tiny",
    ):  # fmt: skip
        assert section in text
    assert text.index("## In short") < text.index("## all-MiniLM-L6-v2")
    for system in ("sentence-transformers", "transformers, unsorted", "a loop like extract.py", "FAESM"):
        assert system in text
    assert "Holdfast / it" in text
    assert "refused" not in text
    assert "processor:" in text
    assert "</svg>" in (tmp_path / "report.svg").read_text()


def test_a_system_with_wrong_vectors_is_refused(bench: Bench, tmp_path: Path) -> None:
    right = Ours.load(esm2(tmp_path, "tiny"), dtype="float32").embed

    def of_another(sequences: tuple[str, ...]) -> Vectors:
        return np.roll(right(sequences), 1, axis=0)

    outcomes = compare(
        [System("Holdfast", "float32", right, ours=True), System("wrong", "float32", of_another)],
        SEQUENCES,
        2,
    )
    assert [each.refused for each in outcomes] == [False, True]
    note_comparison(bench, "tiny", outcomes, {"float32": 1.0})
    assert bench.refused == ["tiny: wrong"]
    assert not bench.highlights
    roofs = {"float32": Roof(1.0, 1.0)}
    table = as_markdown(table_of_outcomes("tiny", outcomes, [Absent("other", "why")], 1, 1.0, roofs, "note"))
    assert "| wrong: other vectors | refused |" in table
    assert "| other: why | - |" in table


@pytest.mark.parametrize("wrong", [np.full((5, 4), np.nan), np.zeros((5, 4)), np.ones((5, 3))])
def test_vectors_that_are_none_are_refused(wrong: Vectors) -> None:
    good = np.random.default_rng(0).standard_normal((5, 4))
    systems = [
        System("Holdfast", "float32", lambda _: good, ours=True),
        System("wrong", "float32", lambda _: wrong),
    ]
    assert compare(systems, SEQUENCES, 1)[1].refused


def test_each_round_begins_with_another_system() -> None:
    order: list[str] = []

    def system(name: str) -> System:
        return System(name, "float32", lambda _: order.append(name) or np.eye(5))  # type: ignore[func-returns-value]

    compare([system("a"), system("b")], SEQUENCES, 2)
    assert "".join(order) == "ab" + "ab" + "ba"


def test_a_ratio_is_of_one_round() -> None:
    def outcome(*seconds: float) -> Outcome:
        return Outcome(System("", "float32", lambda _: np.eye(1)), list(seconds))

    assert ratios(outcome(1, 2), outcome(2, 8)) == [2, 4]


def test_the_arithmetic_is_that_of_the_linear_layers(tmp_path: Path) -> None:
    path = esm2(tmp_path, "tiny")
    from transformers import EsmModel

    linear = [
        each for each in EsmModel.from_pretrained(path).encoder.modules() if isinstance(each, torch.nn.Linear)
    ]
    weights = sum(each.weight.numel() for each in linear)
    shape = SHAPES["tiny"]
    attention = 4 * 10 * 10 * shape.dim * shape.num_layers
    assert Arithmetic.of(path).flops([10, 10]) == 2 * (2 * weights * 10 + attention)


def test_padded_batches_are_those_of_the_scripts() -> None:
    lengths = ["M" * length for length in (5, 1, 3, 2)]
    assert list(in_batches_of(3, by_length=False)(lengths)) == [[0, 1, 2], [3]]
    assert list(in_batches_of(3, by_length=True)(lengths)) == [[0, 2, 3], [1]]
    assert list(by_padded_tokens(8)(lengths)) == [[1, 3], [2], [0]]


def test_the_device_is_busy_while_anything_is_under_way() -> None:
    assert busy_share([(0, 4), (2, 3), (3, 5), (8, 10)]) == 0.7
    assert busy_share([]) == 0


def test_the_runner_and_its_checkpoints_stand_beside_the_bare_loop(bench: Bench, tmp_path: Path) -> None:
    ours = bench.load(bench.esm2, "float32")
    bare, runner, checkpoints = compare_ways(tmp_path, ours.model, ours.plan(SEQUENCES), 2)
    assert bare.num_commits == runner.num_commits == [0, 0]
    assert min(checkpoints.num_commits) >= 1
    for way in (bare, runner, checkpoints):
        assert all(0 < own <= whole for own, whole in zip(way.outside, way.processor, strict=True))
    assert "runner, checkpoints every 1 s" in as_markdown(table_of_ways(bench))
    assert len(bench.highlights) == 2


def test_the_memory_of_a_worker_is_seen(tmp_path: Path) -> None:
    found = footprint(tmp_path, 100)
    assert found.num_shards == 6
    assert found.child > 10
    assert found.command > 10


def test_the_memory_of_a_whole_job_is_seen(tmp_path: Path) -> None:
    fasta = tmp_path / "a.fasta"
    fasta.write_text("".join(f">p{number}\n{each}\n" for number, each in enumerate(SEQUENCES)))
    report = tmp_path / "report.md"
    words = f"--only job --fasta {fasta} --shape tiny --threads 1 --dtype float32"
    assert entry.main([*words.split(), "--report", str(report)]) == 0
    rows = re.findall(r"\| (mean|none) \| ([\d,]+) \| ([\d,]+) \|", report.read_text())
    assert [pool for pool, *_ in rows] == ["mean", "none"]
    for _, pss, anonymous in rows:
        assert int(pss.replace(",", "")) > int(anonymous.replace(",", "")) > 100


def test_the_report_says_why_there_is_no_bfloat16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "computes_bfloat16", lambda: False)
    report = tmp_path / "report.md"
    words = "--only fill --texts 3 --proteins 3 --shape tiny --threads 1"
    assert entry.main([*words.split(), "--report", str(report)]) == 0
    assert "bfloat16 was left out" in report.read_text()
