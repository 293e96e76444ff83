"""Holdfast's model beside other systems: on texts, on proteins, and on a device. Parts of the benchmark."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import fields
from itertools import product
from pathlib import Path
from statistics import median

from rich.table import Table

from benchmarks.common.bar_chart import Bar, Group
from benchmarks.common.corpora import Corpus
from benchmarks.common.esm2_shapes import Arithmetic
from benchmarks.common.tables import spread, table_with
from benchmarks.throughput.bench import MINILM, Bench, Highlight
from benchmarks.throughput.gpu import OnDevice, measure_device
from benchmarks.throughput.ours import lengths_of
from benchmarks.throughput.padded import (
    automodel,
    by_padded_tokens,
    faesm,
    in_batches_of,
    sentence_transformers,
    transformers_esm,
)
from benchmarks.throughput.roof import Roof
from benchmarks.throughput.rounds import Absent, Outcome, System, compare, ratios
from benchmarks.throughput.side_by_side import workers

MINILM_TOKENS = 256
"""Longer texts are cut: the model's own max_seq_length."""
EXTRACT_TOKENS = 4096


def text(bench: Bench) -> Iterator[Table]:
    """MiniLM on texts: ours, sentence-transformers, and transformers by hand."""
    with ExitStack() as stack:
        systems = [each for dtype in bench.settings.dtypes for each in text_systems(bench, dtype, stack)]
        for corpus in bench.text_corpora:
            yield beside(bench, "all-MiniLM-L6-v2", MINILM, corpus, systems, [])


def text_systems(bench: Bench, dtype: str, stack: ExitStack) -> Iterator[System]:
    def by_hand(name: str, num_rows: int, *, by_length: bool) -> System:
        batches = in_batches_of(num_rows, by_length=by_length)
        return automodel(MINILM, dtype, name, batches, max_length=MINILM_TOKENS)

    yield from our_systems(bench, MINILM, dtype, stack)
    yield sentence_transformers(MINILM, dtype)
    yield by_hand("transformers, sorted, batches of 32", 32, by_length=True)
    yield by_hand("transformers, unsorted, batches of 16", 16, by_length=False)


def our_systems(bench: Bench, path: Path, dtype: str, stack: ExitStack) -> Iterator[System]:
    """One process with all threads, and a worker per core, as `holdfast embed` runs it."""
    yield System("Holdfast", dtype, bench.load(path, dtype).embed, ours=True)
    if bench.settings.threads > 1:
        yield stack.enter_context(workers(path, dtype, bench.settings.threads))


def protein(bench: Bench) -> Iterator[Table]:
    """ESM-2 on proteins: ours, a loop as extract.py has it, transformers by hand, and FAESM."""
    title = f"ESM-2 {bench.settings.shapes[0]}"
    with ExitStack() as stack:
        found = [each for dtype in bench.settings.dtypes for each in protein_systems(bench, dtype, stack)]
        systems = [each for each in found if isinstance(each, System)]
        absent = list(dict.fromkeys(each for each in found if isinstance(each, Absent)))
        yield beside(bench, title, bench.esm2, bench.protein_corpus, systems, absent)


def protein_systems(bench: Bench, dtype: str, stack: ExitStack) -> Iterator[System | Absent]:
    path = bench.esm2
    yield from our_systems(bench, path, dtype, stack)
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
    first = outcomes[0]
    bars = [Bar(label(each.system), ratios(each, first), ours=each.system.ours) for each in good]
    for ours, theirs in product(good, good):
        if ours.system.ours and not theirs.system.ours and ours.system.dtype == theirs.system.dtype:
            what = f"{title}: {ours.system.name} / {label(theirs.system)}"
            bench.highlights.append(Highlight(what, ratios(ours, theirs)))
    for dtype, seconds in roof_seconds.items():
        rates = [took / seconds for took in first.seconds]
        bars.append(Bar(f"matrix products alone, {dtype}", rates))
    bench.groups.append(Group(f"{title}; Holdfast in {first.system.dtype} = 1", bars))


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
    stations = ("wait for batches", "launch", "wait for vectors", "copying in", "computing", "copying out")
    columns = ("device busy", *stations, "layers, TFLOP/s", "square")
    note = (
        "One profiled run of ours: time with anything under way on the device, from its first kernel to its "
        "last; where the runner's thread spent its time, and the device's streams beside it; and the matrix "
        "products of the run."
    )
    table = table_with(f"The device under ESM-2 {shape}, {dtype}", "tokens a sequence", *columns, note=note)
    for each in found:
        spent = (getattr(each.timings, field.name) for field in fields(each.timings))
        shares = (each.busy, *(seconds / each.profiled_seconds for seconds in spent))
        table.add_row(
            f"{each.length}", *(f"{100 * share:.1f} %" for share in shares),
            f"{each.roof.layers / 1e12:,.2f}", f"{each.roof.square / 1e12:,.2f}",
        )  # fmt: skip
    return table
