"""A model in words, for whoever reads of it: which one it is, how its sequences are written, and what becomes
of its vectors. True of every specification."""

from collections.abc import Iterator

from queue_app.model.spec import (
    DenseSpec,
    HeadModule,
    LayerNormSpec,
    ModelSpec,
    NormalizeSpec,
    TruncateSpec,
)
from queue_app.wording import listed

ESM2_LETTERS = {letter: place for place, letter in enumerate("LAGVSERTIDPKQNFYMHWCXBUZO", start=4)}
"""The ids of letters in every published ESM-2, which has signs of alignments beside them."""
ESM2_TOKENS = 33


def is_esm2(model: ModelSpec) -> bool:
    """True for an ESM-2: its layers, rotary positions and vocabulary. SaProt has only the first two."""
    encoder, tokens = model.encoder, model.tokens
    return (
        (model.family, encoder.model_type, tokens.kind) == ("esm2", "esm", "letters")
        and not (encoder.learned_positions or encoder.norm_before)
        and encoder.vocab_size == ESM2_TOKENS
        and dict(zip(tokens.letters, tokens.ids, strict=True)).items() >= ESM2_LETTERS.items()
    )


def model_kind(model: ModelSpec) -> str:
    """`ESM-2`, or the type as transformers calls it."""
    return "ESM-2" if is_esm2(model) else model.encoder.model_type


def run_by(model: ModelSpec) -> str:
    """Who computes it."""
    if model.family == "mock":
        return "a stand-in without weights"
    if model.family != "auto":
        return "Holdfast, without padding"
    return "transformers, without padding where that is right" if model.packs else "transformers, padded"


def written_sequences(model: ModelSpec) -> list[str]:
    """Clauses that say how the model is given a sequence; none where as it stands."""
    return [clause for clause, _ in _treatments(model)]


def written(model: ModelSpec) -> str:
    """The same in short: `U, Z, O, B as X; blanks between letters`, or `as they stand`."""
    said = [short for _, short in _treatments(model)]
    if model.is_read_by_letters and not model.tokens.rules.changes:
        said.append("a token for each letter")
    return "; ".join(said) or "as they stand"


def _treatments(model: ModelSpec) -> Iterator[tuple[str, str]]:
    """Whatever is done to a sequence before it becomes tokens, as a clause and in short."""
    rules = model.tokens.rules
    unit = f"{rules.kmer}-mer" if rules.kmer else "letter"
    if rules.replaced:
        letters, other = [letter for letter, _ in rules.replaced], rules.replaced[0][1]
        yield f"the letters {listed(letters)} were replaced by {other}", f"{', '.join(letters)} as {other}"
    if rules.kmer:
        step = "" if rules.stride == 1 else f", one every {rules.stride} letters"
        yield f"sequences were written as {unit}s{step}", f"{unit}s{step}"
    if rules.behind:
        yield f"each {unit} was followed by {rules.behind!r}", f"{rules.behind} behind each {unit}"
    if rules.between:
        yield f"blanks were put between {unit}s", f"blanks between {unit}s"
    if rules.before:
        before = rules.before.strip()
        yield f"{before!r} was put in front of each", f"{before} in front"
    if model.tokens.lower_case:
        yield "letters were made small", "in small letters"
    if model.prompt:
        text, pooled = model.prompt.text, model.prompt.pooled
        left_out = "" if pooled else ", whose tokens were left out of the pooling"
        yield f"the prompt {text!r} was put in front of each{left_out}", f"prompt {text!r} in front"


def model_line(model: ModelSpec) -> str:
    """`esm2_t6 (ESM-2, 7.5 million parameters)`."""
    said = [model_kind(model)]
    if model.num_parameters:
        said.append(f"{model.num_parameters / 1e6:,.1f} million parameters")
    if model.adapter:
        said.append("LoRA adapter merged")
    if model.revision:
        said.append(f"revision {model.revision[:12]}")
    return model.name if model.family == "mock" else f"{model.name} ({', '.join(said)})"


def described_head(spec: ModelSpec) -> str:
    """`dense, normalize`; `nothing` where the pooled vector is the model's."""
    named = (f"truncate to {each.dim}" if isinstance(each, TruncateSpec) else each.kind for each in spec.head)
    return ", ".join(named) or "nothing"


def treated_vectors(model: ModelSpec) -> list[str]:
    """What was done to the pooled vectors, one after the other, as participles."""
    return [_treated(module) for module in model.head]


def is_width_changed(model: ModelSpec) -> bool:
    """True where a vector has not the numbers that were pooled."""
    return any(isinstance(module, DenseSpec | TruncateSpec) for module in model.head)


def _treated(module: HeadModule) -> str:
    match module:
        case DenseSpec():
            beside = ", added to itself" if module.residual else ""
            return f"passed through a dense layer ({module.activation}{beside}) to {module.outputs:,} numbers"
        case LayerNormSpec():
            return "passed through a layer norm"
        case TruncateSpec():
            return f"cut to their first {module.dim:,} numbers"
        case NormalizeSpec():
            return "scaled to unit length"


def model_differences(old: ModelSpec, new: ModelSpec) -> Iterator[tuple[str, str, str]]:
    """What makes other vectors of the same files: each by name, with both its values."""
    if old.identity() == new.identity():
        return
    values = {
        "prompt": [repr(each.prompt.text if each.prompt else "") for each in (old, new)],
        "rules": [each.tokens.rules.name for each in (old, new)],
        "run by": [run_by(each) for each in (old, new)],
        "behind the pooling": [described_head(each) for each in (old, new)],
    }
    named = [(what, before, now) for what, (before, now) in values.items() if before != now]
    yield from named or [("model", f"{old.name} as read then", f"{new.name} as read now")]
