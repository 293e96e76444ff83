"""How fast things go in a run: short leases, so that many recoveries fit in, or the defaults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from queue_app.job.spec import RunOptions
from queue_app.settings import RuntimeConfig


@dataclass(frozen=True, slots=True)
class Pace:
    """`settings` go into the environment of every process, `options` onto the command line of every job."""

    lease_seconds: float
    commit_seconds: float
    stuck_seconds: float
    """Jobs of which, after the last fault, for so long nothing is committed, done or exported never end."""
    settings: Mapping[str, str]
    options: Sequence[str]

    @property
    def zombie_seconds_most(self) -> float:
        """A stopped process goes on after so long, whether or not somebody took its shard."""
        return 4 * self.lease_seconds


QUICK = Pace(
    lease_seconds=3.0,
    commit_seconds=0.2,
    stuck_seconds=120.0,
    settings={
        "HOLDFAST_LEASE_SECONDS": "3",
        "HOLDFAST_BEAT_SECONDS": "0.5",
        "HOLDFAST_RECONCILE_SECONDS": "0.2",
        "HOLDFAST_RESEND_SECONDS": "3",
        "HOLDFAST_PRELOAD_TORCH": "0",
    },
    options=["--toks-per-batch", "512", "--commit-seconds", "0.2", "--shards", "5"],
)
DEFAULTS = Pace(
    lease_seconds=RuntimeConfig.model_construct().lease_seconds,
    commit_seconds=RunOptions().commit_seconds,
    stuck_seconds=240.0,
    settings={},
    options=["--shards", "5"],
)
