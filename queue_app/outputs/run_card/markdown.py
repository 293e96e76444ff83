"""The run card for people: `<output>.card.md`. What one reads first stands first, fingerprints at the end."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

from rich.filesize import decimal

from queue_app.ingest.readers.formats import reading
from queue_app.ingest.readers.keep import written_keep
from queue_app.job.readouts import is_contacts, is_ragged, vector_dim
from queue_app.model.wording import described_head, run_by, written
from queue_app.outputs.run_card.card import RunCard
from queue_app.outputs.run_card.methods_section import SOURCE_WANTED
from queue_app.outputs.run_card.model_name import ModelName, title_of
from queue_app.shown import markdown_text
from queue_app.wording import count, duration, percent

Row = Sequence[object]
CELL_MOST = 1_000
"""Letters of what others wrote, such as an id, in a cell."""
INPUTS_SHOWN = 100
TOKENIZERS = {
    "letters": "a table of letters, made of the model's tokenizer",
    "fast": "the model's tokenizer, by the tokenizers library",
    "slow": "the model's tokenizer, by transformers",
}
OPTIONS = {
    "pool": "pooling",
    "dtype": "computed in",
    "store_dtype": "stored as",
    "alphabet": "sequences are",
    "long": "what becomes of longer ones",
    "max_length": "longest piece, in tokens",
    "window_overlap": "least overlap of windows, in tokens",
    "toks_per_batch": "tokens in a batch",
    "device_class": "kind of device",
    "id_column": "column of ids",
    "sequence_column": "column of sequences",
    "delimiter": "delimiter",
    "id": "ids are made by",
    "keep": "columns that stay with the records",
    "limit": "limits of the reader",
    "layers": "layer",
    "input_format": "format of the input",
    "dedup": "identical sequences computed once",
    "kernels": "kernels of a GPU",
    "exact": "vectors do not depend on their company",
}
EVIDENCE = {
    "hub id": "its id on the Hugging Face hub; its shapes agree",
    "weights": "its weights, which are the published ones byte for byte",
    "shapes": "its shapes alone: whether its weights are the published ones is not known",
    "architecture": "its architecture alone: it is none of the published models that Holdfast knows",
    "none": "a stand-in for tests",
}


def card_markdown(card: RunCard) -> str:
    """The whole card. Sections that would be empty are left out."""
    sections: dict[str, Iterable[str]] = {
        "What was embedded": _embedded(card),
        "How": _how(card),
        "What came out": _table("what", "value", rows=_output(card)),
        "Quarantined": _quarantine(card),
        "Devices and speed": _speed(card),
        "Interruptions survived": _faults(card),
        "To compute it again": _again(card),
        "For a Methods section": [_methods(card)],
        "To cite": _citations(card),
        "Fingerprints": _fingerprints(card),
    }
    lines = list(_head(card))
    for name, found in sections.items():
        if section := list(found):
            lines += ["", f"## {name}", "", *section]
    return "\n".join([*lines, ""])


def _head(card: RunCard) -> Iterator[str]:
    job = card.job
    yield f"# {markdown_text(f'{card.output}: embeddings by {title_of(job.model, card.model_name)}')}"
    yield ""
    yield (
        f"{card.counted.num_embedded:,} of {count(job.counts.num_records, 'record')} embedded, "
        f"{card.num_quarantined:,} quarantined. Written by Holdfast {card.written.versions['holdfast']} at "
        f"{card.written.at} on {markdown_text(card.written.host)}."
    )
    for note in (*job.notes, *filter(None, [card.mixed_kinds])):
        yield ""
        yield f"Note: {markdown_text(note)}."


def _embedded(card: RunCard) -> Iterator[str]:
    inputs = card.job.inputs
    rows = [
        (file.name, decimal(file.size_bytes), reading(file.read_as) if file.read_as else "not known")
        for file in inputs[:INPUTS_SHOWN]
    ]
    yield from _table("file", "size", "read as", rows=rows)
    yield ""
    if len(inputs) > INPUTS_SHOWN:
        complete = _code(f"{card.output}.card.json")
        yield f"And {len(inputs) - INPUTS_SHOWN:,} more: {complete} lists all of them."
        yield ""
    yield from _table("what", "records", rows=_counts(card))


def _how(card: RunCard) -> Iterator[str]:
    yield from _table("model", "value", rows=_model(card, card.model_name))
    yield ""
    yield from _table("option", "value", rows=_options(card))


def _output(card: RunCard) -> Iterator[Row]:
    job, of_contacts = card.job, is_contacts(card.job.options)
    each = "a vector for every residue or token" if is_ragged(job.options) else "a vector for each record"
    each = "a matrix of contacts for each record" if of_contacts else each
    yield "files", ", ".join(card.written.files)
    yield "rows", f"{card.counted.num_embedded:,}, in the order of the input"
    yield "columns", f"{', '.join(card.columns)}: {each} in each" if len(card.columns) > 1 else each
    if of_contacts:
        yield "numbers of a matrix", f"one for each pair of residues, {job.options.store_dtype}"
    else:
        yield "numbers of a vector", f"{vector_dim(job.model, job.options):,}, {job.options.store_dtype}"
    if card.independence:
        yield "a vector depends on", card.independence


def _again(card: RunCard) -> Iterator[str]:
    yield from ("```sh", card.command, "```", "")
    if card.job.options.device_class == "cpu":
        same = f"as many cores of the same kind, {count(card.job.threads, 'thread')} per worker,"
    else:
        same = "the same kind of GPU"
    yield f"On {same} and with these versions it gives the same bytes, elsewhere the same up to rounding."
    yield ""
    yield from _table("software", "version", rows=card.versions.items())


def _citations(card: RunCard) -> Iterator[str]:
    if not card.model_name.is_known and card.job.model.family != "mock":
        yield "The source of the model's weights is not known here: cite it as well."
        yield ""
    yield from (f"- {each.reference}" for each in card.citations)
    yield from ("", "```bibtex", *(each.bibtex for each in card.citations), "```")


def _fingerprints(card: RunCard) -> Iterator[str]:
    """xxh3-128, in hex."""
    job = card.job
    yield "xxh3-128 checksums; the first is that of ids and vectors, in whatever format they are stored."
    yield ""
    shown = [(f"input {file.name}", file.digest) for file in job.inputs[:INPUTS_SHOWN]]
    rows = [
        ("ids and vectors (content digest)", card.content_digest),
        *((f"file {name}", digest) for name, digest in card.written.files.items()),
        ("inputs, model and options (job digest)", job.digest),
        ("model", job.model.digest),
        *shown,
    ]
    yield from _table("of", "fingerprint", rows=[(what, _Code(digest)) for what, digest in rows])


def _model(card: RunCard, named: ModelName) -> list[Row]:
    model = card.job.model
    return [
        ("name", title_of(model, named)),
        ("known by", EVIDENCE[named.evidence]),
        ("type in transformers", model.encoder.model_type),
        ("computed by", run_by(model)),
        *([("revision on the hub", model.revision)] if model.revision else []),
        ("parameters", model.num_parameters),
        ("weights stored as", model.stored_dtype),
        ("adapter", f"LoRA, merged: {model.adapter.file}" if model.adapter else "none"),
        ("sequences", f"{model.alphabet}: {written(model)}"),
        ("tokens", TOKENIZERS[model.tokens.kind]),
        ("prompt", repr(model.prompt.text) if model.prompt else "none"),
        ("after the pooling", described_head(model)),
        ("longest piece, by default", f"{model.max_length:,} tokens"),
    ]


def _options(card: RunCard) -> list[Row]:
    """As the command takes them, which has no thousands' separators."""
    options = asdict(card.job.options)
    options["layers"] = ", ".join(map(str, options["layers"]))
    options["dedup"] = "yes" if options["dedup"] else "no"
    if options["device_class"] == "cpu":
        options["kernels"] = None
    if options["keep"]:
        options["keep"] = written_keep(options["keep"])
    chosen = [(OPTIONS[name], str(value)) for name, value in options.items() if value is not None]
    return [*chosen, ("pieces of work (shards)", str(len(card.job.shards)))]


