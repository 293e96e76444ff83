"""CheckpointWriter: commits blocks from a thread of its own, so that inference never waits for fsync.

What may wait in memory is bounded: where the disk is slower than the model, `put` waits for the disk.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from checkpoint.block import Block
from checkpoint.records import QuarantineEntry
from checkpoint.store import CheckpointStore

PENDING_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class CheckpointTrigger:
    """When waiting blocks are due: after so many sequences, seconds or bytes, whichever comes first.

    Where a sequence has a vector for each token, `size_bytes` is what bounds the memory of a commit: LMDB's
    transaction holds all of it a second time.
    """

    sequences: int = 10_000
    seconds: float = 2.0
    size_bytes: int = PENDING_BYTES

    def due(self, num_sequences: int, elapsed_seconds: float, size_bytes: int) -> bool:
        return (
            num_sequences >= self.sequences
            or elapsed_seconds >= self.seconds
            or size_bytes >= self.size_bytes
        )


@dataclass(slots=True)
class WriterTimes:
    """What writing has cost so far, in seconds but for the number of commits."""

    num_commits: int = 0
    blocked: float = 0.0
    """`put` waited for room: the disk is slower than the model."""
    lag: float = 0.0
    """The longest that a block waited from `put` until it was durable; at best the trigger's seconds."""
    committing: float = 0.0
    latest: float = 0.0
    """The commit that `on_commit` tells of."""
    processor: float = 0.0
    """What the commit thread computed, `on_commit` included."""

    def __str__(self) -> str:
        return (
            f"commits={self.num_commits} blocked={self.blocked:.3f}s lag={self.lag:.3f}s "
            f"committing={self.committing:.3f}s processor={self.processor:.3f}s"
        )


@dataclass(frozen=True, slots=True)
class _Waiting:
    block: Block
    quarantine: tuple[QuarantineEntry, ...]
    since: float


class CheckpointWriter:
    """As a context manager it commits all at the end, also when an exception passes."""

    def __init__(
        self,
        store: CheckpointStore,
        *,
        token: int,
        trigger: CheckpointTrigger,
        max_pending_bytes: int = PENDING_BYTES,
        on_commit: Callable[[Sequence[int]], None] | None = None,
    ) -> None:
        """`on_commit` is called on the commit thread with the batch indices that are durable now."""
        self.store = store
        self.token = token
        self.trigger = trigger
        self.max_pending_bytes = max_pending_bytes
        self.on_commit = on_commit
        self.times = WriterTimes()
        self._waiting: deque[_Waiting] = deque()
        self._pending_bytes = 0
        self._closing = False
        self._failure: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="checkpoint-writer", daemon=True)
        self._thread.start()

    def put(self, block: Block, quarantine: Sequence[QuarantineEntry] = ()) -> None:
        """Hand over a batch; waits while too much is pending. Raises what the commit thread failed with."""
        since = time.monotonic()
        with self._changed:
            self._changed.wait_for(lambda: self._failure or self._has_room(block))
            self.times.blocked += time.monotonic() - since
            if self._failure is not None:
                raise self._failure
            self._waiting.append(_Waiting(block, tuple(quarantine), since))
            self._pending_bytes += block.nbytes
            self._changed.notify_all()

    def close(self) -> None:
        """Commit all that is left and end the thread. Raises what the commit thread failed with."""
        self._end()
        if self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def _has_room(self, block: Block) -> bool:
        """A block that is larger than the bound goes alone."""
        return self._pending_bytes == 0 or self._pending_bytes + block.nbytes <= self.max_pending_bytes

    # ---- the commit thread

    def _run(self) -> None:
        try:
            while due := self._wait_for_due():
                self._commit(due)
        except BaseException as error:  # handed to whoever calls put or close next
            with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _wait_for_due(self) -> list[_Waiting]:
        """All that waits, as soon as any of it is due; empty when there is nothing left to come."""
        with self._changed:
            while not self._is_due():
                if self._closing and not self._waiting:
                    return []
                self._changed.wait(self._seconds_until_due())
            due = list(self._waiting)
            self._waiting.clear()
            return due

    def _is_due(self) -> bool:
        if not self._waiting:
            return False
        num_sequences = sum(len(waiting.block.ordinals) for waiting in self._waiting)
        num_bytes = sum(waiting.block.nbytes for waiting in self._waiting)
        age = time.monotonic() - self._waiting[0].since
        # Half of the bound starts a commit, so that the other half can fill meanwhile.
        room_left = 2 * self._pending_bytes < self.max_pending_bytes
        return self._closing or not room_left or self.trigger.due(num_sequences, age, num_bytes)

    def _seconds_until_due(self) -> float | None:
        if not self._waiting:
            return None
        return max(0.0, self.trigger.seconds - (time.monotonic() - self._waiting[0].since))

    def _commit(self, due: Sequence[_Waiting]) -> None:
        blocks = [waiting.block for waiting in due]
        entries = [entry for waiting in due for entry in waiting.quarantine]
        started = time.monotonic()
        self.store.commit(blocks, token=self.token, quarantine=entries)
        ended = time.monotonic()
        self.times.num_commits += 1
        self.times.latest = ended - started
        self.times.committing += self.times.latest
        self.times.lag = max(self.times.lag, ended - due[0].since)
        with self._changed:
            self._pending_bytes -= sum(block.nbytes for block in blocks)
            self._changed.notify_all()
        if self.on_commit is not None:
            self.on_commit([block.batch_idx for block in blocks])
        self.times.processor = time.thread_time()

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._end()  # what was computed is committed all the same; the first error is the one to show
