"""One run of the benchmark: its settings, what its parts share, and what they leave for the summary."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rich.table import Table

from benchmarks.common.bar_chart import Group
from benchmarks.common.corpora import EXAMPLE, Corpus, lines, proteins, texts
from benchmarks.common.esm2_shapes import Arithmetic, esm2
from benchmarks.common.tables import spread, table_with
from benchmarks.throughput.ours import Ours
from benchmarks.throughput.roof import Roof, measure_roof
from tests.support.minilm import MINILM as MINILM


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured, and how much of it."""

    rounds: int = 3
    num_texts: tuple[int, ...] = (400, 2000)
    texts_file: Path | None = None
    num_proteins: int = 200
    fasta: Path = EXAMPLE
    records: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    dtypes: tuple[str, ...] = ("float32",)
    without_bfloat16: bool = False
    """Nobody chose, and the processor has no arithmetic for it."""
    device: str = "cpu"
    shapes: tuple[str, ...] = ("8M",)
    threads: int = 1
    roof_seconds: float = 2.0
    seconds_together: float = 10.0
    """How long processes compute side by side."""


@dataclass(slots=True)
class Highlight:
    """One line of the summary."""

    what: str
    values: Sequence[float]


@dataclass
class Bench:
    """One run: what all parts share, and what they leave for the summary and the plot."""

    home: Path
    settings: Settings
    highlights: list[Highlight] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _loaded: dict[tuple[Path, str], Ours] = field(default_factory=dict)
    _roofs: dict[tuple[Path, str], Roof] = field(default_factory=dict)

    @cached_property
    def esm2(self) -> Path:
        return esm2(self.home, self.settings.shapes[0])

    @cached_property
    def text_corpora(self) -> list[Corpus]:
        chosen = self.settings
        return [lines(chosen.texts_file)] if chosen.texts_file else [texts(each) for each in chosen.num_texts]

    @cached_property
    def protein_corpus(self) -> Corpus:
        return proteins(self.settings.num_proteins)

    def load(self, path: Path, dtype: str) -> Ours:
        """Once for each model and dtype."""
        if (path, dtype) not in self._loaded:
            self._loaded[path, dtype] = Ours.load(path, dtype=dtype, threads=self.settings.threads)
        return self._loaded[path, dtype]

    def roof(self, path: Path, dtype: str) -> Roof:
        """Measured once for each model and dtype."""
        if (path, dtype) not in self._roofs:
            budget, seconds = self.load(path, dtype).budget, self.settings.roof_seconds
            square = None if seconds >= 1 else 512
            self._roofs[path, dtype] = measure_roof(
                Arithmetic.of(path), budget, dtype=dtype, seconds=seconds, square=square
            )
        return self._roofs[path, dtype]


def summary(bench: Bench) -> Table:
    table = table_with("In short", "", "median", "least", "most", note="Ratios of one round each.")
    for each in bench.highlights:
        table.add_row(each.what, *spread(each.values))
    return table
