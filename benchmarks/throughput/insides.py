"""What can be said of Holdfast by itself: parts of the benchmark."""

from collections.abc import Iterator
from statistics import median

from rich.table import Table

from benchmarks.common.tables import spread, table_with
from benchmarks.throughput import command
from benchmarks.throughput.bench import MINILM, Bench, Highlight
from benchmarks.throughput.footprint import MODEL, NUM_RESIDUES, footprint, held_by_job
from benchmarks.throughput.machinery import compare_ways
from benchmarks.throughput.ours import fill_in_shards
from benchmarks.throughput.processes import compare_splits

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


def processes(bench: Bench) -> Iterator[Table]:
    """Several workers instead of one, on the same processor or device."""
    chosen = bench.settings
    dtype = chosen.dtypes[0]
    note = "All load and warm up first. Tokens per second of all together, over those of one process."
    for name, path, corpus in (
        ("all-MiniLM-L6-v2", MINILM, bench.text_corpora[-1]),
        (f"ESM-2 {chosen.shapes[0]}", bench.esm2, bench.protein_corpus),
    ):
        found = compare_splits(
            path, corpus.sequences, dtype=dtype, device=chosen.device, threads=chosen.threads,
            rounds=chosen.rounds, seconds=chosen.seconds_together,
        )  # fmt: skip
        title = f"Processes side by side, {name}, {dtype}"
        columns = ("threads each", "/ one process", "least", "most", "tokens/s")
        table = table_with(title, "processes", *columns, note=note)
        for split in found:
            shares = [own / one for own, one in zip(split.rates, found[0].rates, strict=True)]
            table.add_row(
                f"{split.num_processes}", f"{split.threads}", *spread(shares), f"{median(split.rates):,.0f}"
            )
        yield table


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


def job(bench: Bench) -> Iterator[Table]:
    """The memory of a whole job: server, command, workers and their children."""
    source = bench.settings.fasta
    note = (
        "The most that all processes of `holdfast embed` with its default workers held at one time, sampled "
        "every 0.2 s. PSS counts a page that n processes share as an n-th in each; anonymous is what no "
        "file backs, and what a system that is short of memory cannot take back."
    )
    title = f"Memory of a whole job: {source.name}, ESM-2 {bench.settings.shapes[0]}"
    table = table_with(title, "--pool", "PSS, MB", "anonymous, MB", note=note)
    for pool in ("mean", "none"):
        held = held_by_job(source, bench.esm2, bench.home / f"{pool}.h5", pool)
        table.add_row(pool, f"{held.pss / 1e6:,.0f}", f"{held.anonymous / 1e6:,.0f}")
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
