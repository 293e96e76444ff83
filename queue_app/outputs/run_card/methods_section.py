"""The paragraph for a paper's Methods section: what was computed, in plain prose, true of every option.

Each sentence is a function of the job and of what was counted; a sentence that would have nothing to say is
left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from queue_app.choices import Alphabet, LongRule
from queue_app.job.readouts import EVERY_TOKEN, is_contacts, is_ragged, num_vectors, vector_dim
from queue_app.job.spec import EmbedOptions, Job
from queue_app.model.spec import CONCATENATED, ModelSpec
from queue_app.model.wording import is_width_changed, treated_vectors, written_sequences
from queue_app.outputs.run_card.certificate import Certificate
from queue_app.outputs.run_card.citations import cited
from queue_app.outputs.run_card.model_name import KINDS, ModelName, place_of, size_of
from queue_app.wording import count, listed

NOUNS: Mapping[str, str] = {
    "protein": "protein sequence",
    "dna": "nucleotide sequence",
    "rna": "nucleotide sequence",
    "text": "text",
}
POOLED: Mapping[str, str] = {
    "mean": "the mean of {states} over {tokens}",
    "max": "the element-wise maximum of {states} over {tokens}",
    "cls": "{state} of the first token",
    "last": "{state} of the last of {tokens}",
    "mean_sqrt_len": "the sum of {states} over {tokens}, divided by the square root of their number",
    "weighted_mean": "the mean of {states} over {tokens}, each weighted by its place",
}
DEEPEST = "where {token} in several of them has its vector from the one in which it lies deepest"
OF_WINDOWS: Mapping[str, str] = {
    **dict.fromkeys(("mean", "max", "last", "mean_sqrt_len", EVERY_TOKEN), DEEPEST),
    "weighted_mean": DEEPEST.replace("its vector", "its vector and its weight"),
    "cls": "of whose first tokens the mean was taken, with equal weight",
}
LONG_RULES: Mapping[LongRule, str] = {
    "window": "cut into equally long windows of that length that overlap by at least {overlap}, {of_windows}",
    "truncate": "cut off there",
    "error": "excluded",
}
DTYPES: Mapping[str, str] = {
    "float32": "single precision (float32)",
    "bfloat16": "bfloat16 with pooling in float64",
    "float16": "half precision (float16) with pooling in float64",
    "int8": "int8 for the products of linear layers (a scale for each output and each token) and float32 for "
    "all else",
}
UNITS: Mapping[Alphabet, str] = {"protein": "residue", "dna": "base", "rna": "base", "text": "token"}
SOURCE_WANTED = "[cite the source of these weights]"
"""Stands in the paragraph where nobody but its author can tell."""
CONTACTS = (
    "Each is represented by a symmetric matrix of the probabilities that two of its residues are in contact, "
    "predicted from the attention maps of all layers and heads by average product correction and the model's "
    "logistic regression ({cited}); special tokens were left out. "
    "Matrices were stored as {stored}."
)


@dataclass(frozen=True, slots=True)
class Counted:
    """What the paragraph needs beside the job. `num_long`: records longer than the limit, None: not known."""

    num_embedded: int
    reasons: Mapping[str, int]
    num_long: int | None
    hardware: Sequence[str]
    software: str
    certificate: Certificate | None = None


def methods(job: Job, named: ModelName, counted: Counted) -> str:
    """The whole paragraph, on one line."""
    given = written_sequences(job.model)
    sentences = (
        _model(job.model, named, counted.software),
        _records(job, counted),
        _shared(job),
        f"For the model {listed(given)}." if given else "",
        _vectors(job.model, job.options),
        _long(job, counted.num_long),
        _computing(job, counted.hardware),
        _certified(counted.certificate),
        _identity(job),
    )
    return " ".join(filter(None, sentences))


def _model(model: ModelSpec, named: ModelName, software: str) -> str:
    if model.family == "mock":
        return f"Vectors were made by {model.name}, a test model, with {software}: they mean nothing."
    lora = f" with a LoRA adapter ({cited(['hu2022lora'])}) merged into its weights" if model.adapter else ""
    return f"Embeddings were computed with {_named(model, named)}{lora}, using {software}."


def _named(model: ModelSpec, named: ModelName) -> str:
    """The model as one may call it, what is cited for it, and where it was taken from."""
    kind, size, cites = KINDS[model.alphabet], size_of(model, named), cited(named.cites)
    told = "; ".join(filter(None, [size, cites]))
    where = _where(model)
    match named.evidence:
        case "hub id":
            return f"the {kind} {named.name} ({told}), {where}"
        case "weights":
            return f"the {kind} {named.name} ({told}), whose published weights were {where}"
        case "shapes":
            return f"{_a(kind)} of the shapes of {named.name} ({told}), {where} {SOURCE_WANTED}"
        case _:
            return f"{_a(kind)} of the {named.name} architecture ({told}), {where} {SOURCE_WANTED}"


def _a(kind: str) -> str:
    return f"an {kind}" if kind.startswith("RNA") else f"a {kind}"


def _where(model: ModelSpec) -> str:
    if "/" not in model.name:
        return f"read from the {place_of(model)}"
    revision = f", revision {model.revision}" if model.revision else ""
    return f"{model.name} on the Hugging Face hub{revision}"


def _records(job: Job, counted: Counted) -> str:
    total, embedded = job.counts.num_records, counted.num_embedded
    read = f"{count(total, NOUNS[job.options.alphabet])} from {listed([file.name for file in job.inputs])}"
    if embedded == total:
        return f"All {read} were embedded." if total > 1 else f"The {read} was embedded."
    reasons = [f"{number:,}: {reason}" for reason, number in counted.reasons.items()]
    why = "; ".join(reasons if len(reasons) > 1 else counted.reasons)
    were = "was" if embedded == 1 else "were"
    return f"Of {read}, {embedded:,} {were} embedded and {total - embedded:,} excluded ({why})."


def _shared(job: Job) -> str:
    """Which vectors were not computed for their own record."""
    told = []
    if job.twins:
        told.append(
            f"{count(job.twins.num_twins, 'record')} got the vector of another with the same sequence"
        )
    if job.reuse:
        told.append(f"{count(job.reuse.num_vectors, 'vector')} came from an earlier run of the same model")
    return f"{' and '.join(told)}." if told else ""


def _vectors(model: ModelSpec, options: EmbedOptions) -> str:
    dim, stored = f"{vector_dim(model, options):,} dimensions", f"stored as {options.store_dtype}"
    if model.family == "mock":
        return f"Each vector has {dim} and is {stored}."
    if is_contacts(options):
        return CONTACTS.format(cited=cited(["rao2021contacts"]), stored=options.store_dtype)
    layers = [str(layer) for layer in options.layers]
    of_layers = f", of each of the layers {listed(layers)}" if len(layers) > 1 else ""
    if is_ragged(options):
        return (
            f"Each {_unit(model)} is represented by {_state(model, options)}, {dim}{of_layers}; special "
            f"tokens were left out. Vectors were {stored}."
        )
    number = num_vectors(options)
    vectors = f"a vector of {dim}" if number == 1 else f"{number} vectors of {dim} each"
    pooled = listed([_pooled(model, options, pool) for pool in options.pool.split(",")])
    made_of = "made of " if is_width_changed(model) else ""
    treated = listed([*treated_vectors(model), stored])
    return f"Each is represented by {vectors}, {made_of}{pooled}{of_layers}. Vectors were {treated}."


def _pooled(model: ModelSpec, options: EmbedOptions, pool: str) -> str:
    """One vector; where the model joins several pools in it, one after the other."""
    state = _state(model, options)
    states = state.replace("hidden state", "hidden states")
    tokens = f"its {_unit(model)}s, special tokens {'included' if model.pool_special else 'left out'}"
    parts = [
        POOLED[part].format(state=state, states=states, tokens=tokens) for part in pool.split(CONCATENATED)
    ]
    return parts[0] if len(parts) == 1 else f"the concatenation of {listed(parts)}"


def _state(model: ModelSpec, options: EmbedOptions) -> str:
    """What is taken of one token."""
    if len(options.layers) > 1:
        return "the hidden state"
    (layer,) = options.layers
    is_last = layer in (-1, model.num_layers)
    return "the last layer's hidden state" if is_last else f"the hidden state of layer {layer}"


def _unit(model: ModelSpec) -> str:
    """What one token stands for."""
    return UNITS[model.alphabet] if model.is_read_by_letters else "token"


def _long(job: Job, num_long: int | None) -> str:
    options, unit = job.options, _unit(job.model)
    noun, limit = NOUNS[options.alphabet], f"{options.max_length:,} {unit}s"
    if num_long == 0:
        return f"No {noun} was longer than the limit of {limit}."
    of_windows = _of_windows(options).format(token=f"a {unit}") if options.long == "window" else ""
    rule = LONG_RULES[options.long].format(overlap=f"{options.window_overlap:,}", of_windows=of_windows)
    if num_long == 1:
        return f"The one {noun} of more than {limit} was {rule}."
    which = f"{noun.capitalize()}s" if num_long is None else f"The {num_long:,} {noun}s"
    return f"{which} of more than {limit} were {rule}."


def _of_windows(options: EmbedOptions) -> str:
    by_rule: dict[str, list[str]] = {}
    for pool in options.pool.replace(CONCATENATED, ",").split(","):
        by_rule.setdefault(OF_WINDOWS[pool], []).append(pool)
    if len(by_rule) == 1:
        return next(iter(by_rule))
    return listed([f"{rule} ({', '.join(pools)})" for rule, pools in by_rule.items()])


def _computing(job: Job, hardware: Sequence[str]) -> str:
    where = f" on {listed(hardware)}" if hardware else ""
    if job.model.family == "mock":
        return f"They were computed{where}." if where else ""
    exact = (
        "" if job.options.dtype in ("float32", "int8") else "; what overflowed was computed again in float32"
    )
    dtype = DTYPES[job.options.dtype]
    if is_contacts(job.options):
        dtype = dtype.replace("pooling in float64", "attention maps in float32")
    return f"Computation was in {dtype}{where}{exact}."


def _certified(found: Certificate | None) -> str:
    if found is None:
        return ""
    return (
        f"On {found.num_records} of the records, drawn by length, the cosine with vectors in float32 was "
        f"{found.least_cosine:.6f} at least and {found.mean_cosine:.6f} on average."
    )


def _identity(job: Job) -> str:
    return f"Inputs, model and options together have the xxh3-128 fingerprint {job.digest}."
