"""The small records that travel beside the blocks: quarantine entries, kinds, and the done record."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One record that was quarantined, and why."""

    ordinal: int
    id: str
    length: int
    reason: str

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "QuarantineEntry":
        """Raises ValueError when `data` is not an encoded entry."""
        try:
            return cls(**json.loads(data))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not a quarantine entry: {error}") from None


@dataclass(frozen=True, slots=True)
class Kind:
    """What computes: vectors of one kind have the same last bits, those of two may not.

    `device` is a GPU as its maker calls it, or a processor with the instruction set in use; `torch` its
    version, with that of Triton where kernels of our own are used; `dtype` the one that is computed in.
    """

    device: str
    torch: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.device}, torch {self.torch}, {self.dtype}"

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Kind":
        """Raises ValueError when `data` is not an encoded kind."""
        try:
            return cls(**json.loads(data))
        except (TypeError, RecursionError) as error:
            raise ValueError(f"not a kind: {error}") from None


def encode_kinds(kinds: Iterable[Kind]) -> bytes:
    return json.dumps([asdict(kind) for kind in kinds]).encode()


def decode_kinds(data: bytes) -> tuple[Kind, ...]:
    """Raises ValueError when `data` is not a list of encoded kinds."""
    try:
        return tuple(Kind(**fields) for fields in json.loads(data))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"not a list of kinds: {error}") from None


@dataclass(frozen=True, slots=True)
class DoneRecord:
    """Says which published file is a shard's result. `digest` is the xxh3-128 (hex) of that file.

    `job` is the id of the job that it belongs to, and `generation` how often the shard had been reopened when
    it was computed. `kinds` are those of whatever computed any of it, in the order in which they came: one,
    unless an attempt ended and another kind went on; none where nothing was computed, or nobody said.
    """

    file: str
    digest: str
    num_records: int
    num_embedded: int
    quarantine: tuple[QuarantineEntry, ...] = ()
    job: str = ""
    generation: int = 0
    kinds: tuple[Kind, ...] = ()

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> "DoneRecord":
        """Raises ValueError when `data` is not an encoded done record."""
        try:
            fields = json.loads(data)
            entries = tuple(QuarantineEntry(**entry) for entry in fields.pop("quarantine"))
            kinds = tuple(Kind(**kind) for kind in fields.pop("kinds", ()))
            return cls(**fields, quarantine=entries, kinds=kinds)
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a done record: {error}") from None
