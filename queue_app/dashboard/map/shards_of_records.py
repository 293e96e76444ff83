"""In which shards records lie, without a look at any of them."""

from collections.abc import Iterator

import numpy as np

from queue_app.array_types import Int64s
from queue_app.job.shard_table import Shard
from queue_app.job.spec import Job


def shards_with(job: Job, ordinals: Int64s) -> Iterator[Shard]:
    """The shards that may hold these records: those of reused vectors lie between the others."""
    for reused in (False, True):
        shards = [shard for shard in job.shards if shard.reused == reused]
        starts = [shard.first_ordinal for shard in shards]
        places = np.unique(np.searchsorted(starts, ordinals, side="right") - 1)
        yield from (shards[place] for place in places if place >= 0)
