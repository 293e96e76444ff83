"""Holds a worker at a point beside its computing thread, for a test that then kills or drains it.

A point is armed by a file of its name under HELD_POINTS: who renames it writes its pid to `<point>.held`, and
waits for `<point>.go`. Beside the pid stands the index of the shard, where it is told at the point.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.support.after_import import change_after_import

POINTS = Path(os.environ.get("HELD_POINTS", "/nowhere"))


def index_of(lease: Any) -> int:
    return lease.shard.index if hasattr(lease, "shard") else -1


def held(
    point: str, function: Callable[..., Any], when: Callable[..., bool] = lambda *_: True
) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **options: Any) -> Any:
        if not when(*arguments):
            return function(*arguments, **options)
        try:
            (POINTS / point).rename(POINTS / f"{point}.taken")
        except FileNotFoundError:
            return function(*arguments, **options)
        (POINTS / f"{point}.pid").write_text(f"{os.getpid()} {index_of(arguments[0])}")
        (POINTS / f"{point}.pid").rename(POINTS / f"{point}.held")
        while not (POINTS / f"{point}.go").exists():
            time.sleep(0.01)
        return function(*arguments, **options)

    return wrapped


def change_reading(module: ModuleType) -> None:
    module.read_ahead = held("reading", module.read_ahead)  # type: ignore[attr-defined]


def change_next_shard(module: ModuleType) -> None:
    module.NextShard.claim = held(
        "leased", module.NextShard.claim, lambda following, *_: following.is_known_dealt()
    )


def change_publishing(module: ModuleType) -> None:
    module._end = held("publishing", module._end)  # type: ignore[attr-defined]


change_after_import(
    {
        "gpu_tasks.shard.reading": change_reading,
        "gpu_tasks.shard.overlap.next_shard": change_next_shard,
        "gpu_tasks.shard.overlap.publishing": change_publishing,
    }
)
