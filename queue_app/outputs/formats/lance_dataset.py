"""Lance: a directory that is a data set of `id` and `embedding`, as the tables have them.

Its files have names by chance, so that no two runs give the same bytes; the rows are the same.
"""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from queue_app.host.durable_files import file_digest, sync_tree
from queue_app.outputs.content import Content
from queue_app.outputs.formats.replacing import Digests, replacing
from queue_app.outputs.formats.writers import table_schema


def write_lance(output: Path, content: Content) -> Digests:
    """Rows are handed over a batch at a time. Raises what reading them raises, not what Lance makes of it."""
    import lance

    schema, rows = table_schema(content), _Rows(content)
    with replacing(output) as temporary:
        try:
            reader = pa.RecordBatchReader.from_batches(schema, rows.batches(schema))
            lance.write_dataset(reader, str(temporary), schema=schema)
        except OSError:
            if rows.failure is not None:
                raise rows.failure from None
            raise
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        sync_tree(temporary)
        return {output / file.relative_to(temporary): file_digest(file) for file in files}


class _Rows:
    """The rows of a content, and what stopped their reading: Lance makes a text of it."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self.failure: BaseException | None = None

    def batches(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        try:
            for batch in self._content.batches_with_kept():
                (rows,) = pa.Table.from_batches([batch.select(schema.names)]).cast(schema).to_batches()
                yield rows
        except Exception as error:
            self.failure = error
            raise
