"""How a plan is shown: a screen of lines, each under the word that says what it is about."""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from textwrap import wrap

import numpy as np
from rich.filesize import decimal

from queue_app.choices import Alphabet, LongRule
from queue_app.ingest.readers.formats import readings
from queue_app.job.disk_space import Room
from queue_app.job.output_names import one_line, output_format
from queue_app.job.readouts import is_contacts, is_ragged, vector_dim
from queue_app.job.spec import EmbedOptions
from queue_app.model.spec import ModelSpec
from queue_app.model.wording import described_head, model_line, written
from queue_app.preflight.length_histogram import bars, histogram
from queue_app.preflight.plan import Plan
from queue_app.shown import visible, visible_lines
from queue_app.wording import count

LABEL_WIDTH = 11
SCREEN_WIDTH_MOST = 100
ROOM_LEAST = 29
"""Columns beside the labels: a narrower terminal breaks the lines itself."""
REASONS_MOST = 8
BUSY_SHARE = 0.9
"""A machine of which the sample had less was wanted by others, too: the time says more of them than of it."""
ID_CHARACTERS = 40
RECORDS: dict[Alphabet, str] = {
    "protein": "proteins", "dna": "DNA sequences", "rna": "RNA sequences", "text": "texts"
}  # fmt: skip
LETTERS: dict[Alphabet, str] = {
    "protein": "residues", "dna": "bases", "rna": "bases", "text": "characters"
}  # fmt: skip
LONG: dict[LongRule, str] = {
    "window": "embedded in overlapping windows",
    "truncate": "they are cut off there",
    "error": "they are quarantined",
}


def describe_plan(plan: Plan, *, gpu_hour_cost: float | None, width: int, unicode: bool) -> Iterator[str]:
    """The lines of the screen, `width` columns at most where they can be."""
    room = max(ROOM_LEAST, min(width, SCREEN_WIDTH_MOST) - LABEL_WIDTH)
    parts = {
        "input": _inputs(plan),
        "lengths": _lengths(plan, room, unicode),
        "quarantine": _rejected(plan),
        "repeats": _repeats(plan),
        "too long": _too_long(plan),
        "note": plan.job.notes,
        "model": _model(plan),
        "work": _work(plan),
        "disk": _disk(plan),
        "time": _time(plan),
        "cost": _cost(plan, gpu_hour_cost),
        "problem": plan.problems,
    }
    for label, lines in parts.items():
        yield from _labelled(label, lines, room)


def _labelled(label: str, lines: Iterable[str], room: int) -> Iterator[str]:
    """What does not fit goes on below, set in."""
    for line in lines:
        own = len(line) - len(line.lstrip())
        for piece in wrap(
            visible_lines(line), room, subsequent_indent=" " * (own + 2), break_on_hyphens=False
        ):
            yield f"{label:<{LABEL_WIDTH}}{piece}"
            label = ""


def _inputs(plan: Plan) -> Iterator[str]:
    files = plan.survey.inputs
    name = files[0].name if len(files) == 1 else f"{len(files)} files"
    kind = RECORDS[plan.job.options.alphabet]
    yield f"{name}, {decimal(plan.survey.num_bytes)}: {plan.job.counts.num_records:,} {kind}"
    yield from readings(plan.job.inputs)


def _lengths(plan: Plan, width: int, unicode: bool) -> Iterator[str]:
    lengths = plan.survey.lengths
    if not len(lengths):
        return
    letters = LETTERS[plan.job.options.alphabet]
    yield (
        f"{lengths.min():,} to {lengths.max():,} {letters}, median {np.median(lengths):,.0f}, "
        f"mean {lengths.mean():,.0f}; {lengths.sum():,} in all"
    )
    yield from bars(histogram(lengths), width=width, unicode=unicode)


def _rejected(plan: Plan) -> Iterator[str]:
    rejected = plan.survey.rejected
    if not rejected:
        return
    yield f"{count(plan.job.counts.num_rejected, 'record')} cannot be embedded, and would be quarantined"
    for each in rejected[:REASONS_MOST]:
        ids = [*map(_short, each.first_ids), *(["…"] if each.num_records > len(each.first_ids) else [])]
        yield f"{each.num_records:>6,}  {each.reason}: {', '.join(ids)}"
    if len(rejected) > REASONS_MOST:
        others = sum(each.num_records for each in rejected[REASONS_MOST:])
        yield f"{others:>6,}  for {len(rejected) - REASONS_MOST} other reasons"


def _repeats(plan: Plan) -> Iterator[str]:
    counts = plan.job.counts
    if counts.num_duplicate_sequences:
        share = counts.num_duplicate_sequences / counts.num_records
        once = "computed once for all" if plan.job.options.dedup else "computed again (--no-dedup)"
        yield f"{count(counts.num_duplicate_sequences, 'sequence')} ({share:.1%}) seen before: {once}"
    if num_reused := len(plan.survey.reused):
        yield f"{count(num_reused, 'vector')} copied from an earlier job (--reuse)"
    if counts.num_duplicate_ids:
        yield f"{count(counts.num_duplicate_ids, 'id')} seen before; every record still has its row"


