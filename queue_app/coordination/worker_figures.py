"""What a worker computes right now: a handful of figures that travel with the beat of its shard."""

import json
from dataclasses import asdict, dataclass

from queue_app.coordination.trust import values


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
            return values.entry(cls, text, "figures")
        except values.Garbage:
            return None
