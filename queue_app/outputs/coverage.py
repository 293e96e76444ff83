"""The completeness contract, record by record: each is embedded or set aside, once, and none is missing."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from queue_app.job.sequences import Int64s

NAMED_MOST = 5


class Coverage:
    """How often each record of a job was accounted for; two bytes a record."""

    def __init__(self, num_records: int) -> None:
        self._times = np.zeros(num_records, np.uint8)
        self._is_embedded = np.zeros(num_records, np.bool_)

    def embed(self, ordinals: Int64s) -> None:
        """These records have a row."""
        known = ordinals[ordinals < len(self._times)]
        self._is_embedded[known] = True
        self._count(known)

    def set_aside(self, ordinals: Sequence[int]) -> None:
        self._count(np.array([each for each in ordinals if each < len(self._times)], np.int64))

    def embed_twins(self, twins: pa.RecordBatch) -> None:
        """After all rows: twins have the row of their first, where it has one."""
        firsts = twins.column("first").to_numpy()
        self._count(twins.column("ordinal").to_numpy()[self._is_embedded[firsts]])

    def damage(self, *, finished: bool) -> list[str]:
        """What is wrong, one line each; of an unfinished job no record is missing yet."""
        return [
            *self._lines(np.flatnonzero(self._times > 1), "accounted for more than once"),
            *self._lines(
                np.flatnonzero(self._times == 0) if finished else [], "neither embedded nor set aside"
            ),
        ]

    def _count(self, ordinals: Int64s) -> None:
        np.add.at(self._times, ordinals, 1)

    def _lines(self, ordinals: Sequence[int] | Int64s, what: str) -> list[str]:
        if not len(ordinals):
            return []
        named = ", ".join(map(str, ordinals[:NAMED_MOST]))
        more = f" and {len(ordinals) - NAMED_MOST:,} more" if len(ordinals) > NAMED_MOST else ""
        return [f"records {named}{more} are {what}"]
