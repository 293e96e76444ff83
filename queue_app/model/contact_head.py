"""Whether a model can tell contacts: of a family that the method is for, with a head that was trained to.

The head is read from the safetensors themselves, whatever was told of the directory before: a head of random
numbers looks like any other in all but its values.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from queue_app.errors import UsageError
from queue_app.model.spec import ModelSpec

NAMES = ("contact_head.regression.weight", "contact_head.regression.bias")
PREFIXES = ("", "esm.")
"""What may stand before all names of an ESM's weights."""
EOS = 2
"""Whose attention the published head leaves out, whatever a vocabulary says."""
HEADER_BYTES_MOST = 100 << 20
UNTRAINED_MOST = 0.12
"""Six standard deviations of what transformers fills new weights with."""

Floats = npt.NDArray[np.float32]


def refuse_contacts(spec: ModelSpec) -> None:
    """Raises UsageError where `--pool contacts` has no right answer of this model; says why."""
    if not _is_for_contacts(spec):
        raise UsageError(
            f"--pool contacts: {spec.name} is no ESM-2 or ESM-1b that reads proteins residue by residue; "
            "contacts are read from the attention of those"
        )
    if spec.prompt:
        raise UsageError("--pool contacts: a prompt would have contacts too; leave it away (--prompt=)")
    found = dict(_stored(spec))
    for name in NAMES:
        if name not in found:
            raise UsageError(
                f"--pool contacts: the weights of {spec.name} lack {name}; the ESM-2 of the hub have it, "
                "models that were trained further often not"
            )
    layers, heads, size = spec.num_layers, spec.encoder.num_heads, found[NAMES[0]].size
    if size != layers * heads:
        raise UsageError(
            f"--pool contacts: {NAMES[0]} of {spec.name} has {size:,} numbers, and there are {layers} layers "
            f"of {heads} heads"
        )
    if _is_untrained(*(found[name] for name in NAMES)):
        raise UsageError(
            f"--pool contacts: the contact head of {spec.name} was never trained: its weights are small "
            "random numbers, as of every ESM-1v, which was published without one; take an ESM-2"
        )


def _is_for_contacts(spec: ModelSpec) -> bool:
    tokens = spec.tokens
    return (
        (spec.family, spec.encoder.model_type, spec.alphabet, tokens.kind)
        == ("esm2", "esm", "protein", "letters")
        and not (tokens.rules.changes or tokens.rules.before or EOS in tokens.ids)
        and (len(tokens.prefix), tokens.suffix) == (1, (EOS,))
    )


def _is_untrained(weight: Floats, bias: Floats) -> bool:
    """True for what torch or transformers fill a new layer with.

    Contacts are rare, so that what was trained has a bias far below 0; and the corrected attention that it
    weighs is small, so that its weights are not.
    """
    bound = weight.size**-0.5
    return bool(np.abs(bias).max() <= bound and np.abs(weight).max() <= max(bound, UNTRAINED_MOST))


def _stored(spec: ModelSpec) -> Iterator[tuple[str, Floats]]:
    """Those of NAMES that the weights have."""
    for file in spec.encoder.weights:
        path = Path(spec.path) / file
        try:
            yield from _read(path)
        except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
            raise UsageError(f"{path}: not a readable safetensors file: {error}") from None


def _read(path: Path) -> Iterator[tuple[str, Floats]]:
    """https://huggingface.co/docs/safetensors/index#format: 8 bytes of length, JSON, the numbers."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        head = json.loads(file.read(min(length, HEADER_BYTES_MOST)))
        for name in NAMES:
            for prefix in PREFIXES:
                if (entry := head.get(prefix + name)) is not None:
                    begin, end = entry["data_offsets"]
                    file.seek(8 + length + begin)
                    yield name, _floats(file.read(end - begin), entry["dtype"])


def _floats(content: bytes, dtype: str) -> Floats:
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(content, {"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype]).astype(np.float32)