def _counts(card: RunCard) -> list[Row]:
    counts, num_long = card.job.counts, card.counted.num_long
    return [
        ("records read", counts.num_records),
        ("embedded", card.counted.num_embedded),
        ("quarantined", card.num_quarantined),
        ("longer than the limit", "not known" if num_long is None else num_long),
        ("repeated ids", counts.num_duplicate_ids),
        ("repeated sequences", counts.num_duplicate_sequences),
        ("sharing the vector of an identical one", card.num_duplicates),
        ("copied from an earlier job", card.num_reused),
    ]


def _quarantine(card: RunCard) -> Iterator[str]:
    if not card.num_quarantined:
        return
    yield from _table("reason", "records", rows=card.counted.reasons.items())
    yield ""
    yield f"{_code(f'{card.output}.quarantine.tsv')} lists all of them; the first:"
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


class _Code(str):
    """Letters and digits of ours, in the face of code."""


def _cell(value: object) -> str:
    """One line, without what would end the cell or be more than text."""
    if isinstance(value, _Code):
        return f"`{value}`"
    return markdown_text(f"{value:,}" if isinstance(value, int) else str(value), CELL_MOST)


def _code(text: str) -> str:
    """A name as code, where nothing in it would end the code."""
    return f"`{text}`" if text.isprintable() and not set(text) & set("`|") else markdown_text(text)


def _methods(card: RunCard) -> str:
    """As text; the place that is to be filled in stays as it is."""
    return markdown_text(card.methods).replace(markdown_text(SOURCE_WANTED), SOURCE_WANTED)
