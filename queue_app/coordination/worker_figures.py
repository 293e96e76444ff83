"""What a worker computes right now: a handful of figures that travel with the beat of its shard.

Counting costs two additions a batch; everything else happens when somebody reads.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

WINDOW_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One worker's figures. Rates are over the last 20 seconds; shares lie between 0 and 1; None: not known.

    `fill` is the share of the token budget that the shard's batches use, `wait_share` that of the time in
    which the computation waited for its next batch. `gpu_share` is the device's utilisation.
    """

    sequences_per_second: float = 0.0
    tokens_per_second: float = 0.0
    fill: float | None = None
    wait_share: float | None = None
    gpu_share: float | None = None
    gpu_memory_bytes: int | None = None
    gpu_memory_total_bytes: int | None = None

    def encode(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Figures | None":
        """None for what is none: a shard that was just leased has no figures yet."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class _Counted:
    """Everything so far, at one moment."""

    time: float
    sequences: int = 0
    tokens: int = 0
    waited: float = 0.0


class Pace:
    """Counts what one process computes, over all its shards.

    The inference thread counts, the heartbeat's reads.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._now = _Counted(clock())
        self._seen = deque([self._now])
        self._fill: float | None = None
        self._waited = 0.0

    def begin(self, fill: float) -> None:
        """A shard begins; what was long before does not count as its pace."""
        with self._lock:
            self._fill, self._waited = fill, 0.0
            if self._clock() - self._now.time > WINDOW_SECONDS:
                self._now = _Counted(self._clock())
                self._seen = deque([self._now])

    def add(self, sequences: int, tokens: int, waited: float) -> None:
        """A batch has ended. `waited` is how long its shard's batches have been waited for so far."""
        now, gained = self._now, waited - self._waited
        self._waited = waited
        self._now = _Counted(
            self._clock(), now.sequences + sequences, now.tokens + tokens, now.waited + gained
        )

    def figures(self) -> Figures:
        """Over the window; a computation that stands still slows down here."""
        with self._lock:
            now, since, seconds = self._now, self._oldest(), self._clock() - self._seen[0].time
            if now.time > self._seen[-1].time:
                self._seen.append(now)
        if seconds <= 0:
            return Figures(fill=self._fill)
        return Figures(
            sequences_per_second=round((now.sequences - since.sequences) / seconds, 3),
            tokens_per_second=round((now.tokens - since.tokens) / seconds, 3),
            fill=None if self._fill is None else round(self._fill, 4),
            wait_share=round(min((now.waited - since.waited) / seconds, 1.0), 4),
        )

    def _oldest(self) -> _Counted:
        """What had been counted when the window began."""
        while len(self._seen) > 1 and self._clock() - self._seen[1].time >= WINDOW_SECONDS:
            self._seen.popleft()
        return self._seen[0]
