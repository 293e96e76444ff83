"""Arrow rows in a temporary file: appended in order, taken again by place, in any order.

Of whatever type their columns are, only the pages that are taken come into memory.
"""

from array import array
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from queue_app.array_types import Int64s
from queue_app.host.durable_files import room_for
from queue_app.host.own_files import begun


class SpilledRows:
    """Gone when it is closed. One that a killed process left behind is written over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_rows = 0
        self._starts = array("q")
        self._offsets = array("q")
        self._schema: pa.Schema | None = None
        self._file = pa.OSFile(begun(path), "wb")
        self._mapped: pa.MemoryMappedFile | None = None

    def append(self, batch: pa.RecordBatch) -> None:
        """Raises DiskFull."""
        if not batch.num_rows:
            return
        self._schema = batch.schema
        self._starts.append(self.num_rows)
        self._offsets.append(self._file.tell())
        with room_for(self.path):
            self._file.write(batch.serialize())
        self.num_rows += batch.num_rows
        self._mapped = None  # the map does not grow with the file

    def take(self, places: Int64s) -> pa.RecordBatch:
        """The rows at these places, at least one, in this order."""
        batches = np.searchsorted(self._starts, places, side="right") - 1
        order = np.argsort(batches, kind="stable")
        cuts = np.flatnonzero(np.diff(batches[order])) + 1
        parts = [self._take(int(batches[rows[0]]), places[rows]) for rows in np.split(order, cuts)]
        return pa.concat_batches(parts).take(pa.array(np.argsort(order)))

    def _take(self, batch: int, places: Int64s) -> pa.RecordBatch:
        if self._mapped is None:
            self._mapped = pa.memory_map(str(self.path))
        self._mapped.seek(self._offsets[batch])
        rows = pa.ipc.read_record_batch(pa.ipc.read_message(self._mapped), self._schema)
        return rows.take(pa.array(places - self._starts[batch]))

    def __enter__(self) -> "SpilledRows":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)
