"""The run card for people: `<output>.card.md`."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from rich.filesize import decimal

from queue_app.ingest.readers.formats import reading
from queue_app.job.readouts import vector_dim
from queue_app.model.wording import described_head, model_kind, run_by, written
from queue_app.outputs.run_card.card import RunCard
from queue_app.wording import count, duration, percent

Row = Sequence[object]
INPUTS_SHOWN = 100
TOKENIZERS = {
    "letters": "a table of letters, made of the model's tokenizer",
    "fast": "the model's tokenizer, by the tokenizers library",
    "slow": "the model's tokenizer, by transformers",
}


def card_markdown(card: RunCard) -> str:
    """The whole card. Sections that would be empty are left out."""
    sections: dict[str, Iterable[str]] = {
        "For a Methods section": [card.methods],
        "To compute it again": _again(card),
        "Inputs": _inputs(card),
        "Model": _table("model", "value", rows=_model(card)),
        "Options": _table("option", "value", rows=_options(card)),
        "Counts": _table("what", "records", rows=_counts(card)),
        "Quarantine": _quarantine(card),
        "Devices and speed": _speed(card),
        "Faults survived": _faults(card),
        "Versions": _table("software", "version", rows=card.versions.items()),
    }
    lines = list(_head(card))
    for name, found in sections.items():
        if section := list(found):
            lines += ["", f"## {name}", "", *section]
    return "\n".join([*lines, ""])


def _head(card: RunCard) -> Iterator[str]:
    job = card.job
    yield f"# Run card of {card.output}"
    yield ""
    yield (
        f"{card.counted.num_embedded:,} of {count(job.counts.num_records, 'record')} embedded with "
        f"{job.model.name}: {vector_dim(job.model, job.options):,} dimensions, {job.options.store_dtype}. "
        f"Content digest `{card.content_digest}`."
    )
    for note in (*job.notes, *filter(None, [card.mixed_kinds])):
        yield ""
        yield f"Note: {note}."


def _again(card: RunCard) -> Iterator[str]:
    yield from ("```sh", card.command, "```", "")
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
    inputs = card.job.inputs
    rows = [
        (file.name, decimal(file.size_bytes), reading(file.read_as) if file.read_as else "not known",
         f"`{file.digest}`")
        for file in inputs[:INPUTS_SHOWN]
    ]  # fmt: skip
    yield from _table("file", "size", "read as", "xxh3-128", rows=rows)
    if len(inputs) > INPUTS_SHOWN:
        yield ""
        yield f"And {len(inputs) - INPUTS_SHOWN:,} more: {card.output}.card.json lists all of them."


def _model(card: RunCard) -> list[Row]:
    model = card.job.model
    return [
        ("name", model.name),
        ("fingerprint", f"`{model.digest}`"),
        ("type", model_kind(model)),
        ("computed by", run_by(model)),
        *([("commit on the hub", model.revision)] if model.revision else []),
        ("parameters", model.num_parameters),
        ("weights stored as", model.stored_dtype),
        ("adapter", f"LoRA, merged: {model.adapter.file}" if model.adapter else "none"),
        ("sequences", f"{model.alphabet}: {written(model)}"),
        ("tokens", TOKENIZERS[model.tokens.kind]),
        ("prompt", repr(model.prompt.text) if model.prompt else "none"),
        ("behind the pooling", described_head(model)),
        ("dimensions", vector_dim(model, card.job.options)),
        ("longest piece by default", f"{model.max_length:,} tokens"),
    ]


def _options(card: RunCard) -> list[Row]:
    """As the command takes them, which has no thousands' separators."""
    options = asdict(card.job.options)
    options["layers"] = ",".join(map(str, options["layers"]))
    chosen = [(name, str(value)) for name, value in options.items() if value is not None]
    return [*chosen, ("shards", str(len(card.job.shards)))]


def _counts(card: RunCard) -> list[Row]:
    counts, num_long = card.job.counts, card.counted.num_long
    return [
        ("records read", counts.num_records),
        ("embedded", card.counted.num_embedded),
        ("set aside (quarantine)", card.num_quarantined),
        ("longer than the limit", "not known" if num_long is None else num_long),
        ("repeated ids", counts.num_duplicate_ids),
        ("repeated sequences", counts.num_duplicate_sequences),
        ("of these computed once for all", card.num_duplicates),
        ("copied from an earlier job", card.num_reused),
    ]


def _quarantine(card: RunCard) -> Iterator[str]:
    if not card.num_quarantined:
        return
    yield from _table("reason", "records", rows=card.counted.reasons.items())
    yield ""
    yield f"All of them stand in `{card.output}.quarantine.tsv`; the first:"
    yield ""
    rows = [(str(entry.ordinal), entry.id, str(entry.length), entry.reason) for entry in card.quarantine]
    yield from _table("ordinal", "id", "length", "reason", rows=rows)


def _speed(card: RunCard) -> Iterator[str]:
    if card.devices:
        rows = [(device.name, str(device.num_workers), str(device.num_hosts)) for device in card.devices]
        yield from _table("device", "workers", "hosts", rows=rows)
        yield ""
    speed = card.throughput
    if speed.busy_seconds is None:
        yield "The job directory does not tell how long it took."
        return
    found = [
        ("from", speed.began),
        ("to", speed.ended),
        ("of this at work", duration(speed.busy_seconds)),
        ("sequences a second", f"{speed.sequences_per_second:,.1f}"),
        ("tokens, special ones included", speed.num_tokens),
        ("tokens a second", f"{speed.tokens_per_second:,.0f}"),
        ("of the token budget used", percent(speed.fill)),
    ]
    yield from _table("speed", "value", rows=found)


def _faults(card: RunCard) -> Iterator[str]:
    """What happened. Where nothing did, it does not count how often the command was started."""
    faults = card.faults
    counted = [
        ("the command was started", faults.command_starts),
        ("a worker of it died and was started again", faults.worker_deaths),
        ("the embedded server died and was started again", faults.server_deaths),
        ("a shard was recovered from a worker that died or was cut off", faults.shards_recovered),
        ("a shard was tried again after an error", faults.shards_retried),
        ("a shard was given back in order (end of a worker, pause, Ctrl-C)", faults.shards_given_back),
    ]
    rows = [row for row in counted if row[1]]
    yield from _table("what", "times", rows=rows) if faults.any else ("None.",)
    if faults.errors:
        yield ""
        yield from (f"- {_cell(error)}" for error in faults.errors)


def _table(*head: str, rows: Iterable[Row]) -> Iterator[str]:
    yield _line(head)
    yield "|" + "---|" * len(head)
    yield from map(_line, rows)


def _line(cells: Row) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(value: object) -> str:
    """One line, without what would end the cell."""
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return " ".join(text.split()).replace("|", "\\|")
