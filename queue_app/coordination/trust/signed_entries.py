"""Signatures of what decides in the manifest: who made a job known, and who holds a shard.

A job's record is signed by whoever announces it, a lease by its holder with its first beat. An old lease that
somebody puts back has an old token: the shard's line has a higher one, and the store refuses it in any case.
"""

import time

from queue_app.coordination.trust.signing import KeyRing
from queue_app.coordination.trust.values import Garbage, finite
from queue_app.job.spec import Job

ASKED_WITHIN_SECONDS = 7 * 24 * 3600
"""What asks a worker to leave is not older, as far as clocks differ: nobody starts that worker again."""
UNSIGNED = "no key of this fleet has signed it"


def sign_job(ring: KeyRing | None, job: Job, job_dir: str) -> str:
    """Empty without a key."""
    return ring.sign("job", *_job_parts(job, job_dir)) if ring else ""


def require_signed_job(ring: KeyRing | None, job: Job, job_dir: str, signature: str, where: str) -> None:
    """Make sure that somebody of this fleet has made the job known as it stands in its directory.

    Raises:
        Garbage: nobody has, though the fleet has a key.
    """
    if ring is not None and not ring.accepts(signature, "job", *_job_parts(job, job_dir)):
        raise Garbage(f"{where} signature", UNSIGNED)


def _job_parts(job: Job, job_dir: str) -> tuple[str | int, ...]:
    return job.job_id, job_dir, job.digest, job.sequences_digest, len(job.shards)


def sign_lease(ring: KeyRing | None, job_id: str, index: int, owner: str, token: int) -> str:
    """Empty without a key."""
    return ring.sign("lease", job_id, index, owner, token) if ring else ""


def is_signed_lease(
    ring: KeyRing | None, job_id: str, index: int, owner: str, token: int, signature: str
) -> bool:
    """True for what a holder of this fleet has signed, and for everything where the fleet has no key."""
    return ring is None or ring.accepts(signature, "lease", job_id, index, owner, token)


def drain_request(ring: KeyRing | None, worker: str, owner: str, now: float) -> str:
    """What asks one process to leave: the server's time, and where there is a key a signature."""
    when = f"{now:.3f}"
    return f"{when} {ring.sign('drain', worker, owner, when)}" if ring else when


def is_drain(ring: KeyRing | None, worker: str, owner: str, request: str) -> bool:
    """True for a request to just this process, signed where the fleet has a key: nobody starts it again."""
    when, _, signature = request.partition(" ")
    try:
        is_recent = abs(time.time() - finite(when, "drain")) < ASKED_WITHIN_SECONDS
    except Garbage:
        return False
    if not is_recent:
        return False
    return ring is None or ring.accepts(signature, "drain", worker, owner, when)
