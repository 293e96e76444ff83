"""The loader thread: assembles batches and sends them to the device, a bounded number ahead."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType

from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.device import Staged


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A batch that is ready to be computed."""

    batch: TokenBatch
    staged: Staged


class Loader:
    """Iterates over loaded batches, in order. Leaving the `with` block always ends the thread.

    What `assemble` or `stage` raises comes out of `next` at the place of the batch that failed.
    """

    def __init__(
        self,
        batches: Sequence[int],
        assemble: Callable[[int], TokenBatch],
        stage: Callable[[TokenBatch], Staged],
        depth: int,
    ) -> None:
        self._batches = batches
        self._assemble = assemble
        self._stage = stage
        self._ready: SimpleQueue[Loaded | BaseException | None] = SimpleQueue()
        self._slots = threading.Semaphore(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._load_all, name="holdfast-loader", daemon=True)

    def __enter__(self) -> "Loader":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._slots.release()
        self._thread.join()

    def __iter__(self) -> "Loader":
        return self

    def __next__(self) -> Loaded:
        loaded = self._ready.get()
        if loaded is None:
            raise StopIteration
        if isinstance(loaded, BaseException):
            raise loaded
        self._slots.release()
        return loaded

    def _load_all(self) -> None:
        try:
            for batch_idx in self._batches:
                self._slots.acquire()
                if self._closed.is_set():
                    return
                batch = self._assemble(batch_idx)
                self._ready.put(Loaded(batch, self._stage(batch)))
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)
