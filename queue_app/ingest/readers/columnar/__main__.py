"""The child: told over its standard input, a socket, which file to read, it hands its rows over.

Between two files it waits some seconds for the next one, and ends when none comes: whoever reads again
starts another child.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from queue_app.errors import InputError
from queue_app.host.child_processes.confined_child import confine
from queue_app.host.memory import do_without_pandas
from queue_app.ingest.readers.bounds.limits import Limits
from queue_app.ingest.readers.columnar.frames import (
    BATCH,
    CLOSE,
    FRAME_MOST,
    OPEN,
    receive,
    send,
    send_json,
)
from queue_app.ingest.readers.columnar.tables import File, open_table
from queue_app.ingest.readers.columns import Columns
from queue_app.ingest.readers.keep import Keep

IDLE_SECONDS = 30.0

Answers = Iterator[bytes | dict[str, Any]]


def main(memory_most: int) -> None:
    do_without_pandas()
    confine(memory_most)
    channel = socket.socket(fileno=0)
    answers: Answers = iter(())
    is_reading = False
    while True:
        channel.settimeout(None if is_reading else IDLE_SECONDS)
        try:
            letter, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        except TimeoutError:
            return
        if not letter:
            return
        if letter == OPEN:
            channel.settimeout(None)
            answers = _answers(descriptors[0], json.loads(receive(channel)[1]))
        if letter == CLOSE:
            answers, is_reading = iter(()), False
        else:
            is_reading = _answer(channel, next(answers))


def _answer(channel: socket.socket, answer: bytes | dict[str, Any]) -> bool:
    """False when it was the last of a file."""
    if isinstance(answer, bytes):
        send(channel, BATCH, answer)
        return True
    send_json(channel, answer)
    return "chosen" in answer


def _answers(descriptor: int, request: dict[str, Any]) -> Answers:
    """First what is read of the file, then its batches, then that it has ended, or why it cannot be read."""
    try:
        yield from _tables(descriptor, request)
    except InputError as error:
        yield {"error": str(error)}
    except OSError as error:
        yield {"error": f"{request['name']}: cannot be read: {error.strerror or error}"}
    finally:
        os.close(descriptor)


def _tables(descriptor: int, request: dict[str, Any]) -> Answers:
    path, limits = f"/dev/fd/{descriptor}", Limits(**request["limits"])
    file = File(path, request["name"], request["format"], request["is_stream"], limits)
    keep = request["keep"]
    columns = Columns(request["id"], request["sequence"], keep=Keep(None if keep is None else tuple(keep)))
    chosen, batches = open_table(file, columns)
    yield {"chosen": asdict(chosen)}
    num_rows = 0
    for batch in batches:
        written = _written(batch)
        if len(written) > FRAME_MOST:
            raise InputError(f"{file.name}: row {num_rows + 1} has {len(written):,} bytes")
        yield written
        num_rows += batch.num_rows
    yield {"num_rows": num_rows}


def _written(batch: pa.RecordBatch) -> bytes:
    """A stream of one batch, as a column's type may change from one to the next."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(memoryview(sink.getvalue()))


if __name__ == "__main__":
    main(int(sys.argv[1]))
