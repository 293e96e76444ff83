"""safetensors: a header that says where each tensor lies, then the tensors, written as a stream.

Tensors are `embeddings` [N, dim], or `embeddings_mean`, `embeddings_cls`, … with several pools or layers;
ragged rows have `offsets` [N + 1], int64, those of int8 and uint8 `ranges` [2, dim]. Provenance stands in the
metadata, and the ids, as there are no tensors of strings, one a line in <output>.ids.txt.

The format: https://github.com/huggingface/safetensors#format
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from queue_app.host.durable_files import DigestedFile, sync_file
from queue_app.job.output_names import ids_path
from queue_app.job.result_files import as_matrix
from queue_app.outputs.content import Content
from queue_app.outputs.formats.named_arrays import array_name, array_shape, ranges_by_name, row_offsets
from queue_app.outputs.formats.replacing import Digests, id_lines, replacing

ALIGNMENT = 8
DTYPES = {"float32": "F32", "float16": "F16", "int8": "I8", "uint8": "U8", "int64": "I64"}

Arrays = Mapping[str, "np.ndarray[Any, Any]"]


def write_safetensors(output: Path, content: Content) -> Digests:
    """In the library's own order: what is wider lies first, so that all are aligned; then by name."""
    small: Arrays = {"offsets": row_offsets(content)} if content.is_ragged else ranges_by_name(content)
    num_vectors = int(small["offsets"][-1]) if content.is_ragged else content.num_rows
    with replacing(ids_path(output)) as ids_temporary, replacing(output) as temporary:
        with DigestedFile(temporary) as file, DigestedFile(ids_temporary) as ids:
            file.write(_header(content, small, num_vectors))
            for array in small.values():
                file.write(array.tobytes())
            for name in (columns := sorted(content.columns)):
                for batch in content.batches():
                    file.write(as_matrix(batch.column(name)).data)
                    if name == columns[0]:
                        ids.write(id_lines(batch))
        sync_file(temporary)
        sync_file(ids_temporary)
    return {output: file.hexdigest(), ids_path(output): ids.hexdigest()}


def _header(content: Content, small: Arrays, num_vectors: int) -> bytes:
    """Its length in 8 bytes, and JSON that blanks fill up to a whole number of words."""
    tensors = [(name, str(array.dtype), array.shape) for name, array in small.items()]
    shape = array_shape(content, num_vectors)
    tensors += [(array_name(name), content.dtype, shape) for name in sorted(content.columns)]
    header = {"__metadata__": dict(content.provenance), **dict(_entries(tensors))}
    text = json.dumps(header, sort_keys=True).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _entries(tensors: Sequence[tuple[str, str, tuple[int, ...]]]) -> Iterator[tuple[str, dict[str, object]]]:
    first = 0
    for name, dtype, shape in tensors:
        end = first + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        yield name, {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [first, end]}
        first = end
