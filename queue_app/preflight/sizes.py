"""How large the files of a job will be, before there are any: to some percent."""

from dataclasses import dataclass

from queue_app.choices import H5Layout
from queue_app.job.output_names import Format

OUTPUT_BYTES = 4096
SHARD_BYTES = 1024
"""What a file takes by itself, and each shard has two: headers, names, provenance."""
ROW_BYTES: dict[Format, int] = {"npy": 1, "parquet": 8, "arrow": 4, "directory": 15}
"""What a record takes beside its vector and the letters of its id."""
H5_ROW_BYTES: dict[H5Layout, int] = {"flat": 41, "per-sequence": 350, "per-id": 355, "per-hash": 415}
"""The same in each layout of an .h5: a dataset of one's own has a header, a name and an attribute."""
SHARD_ROW_BYTES = 28
"""The same in a shard's file, beside id and sequence."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """In bytes. `outputs` is what the output would be in each format; `shards` and `results` stay in the
    job directory until `holdfast clean`."""

    vectors: int
    outputs: dict[Format, int]
    shards: int
    results: int


def sizes_of(
    *,
    num_rows: int,
    num_good: int,
    num_shards: int,
    num_sequence_bytes: int,
    num_id_bytes: int,
    num_vectors: int,
    vector_bytes: int,
    own_share: float,
    h5_layout: H5Layout,
) -> Sizes:
    """`num_good` records have a row in the output, `num_rows` one in a shard's file; `num_id_bytes` are those
    of all ids. `own_share` is that of the vectors that belong to no twin: results have no others. Datasets
    that records share are counted once for each."""
    vectors = num_vectors * vector_bytes
    content = vectors + num_id_bytes
    row_bytes: dict[Format, int] = {"h5": H5_ROW_BYTES[h5_layout], **ROW_BYTES}
    outputs = {name: content + num_good * row + OUTPUT_BYTES for name, row in row_bytes.items()}
    shards = num_sequence_bytes + num_id_bytes + num_rows * SHARD_ROW_BYTES + num_shards * SHARD_BYTES
    results = round(outputs["directory"] * own_share) + num_shards * SHARD_BYTES
    return Sizes(vectors, outputs, shards, results)