def _too_long(plan: Plan) -> Iterator[str]:
    options, num_long = plan.job.options, plan.num_long
    limit = f"the limit of {options.max_length:,} tokens"
    if num_long is None:
        yield f"not known: whether a text exceeds {limit} is seen only when a sample is computed"
    elif num_long:
        about = "" if plan.job.model.is_read_by_letters else "about "
        yield f"{about}{num_long:,} over {limit}: {LONG[options.long]} (--long {options.long})"


def _model(plan: Plan) -> Iterator[str]:
    spec, options = plan.job.model, plan.job.options
    yield f"{model_line(spec)}: {_readout(spec, options)}"
    if spec.family != "mock":
        yield f"sequences {written(spec)}"
    if spec.head and not is_ragged(options):
        yield f"behind the pooling {described_head(spec)}"
    threads = f", {count(plan.job.threads, 'thread')} each"
    yield f"{options.dtype} on {', '.join(plan.queues)}{threads if options.device_class == 'cpu' else ''}"


def _readout(spec: ModelSpec, options: EmbedOptions) -> str:
    if is_contacts(options):
        return "a map of the contacts of each protein, a number for every pair of residues"
    pooling = "a vector for every token" if is_ragged(options) else f"{options.pool} pooling"
    each = f" of each of {len(options.layers)} layers" if len(options.layers) > 1 else ""
    return f"{pooling}{each}, vectors of {vector_dim(spec, options):,} numbers"


def _work(plan: Plan) -> Iterator[str]:
    shards = count(len(plan.job.shards.costs_to_compute), "shard")
    budget = count(plan.job.options.toks_per_batch, "token")
    if plan.num_batches is None:
        yield f"{shards}, in batches of {budget}"
    else:
        batches = count(_rounded(plan.num_batches), "batch", "batches")
        tokens = count(_rounded(plan.num_tokens or 0), "token")
        yield f"{shards}, about {batches} of {budget}, {tokens} in all"
    if plan.begun:
        yield "a job lies there already: the same command goes on with it, or is refused if it is another"
        yield "all that stands here is of the whole job, not of what is left"


def _disk(plan: Plan) -> Iterator[str]:
    output, sizes = Path(plan.job.output), plan.sizes
    chosen = output_format(output)
    others = ", ".join(f"{name} {decimal(size)}" for name, size in sizes.outputs.items() if name != chosen)
    yield f"{output.name} {decimal(plan.output_bytes)} in {plan.job.options.store_dtype} ({others})"
    whole, cleaned = decimal(sizes.shards + sizes.results), decimal(sizes.results)
    yield f"the job directory {whole}, of which holdfast clean leaves {cleaned}"
    for room in _fullest(plan):
        needed, free = decimal(room.num_bytes), decimal(room.free_bytes)
        yield f"{room.path}: at its fullest {needed} of vectors, {free} free"


def _fullest(plan: Plan) -> Collection[Room]:
    """The moment at which each disk holds most."""
    return {room.path: room for room in sorted(plan.rooms, key=lambda room: room.num_bytes)}.values()


def _time(plan: Plan) -> Iterator[str]:
    timing = plan.timing
    if timing is None:
        return
    least, most = about(timing.least_seconds), about(timing.most_seconds)
    spread = "" if least == most else f" ({least} to {most})"
    yield f"about {about(timing.seconds)}{spread}, {about(timing.beside_seconds)} of it beside computing"
    for device in timing.devices:
        yield (
            f"{device.queue}: {device.tokens_per_second:,.0f} tokens/s, "
            f"{plan.num_good / device.seconds:,.1f} records/s "
            f"(measured on {count(device.measured_batches, 'batch', 'batches')}, "
            f"{device.measured_seconds:.1f} s)"
        )
    if timing.free_share < BUSY_SHARE:
        waited = f"{1 - timing.free_share:.0%} of its time"
        yield f"a busy machine: the sample waited {waited} for a processor; {least} is for a free one"


def _cost(plan: Plan, gpu_hour_cost: float | None) -> Iterator[str]:
    if gpu_hour_cost is None:
        return
    if plan.timing is None:
        yield "not known, as nothing was computed"
        return
    cost = plan.cost(plan.timing, gpu_hour_cost)
    least, usual, most = map(_money, (cost.least, cost.usual, cost.most))
    yield f"about {usual} ({least} to {most}), at {gpu_hour_cost:g} an hour"


def about(seconds: float) -> str:
    """A time as exact as an estimate deserves: `40 s`, `2 min 10 s`, `25 min`, `5 h 20 min`, `3.2 days`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    if seconds < 600:
        minutes, rest = divmod(round(seconds, -1), 60)
        return f"{minutes:.0f} min {rest:.0f} s" if rest else f"{minutes:.0f} min"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 24 * 3600:
        hours, minutes = divmod(round(seconds / 600) * 10, 60)
        return f"{hours} h {minutes:02d} min"
    return f"{seconds / 86400:.1f} days"


def _money(amount: float) -> str:
    """In hundredths, and what is less than one to a digit that says something."""
    return f"{amount:,.2f}" if amount >= 0.1 else f"{amount:.1g}"


def _rounded(number: int) -> int:
    """To three digits: the others would be invented."""
    return round(number, min(0, 3 - len(str(number))))


def _short(record_id: str) -> str:
    line = visible(one_line(record_id[: 2 * ID_CHARACTERS])) or "(no id)"
    return line if len(line) <= ID_CHARACTERS else f"{line[:ID_CHARACTERS]}…"
