"""The same records as a file of every format, plain and packed; and a standard input of one's own."""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from queue_app.ingest.readers.compression import zstd

Pairs = Sequence[tuple[str, str]]


def as_fasta(pairs: Pairs) -> bytes:
    """In lines of 60 letters."""
    lines = []
    for name, sequence in pairs:
        lines += [f">{name} a protein", *(sequence[at : at + 60] for at in range(0, len(sequence), 60))]
    return "".join(f"{line}\n" for line in lines).encode()


def as_fastq(pairs: Pairs) -> bytes:
    return "".join(f"@{name} a read\n{text}\n+\n{'I' * len(text)}\n" for name, text in pairs).encode()


def as_csv(pairs: Pairs) -> bytes:
    file = io.StringIO()
    csv.writer(file, lineterminator="\r\n").writerows([("id", "sequence"), *pairs])
    return file.getvalue().encode()


def as_tsv(pairs: Pairs) -> bytes:
    return "".join(f"{name}\t{text}\n" for name, text in [("name", "seq"), *pairs]).encode()


def as_json_lines(pairs: Pairs) -> bytes:
    lines = (json.dumps({"id": name, "text": text}, ensure_ascii=False) for name, text in pairs)
    return "".join(f"{line}\n" for line in lines).encode()


def as_lines(pairs: Pairs) -> bytes:
    """Without the ids."""
    return "".join(f"{text}\n" for _, text in pairs).encode()


def as_table(pairs: Pairs, kind: pa.DataType | None = None) -> pa.Table:
    """With a column between that nobody asked for."""
    names, texts = ([pair[place] for pair in pairs] for place in (0, 1))
    other = pa.array([[0.5] * 8] * len(pairs), pa.list_(pa.float32(), 8))
    return pa.table({"id": pa.array(names, kind), "other": other, "sequence": pa.array(texts, kind)})


def as_parquet(pairs: Pairs) -> bytes:
    sink = io.BytesIO()
    pq.write_table(as_table(pairs), sink, row_group_size=7, write_page_checksum=True)
    return sink.getvalue()


def as_arrow_file(pairs: Pairs) -> bytes:
    return arrow_bytes(as_table(pairs, pa.large_string()), pa.ipc.new_file)


def as_feather(pairs: Pairs) -> bytes:
    """As write_feather and pandas do it: packed by LZ4."""
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    return arrow_bytes(as_table(pairs), pa.ipc.new_file, options=options)


def as_arrow_stream(pairs: Pairs) -> bytes:
    return arrow_bytes(as_table(pairs, pa.string_view()), pa.ipc.new_stream)


def arrow_bytes(table: pa.Table, new: Callable[..., Any], **options: object) -> bytes:
    sink = io.BytesIO()
    with new(sink, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=7)
    return sink.getvalue()


TEXTS: dict[str, Callable[[Pairs], bytes]] = {
    ".fasta": as_fasta,
    ".fastq": as_fastq,
    ".csv": as_csv,
    ".tsv": as_tsv,
    ".jsonl": as_json_lines,
    ".txt": as_lines,
}
COLUMNAR: dict[str, Callable[[Pairs], bytes]] = {
    ".parquet": as_parquet,
    ".arrow": as_arrow_file,
    ".feather": as_feather,
    ".arrows": as_arrow_stream,
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}
EVERY_KIND = [*(f"{text}{packed}" for text in TEXTS for packed in PACKED), *COLUMNAR]


def contents(kind: str, pairs: Pairs) -> bytes:
    """What a file of that kind, such as `.csv.gz`, holds."""
    if kind in COLUMNAR:
        return COLUMNAR[kind](pairs)
    text = next(ending for ending in TEXTS if kind.startswith(ending) and kind[len(ending) :] in PACKED)
    return PACKED[kind[len(text) :]](TEXTS[text](pairs))


@contextlib.contextmanager
def standard_input(data: bytes) -> Iterator[None]:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        with as_standard_input(file.fileno()):
            yield


@contextlib.contextmanager
def as_standard_input(descriptor: int) -> Iterator[None]:
    kept = os.dup(0)
    os.dup2(descriptor, 0)
    try:
        yield
    finally:
        os.dup2(kept, 0)
        os.close(kept)
