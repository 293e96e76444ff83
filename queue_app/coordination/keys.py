"""Every Redis key, and what lies under it. All keys of a job share the hash tag {job}."""

JOBS = "holdfast:jobs"
"""hash: job id -> job directory"""

WORKERS = "holdfast:workers"
"""hash: worker name -> JSON of WorkerEntry, with the server's time of its last beat"""

DRAIN = "holdfast:drain"
"""hash: worker name -> the server's time (seconds) at which it was asked to leave (drain.py)"""

RECONCILER = "holdfast:reconciler"
"""string with a short expiry: the worker whose reconciler acts at present"""


def job(job_id: str) -> str:
    """hash: state, job_dir, export_by, num_shards, shard counts by state, sequence counters"""
    return f"holdfast:{{{job_id}}}:job"


def shard(job_id: str, index: int | str) -> str:
    """hash: state, queue, owner, token, beat, attempts, batches_done, sequences_done, … (manifest.lua)"""
    return f"holdfast:{{{job_id}}}:shard:{index}"


def running(job_id: str) -> str:
    """set: the indices of the shards that are leased"""
    return f"holdfast:{{{job_id}}}:running"


def quarantine(job_id: str) -> str:
    """hash: ordinal -> JSON of QuarantineEntry; a view of what the done records say"""
    return f"holdfast:{{{job_id}}}:quarantine"


def samples(job_id: str) -> str:
    """list: "<server time> <sequences done>", newest first; the rate is read off it"""
    return f"holdfast:{{{job_id}}}:samples"


def events(job_id: str) -> str:
    """list: "<server time> <kind> <text>", newest first (events.py)"""
    return f"holdfast:{{{job_id}}}:events"


def trouble(job_id: str) -> str:
    """hash: worker name -> JSON of Trouble: why it begins no shard of this job (trouble.py)"""
    return f"holdfast:{{{job_id}}}:trouble"


def canary(job_id: str) -> str:
    """hash: "<subject>|<device>" and "<subject>|golden" -> the canary's vectors; expires, can be rebuilt"""
    return f"holdfast:{{{job_id}}}:canary"


def begun(job_id: str) -> str:
    """set: "<shard index> <device>" of what devices without a reference began; expires with the canary"""
    return f"holdfast:{{{job_id}}}:begun"


def unacked(queue: str) -> dict[str, str]:
    """Kombu's transport options that give each queue its own book of delivered, unacknowledged messages.

    One shared book could not be restored at a worker's start: it also holds what others work on.
    """
    return {
        "unacked_key": f"holdfast:unacked:{queue}",
        "unacked_index_key": f"holdfast:unacked_index:{queue}",
        "unacked_mutex_key": f"holdfast:unacked_mutex:{queue}",
    }
