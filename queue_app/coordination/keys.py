"""Every Redis key, and what lies under it. All keys of a job share the hash tag {job}."""

JOBS = "holdfast:jobs"
"""hash: job id -> job directory"""
NOTHING = "holdfast:nothing"
"""Never there: to delete it changes nothing, and shows whether the server takes changes."""

WORKERS = "holdfast:workers"
"""hash: worker name -> JSON of WorkerEntry"""

SEEN = "holdfast:seen"
"""sorted set: worker name -> the server's time of its last beat"""

FLEET = "holdfast:fleet"
"""string: "<fleet id> <epoch>" (fleet.py); whoever finds none puts it there"""

FORMER_FLEETS = "holdfast:fleet:former"
"""set: ids that this fleet had before the server lost its data"""


def name_claim(name: str) -> str:
    """string with a short expiry: the host key of the worker that starts under this name"""
    return f"holdfast:name:{name}"


DRAIN = "holdfast:drain"
"""hash: worker name -> "<server time> <signature>" of the request to leave (drain.py)"""

RECONCILER = "holdfast:reconciler"
"""string with a short expiry: the worker that looks for outputs nobody writes"""

UNENDED = "holdfast:unended"
"""set: jobs that are not done, failed or cancelled"""

UNEXPORTED = "holdfast:unexported"
"""set: jobs that are done and whose output a worker is to write"""


DELAYED = "holdfast:delayed"
"""sorted set: "job index" of the shards that may not be dealt yet, by when they may"""


LEASES = "holdfast:leases"
"""sorted set: "job index" of every lease, by its place on the ring (dealing.lua)"""

UNSOUND = "holdfast:unsound"
"""hash: job id -> the key of it that holds garbage (sound.lua)"""

DROPPED = "holdfast:dropped"
"""hash: shared key -> how many odd members of it were dropped (sound.lua)"""


def ready(kind: str) -> str:
    """sorted set: the jobs that have a shard to deal to this kind of device, the most urgent first"""
    return f"holdfast:ready:{kind}"


def dealt_of(kind: str) -> str:
    """sorted set: "job index" of the shards dealt to a device of this kind and not begun, by since when"""
    return f"holdfast:dealt:{kind}"


def job(job_id: str) -> str:
    """hash: state, job_dir, export_by, num_shards, shard counts by state, counters, … (shards.lua)"""
    return f"holdfast:{{{job_id}}}:job"


def shards(job_id: str) -> str:
    """hash: index -> the shard in one line (shards.lua)"""
    return f"holdfast:{{{job_id}}}:shards"


def dealt(job_id: str) -> str:
    """hash: index -> the worker that a message was sent to"""
    return f"holdfast:{{{job_id}}}:dealt"


def running(job_id: str) -> str:
    """sorted set: the indices of the shards that are leased, by since when"""
    return f"holdfast:{{{job_id}}}:running"


def held(job_id: str) -> str:
    """hash: index -> "token request pace cost_done owner" of the lease"""
    return f"holdfast:{{{job_id}}}:held"


def beats(job_id: str) -> str:
    """hash: index -> how often the holder has beaten"""
    return f"holdfast:{{{job_id}}}:beats"


def signed(job_id: str) -> str:
    """hash: index -> the holder's signature of its lease (signed_entries.py)"""
    return f"holdfast:{{{job_id}}}:signed"


def figures(job_id: str) -> str:
    """hash: index -> JSON of the holder's Figures"""
    return f"holdfast:{{{job_id}}}:figures"


def errors(job_id: str) -> str:
    """hash: index -> why its last attempt ended"""
    return f"holdfast:{{{job_id}}}:errors"


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
