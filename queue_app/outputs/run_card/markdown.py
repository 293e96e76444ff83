"""The run card for people: `<output>.card.md`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from queue_app.ingest.readers.readings import reading
from queue_app.job.readouts import vector_dim
from queue_app.model.wording import described_head, model_kind, run_by, written
from queue_app.outputs.run_card.card import RunCard
from queue_app.outputs.run_card.facts import Faults, Throughput
from queue_app.wording import bytes_text, count, duration, percent

Row = Sequence[object]
INPUTS_SHOWN = 100
TOKENIZERS = {
    "letters": "a table of letters, made of the model's tokenizer",
    "fast": "the model's tokenizer, by the tokenizers library",
    "slow": "the model's tokenizer, by transformers",
}


def card_markdown(card: RunCard) -> str:
    """The whole card. Sections that would be empty are left out."""
    parts = (
        _head(card), _methods(card), _again(card), _inputs(card), _model(card), _options(card), _counts(card),
        _quarantine(card), _speed(card), _faults(card.faults), _versions(card),
    )  # fmt: skip
    return "\n".join(line for part in parts for line in part)


def _head(card: RunCard) -> Iterator[str]:
    job = card.job
    yield f"# Run card of {card.output}"
    yield ""
    yield (
        f"{card.num_embedded:,} of {count(job.counts.num_records, 'record')} embedded with {job.model.name}: "
        f"{vector_dim(job.model, job.options):,} dimensions, {job.options.store_dtype}. Content digest "
        f"`{card.content_digest}`."
    )
    for note in job.notes:
        yield ""
        yield f"Note: {note}."


def _methods(card: RunCard) -> Iterator[str]:
    yield from _section("For a Methods section")
    yield card.methods


def _again(card: RunCard) -> Iterator[str]:
    yield from _section("To compute it again")
    yield "```sh"
    yield card.command
    yield "```"
    yield ""
    if card.job.options.device_class == "cpu":
        same = f"as many cores of the same kind, {count(card.job.threads, 'thread')} per worker,"
    else:
        same = "the same kind of GPU"
    yield f"On {same} and with the versions below it gives the same bytes, elsewhere the same up to rounding."
    yield ""
    yield (
        f"To cite: Holdfast {card.versions['holdfast']}, the model by its own publication, and the content "
        "digest above, by which these very vectors are known."
    )


def _inputs(card: RunCard) -> Iterator[str]:
    yield from _section("Inputs")
    inputs = card.job.inputs
    rows = [
        (file.name, bytes_text(file.size_bytes), reading(file.read_as) if file.read_as else "not known",
         f"`{file.digest}`")
        for file in inputs[:INPUTS_SHOWN]
    ]  # fmt: skip
    yield from _table(("file", "size", "read as", "xxh3-128"), rows)
    if len(inputs) > INPUTS_SHOWN:
        yield ""
        yield f"And {len(inputs) - INPUTS_SHOWN:,} more: {card.output}.card.json lists all of them."


def _model(card: RunCard) -> Iterator[str]:
    model = card.job.model
    yield from _section("Model")
    rows = [
        ("name", model.name),
        ("fingerprint", f"`{model.digest}`"),
        ("type", model_kind(model)),
        ("computed by", run_by(model)),
        *([("commit on the hub", model.revision)] if model.revision else []),
        ("parameters", f"{model.num_parameters:,}"),
        ("weights stored as", model.stored_dtype),
        ("adapter", f"LoRA, merged: {model.adapter.file}" if model.adapter else "none"),
        ("sequences", f"{model.alphabet}: {written(model)}"),
        ("tokens", TOKENIZERS[model.tokens.kind]),
        ("prompt", repr(model.prompt.text) if model.prompt else "none"),
        ("behind the pooling", described_head(model)),
        ("dimensions", f"{vector_dim(model, card.job.options):,}"),
        ("longest piece by default", f"{model.max_length:,} tokens"),
    ]
    yield from _table(("model", "value"), rows)


def _options(card: RunCard) -> Iterator[str]:
    yield from _section("Options")
    options = asdict(card.job.options)
    options["layers"] = ",".join(map(str, options["layers"]))
    chosen = {name: value for name, value in options.items() if value is not None}
    yield from _table(("option", "value"), [*chosen.items(), ("shards", len(card.job.shards))])


def _counts(card: RunCard) -> Iterator[str]:
    counts = card.job.counts
    yield from _section("Counts")
    job = card.job
    rows = [
        ("records read", counts.num_records),
        ("embedded", card.num_embedded),
        ("set aside (quarantine)", card.num_quarantined),
        ("longer than the limit", "not known" if card.num_long is None else card.num_long),
        ("repeated ids", counts.num_duplicate_ids),
        ("repeated sequences", counts.num_duplicate_sequences),
        ("of these computed once for all", job.twins.num_twins if job.twins else 0),
        ("copied from an earlier job", job.reuse.num_vectors if job.reuse else 0),
    ]
    yield from _table(("what", "records"), [(name, _number(value)) for name, value in rows])


def _quarantine(card: RunCard) -> Iterator[str]:
    if not card.num_quarantined:
        return
    yield from _section("Quarantine")
    yield from _table(("reason", "records"), [(name, _number(n)) for name, n in card.reasons.items()])
    yield ""
    yield f"All of them stand in `{card.output}.quarantine.tsv`; the first:"
    yield ""
    rows = [(entry.ordinal, entry.id, entry.length, entry.reason) for entry in card.quarantine]
    yield from _table(("ordinal", "id", "length", "reason"), rows)


def _speed(card: RunCard) -> Iterator[str]:
    yield from _section("Devices and speed")
    rows = [(device.name, device.num_workers, device.num_hosts) for device in card.devices]
    if rows:
        yield from _table(("device", "workers", "hosts"), rows)
        yield ""
    yield from _throughput(card.throughput)


def _throughput(throughput: Throughput) -> Iterator[str]:
    if throughput.busy_seconds is None:
        yield "The job directory does not tell how long it took."
        return
    rows = [
        ("from", throughput.began),
        ("to", throughput.ended),
        ("of this at work", duration(throughput.busy_seconds)),
        ("sequences a second", f"{throughput.sequences_per_second:,.1f}"),
        ("tokens, special ones included", f"{throughput.num_tokens:,}"),
        ("tokens a second", f"{throughput.tokens_per_second:,.0f}"),
        ("of the token budget used", percent(throughput.fill)),
    ]
    yield from _table(("speed", "value"), rows)


def _faults(faults: Faults) -> Iterator[str]:
    """Of a job that nothing happened to, that alone."""
    yield from _section("Faults survived")
    counted = [
        ("the command was started", faults.command_starts),
        ("a worker of it died and was started again", faults.worker_deaths),
        ("the embedded server died and was started again", faults.server_deaths),
        ("a shard was recovered from a worker that died or was cut off", faults.shards_recovered),
        ("a shard was tried again after an error", faults.shards_retried),
        ("a shard was given back in order (end of a worker, pause, Ctrl-C)", faults.shards_given_back),
    ]
    rows = [(name, _number(value)) for name, value in counted if value]
    yield from _table(("what", "times"), rows) if faults.any else ("None.",)
    if faults.errors:
        yield ""
        yield from (f"- {_cell(error)}" for error in faults.errors)


def _versions(card: RunCard) -> Iterator[str]:
    yield from _section("Versions")
    yield from _table(("software", "version"), list(card.versions.items()))
    yield ""


# ---- Markdown


def _section(name: str) -> Iterator[str]:
    yield from ("", f"## {name}", "")


def _table(head: Row, rows: Iterable[Row]) -> Iterator[str]:
    yield _line(head)
    yield "|" + "---|" * len(head)
    yield from map(_line, rows)


def _line(cells: Row) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(value: object) -> str:
    """One line, without what would end the cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
