"""A plan as one JSON object, for programs. Sizes in bytes, lengths in letters, times in seconds."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from queue_app.array_types import Int64s
from queue_app.job.output_names import output_format
from queue_app.preflight.length_histogram import histogram
from queue_app.preflight.plan import Plan
from queue_app.preflight.time_estimate import Timing

TIMES = ("seconds", "least_seconds", "most_seconds", "beside_seconds", "free_share", "tokens_per_second")


def plan_as_json(plan: Plan, *, gpu_hour_cost: float | None) -> dict[str, Any]:
    """What is not known is null: the tokens, where nothing was computed."""
    job, timing = plan.job, plan.timing
    cost = plan.cost(timing, gpu_hour_cost) if timing and gpu_hour_cost is not None else None
    return {
        "inputs": [asdict(file) for file in job.inputs],
        "records": job.counts.num_records,
        "rejected": job.counts.num_rejected,
        "rejected_by_reason": [asdict(each) for each in plan.survey.rejected],
        "duplicate_ids": job.counts.num_duplicate_ids,
        "duplicate_sequences": job.counts.num_duplicate_sequences,
        "computed_once": plan.survey.num_duplicates,
        "reused": len(plan.survey.reused),
        "lengths": _lengths(plan.survey.lengths),
        "longer_than_limit": plan.num_long,
        "model": asdict(job.model),
        "options": asdict(job.options),
        "queues": list(plan.queues),
        "threads": job.threads,
        "shards": len(job.shards.costs_to_compute),
        "batches": plan.num_batches,
        "tokens": plan.num_tokens,
        "output": job.output,
        "format": output_format(Path(job.output)),
        "bytes": {"input": plan.survey.num_bytes, **asdict(plan.sizes)},
        "disks": [
            {
                "path": str(room.path),
                "needed": room.num_bytes,
                "free": room.free_bytes,
                "enough": room.is_enough,
            }
            for room in plan.rooms
        ],
        "time": timing and _time(timing),
        "cost": cost and asdict(cost),
        "notes": list(job.notes),
        "begun": plan.begun,
        "problems": list(plan.problems),
    }


def _lengths(lengths: Int64s) -> dict[str, Any] | None:
    if not len(lengths):
        return None
    return {
        "least": int(lengths.min()),
        "median": float(np.median(lengths)),
        "mean": float(lengths.mean()),
        "most": int(lengths.max()),
        "total": int(lengths.sum()),
        "histogram": [asdict(each) for each in histogram(lengths)],
    }


def _time(timing: Timing) -> dict[str, Any]:
    totals = {name: getattr(timing, name) for name in TIMES}
    return {**totals, "devices": [asdict(each) for each in timing.devices]}
