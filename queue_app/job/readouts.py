"""What an output holds of each record: of which layers and pools, and how their columns are called."""

from typing import get_args

import numpy as np

from queue_app.array_types import Int64s
from queue_app.choices import Precision
from queue_app.errors import UsageError
from queue_app.job.spec import EmbedOptions
from queue_app.model.spec import CONTACTS, ModelSpec, Pool

EVERY_TOKEN = "none"
"""The pool that keeps the vector of every token: rows are ragged."""
RAGGED = (EVERY_TOKEN, CONTACTS)


def parse_pool(text: str) -> str:
    """`mean`, `mean,cls`, `none` or `contacts`, without blanks. Raises UsageError for anything else."""
    names = [name.strip() for name in text.split(",")]
    known = text.strip() in RAGGED or all(name in get_args(Pool) for name in names)
    if not known or len(set(names)) < len(names):
        raise UsageError(
            f"--pool {text}: some of {', '.join(get_args(Pool))}, each once, or {EVERY_TOKEN} alone, "
            f"or {CONTACTS} alone"
        )
    return ",".join(names)


def parse_layers(text: str) -> tuple[int, ...]:
    """`-1` or `6,-1`. Raises UsageError for what is no list of numbers."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise UsageError(f"--layers {text}: numbers joined by commas, as in 6,-1; -1 is the last") from None


def resolve_layers(layers: tuple[int, ...], spec: ModelSpec) -> tuple[int, ...]:
    """Counted from 0, the embeddings before the first layer. Raises UsageError for one that is not there."""
    most = spec.num_layers
    found = tuple(layer + most + 1 if layer < 0 else layer for layer in layers)
    if len(set(found)) < len(found) or not all(0 <= layer <= most for layer in found):
        raise UsageError(
            f"--layers {','.join(map(str, layers))}: {spec.name} has {most} layers; name some of 0 (before "
            f"the first) to {most}, each once; -1 is the last"
        )
    return found


def is_ragged(options: EmbedOptions) -> bool:
    """True when a record has as many vectors as tokens, or as pairs of them."""
    return options.pool in RAGGED


def is_contacts(options: EmbedOptions) -> bool:
    """True when every pair of a record's residues has a number: L * L vectors of one number, row by row."""
    return options.pool == CONTACTS


def num_vectors(options: EmbedOptions) -> int:
    """How many vectors each record has, or each of its tokens."""
    return len(options.layers) * (options.pool.count(",") + 1)


def vector_dim(spec: ModelSpec, options: EmbedOptions) -> int:
    """Numbers of each vector. Raises UsageError where the model's head does not fit behind the pool."""
    (dim,) = {spec.vector_dim(pool) for pool in options.pool.split(",")}
    return dim


def vector_bytes(spec: ModelSpec, options: EmbedOptions) -> int:
    """Bytes on disk of what each record has, or each of its tokens, or each pair of them."""
    return vector_dim(spec, options) * num_vectors(options) * (2 if options.store_dtype == "float16" else 4)


def token_bytes(spec: ModelSpec, options: EmbedOptions) -> int:
    """Bytes that each token of a record adds to its vectors, at most; 0 where only records have them."""
    if not is_ragged(options):
        return 0
    return vector_bytes(spec, options) * (options.max_length if is_contacts(options) else 1)


def num_vectors_of(lengths: Int64s, options: EmbedOptions) -> int:
    """How many vectors, or rows of them where there are several, records of so many tokens have together."""
    if is_contacts(options):
        within = lengths[lengths <= options.max_length] if options.long == "error" else lengths
        return int((np.minimum(within, options.max_length) ** 2).sum())
    return int(lengths.sum()) if is_ragged(options) else len(lengths)


def num_codes(dim: int, precision: Precision) -> int:
    """How many numbers an output has of each vector of `dim` numbers; of bits, one for 8 of them."""
    return (dim + 7) // 8 if precision.endswith("binary") else dim


def written_bytes(spec: ModelSpec, options: EmbedOptions, precision: Precision) -> int:
    """Bytes in an output of that precision, as `vector_bytes` on disk."""
    if precision == "float32":
        return vector_bytes(spec, options)
    return num_codes(vector_dim(spec, options), precision) * num_vectors(options)


def column_names(options: EmbedOptions) -> tuple[str, ...]:
    """`embedding`, `contacts`; with several pools or layers `embedding_cls`, `embedding_layer_6`, or both."""
    if is_contacts(options):
        return (CONTACTS,)
    pools = options.pool.split(",")
    of_layers = [f"_layer_{layer}" for layer in options.layers] if len(options.layers) > 1 else [""]
    of_pools = [f"_{pool}" for pool in pools] if len(pools) > 1 else [""]
    return tuple(f"embedding{layer}{pool}" for layer in of_layers for pool in of_pools)
