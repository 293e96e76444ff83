"""What kinds of device a job's vectors were computed by, as its done records say: one, or it is told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from checkpoint.records import DoneRecord, Kind
from queue_app.wording import count


@dataclass(frozen=True, slots=True)
class KindShare:
    """So many shards, with so many embedded sequences, were computed by these kinds.

    Several: a shard was begun by one and ended by another. None: nobody said.
    """

    kinds: tuple[Kind, ...]
    num_shards: int
    num_sequences: int

    def __str__(self) -> str:
        named = " and ".join(map(str, self.kinds)) or "not known"
        shards = count(self.num_shards, "shard")
        return f"{named} ({shards}, {count(self.num_sequences, 'sequence')})"


def shares_of(records: Iterable[DoneRecord]) -> tuple[KindShare, ...]:
    """The largest first; a shard of which nothing was embedded has no part in it."""
    found: dict[tuple[Kind, ...], list[int]] = {}
    for record in records:
        if record.num_embedded:
            found.setdefault(record.kinds, []).append(record.num_embedded)
    shares = (KindShare(kinds, len(embedded), sum(embedded)) for kinds, embedded in found.items())
    return tuple(sorted(shares, key=lambda share: (-share.num_sequences, str(share))))


def mixed_text(shares: Sequence[KindShare]) -> str:
    """`Computed by 2 kinds of device, …: A (3 shards, 90 sequences); B (…)`; empty where it was one.

    What nobody said of a part counts as one more kind: it may be.
    """
    kinds = {kind for share in shares for kind in share.kinds or (None,)}
    if len(kinds) < 2:
        return ""
    named = "; ".join(map(str, shares))
    return f"Computed by {len(kinds)} kinds of device, whose vectors may differ in their last bits: {named}"
