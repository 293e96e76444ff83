"""The digest of what an output holds: ids and vectors in their order, and no format's wrapping."""

from collections.abc import Sequence

import pyarrow as pa
import xxhash

from queue_app.results import as_matrix, num_vectors


class ContentDigest:
    """Grows with the rows. One hash for each column: where a batch of rows ends must not be seen in it."""

    def __init__(self, columns: Sequence[str], *, ragged: bool) -> None:
        self._ids = xxhash.xxh3_128()
        self._vectors = {name: xxhash.xxh3_128() for name in columns}
        self._lengths = xxhash.xxh3_128() if ragged else None

    def update(self, rows: pa.RecordBatch) -> None:
        for record_id in rows.column("id").to_pylist():
            self._ids.update(f"{record_id}\n".encode())
        for name, vectors in self._vectors.items():
            vectors.update(as_matrix(rows.column(name)).data)
            if self._lengths is not None:
                self._lengths.update(num_vectors(rows.column(name)).data)

    def hexdigest(self) -> str:
        """xxh3-128, in hex."""
        parts = [self._ids, *self._vectors.values(), *([self._lengths] if self._lengths else [])]
        return xxhash.xxh3_128_hexdigest(b"".join(part.digest() for part in parts))
