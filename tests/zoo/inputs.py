"""An input that tells whether anybody read it."""

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Watched:
    """A FIFO with one record. Whoever opens it to read is noticed, and gets the record: nobody hangs."""

    path: Path
    record: bytes = b">watched\nMKTAYIAKQR\n"
    opened: bool = field(default=False, init=False)

    def write(self) -> None:
        with contextlib.suppress(BrokenPipeError), self.path.open("wb") as fifo:  # waits for a reader
            self.opened = True
            fifo.write(self.record)


@contextlib.contextmanager
def watched(path: Path) -> Iterator[Watched]:
    """The FIFO at `path`, for as long as the block lasts."""
    os.mkfifo(path)
    made = Watched(path)
    writer = threading.Thread(target=made.write)
    writer.start()
    try:
        yield made
    finally:
        opened = made.opened
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))  # lets the writer go, if it still waits
        writer.join()
        made.opened = opened
