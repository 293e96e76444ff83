"""Tables that were written as an output, as their users read them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def table_of(output: Path) -> pa.Table:
    """That of a .parquet, .arrow or .feather file, or of a directory."""
    if output.suffix in (".arrow", ".feather"):
        with pa.memory_map(str(output)) as mapped:
            return pa.ipc.open_file(mapped).read_all()
    return pq.read_table(output)
