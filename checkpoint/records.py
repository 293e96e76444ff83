"""The small records that travel beside the blocks: quarantine entries and the done record."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One record that was set aside, and why."""

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
class DoneRecord:
    """Says which published file is a shard's result. `digest` is the xxh3-128 (hex) of that file.

    `job` is the id of the job that it belongs to, and `generation` how often the shard had been reopened when
    it was computed.
    """

    file: str
    digest: str
    num_records: int
    num_embedded: int
    quarantine: tuple[QuarantineEntry, ...] = ()
    job: str = ""
    generation: int = 0

    def encode(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> "DoneRecord":
        """Raises ValueError when `data` is not an encoded done record."""
        try:
            fields = json.loads(data)
            entries = tuple(QuarantineEntry(**entry) for entry in fields.pop("quarantine"))
            return cls(**fields, quarantine=entries)
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not a done record: {error}") from None
