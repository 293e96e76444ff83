"""What a worker does before it has a shard, and what becomes of its failing there.

It finds job and model, loads, tries the device, and asks for the shard. Each failure is counted as the
worker's trouble with the job, and costs no shard an attempt. A worker in trouble begins nothing of the job
until it is to look again: what reaches it meanwhile goes to another at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gpu_tasks.shard.acquire import acquire
from gpu_tasks.shard.trouble.worker_trouble import (
    end_in_trouble,
    give_back_unbegun,
    is_resting,
    note_trouble,
    register_of,
)
from queue_app.coordination.fleet import remember_job
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import Lease, Refusal, ShardState
from queue_app.coordination.trust.job_places import JobPlaces
from queue_app.coordination.trust.values import Garbage
from queue_app.errors import JobNotFound
from queue_app.job.directory import JobDir
from queue_app.job.model_place import at_its_place
from queue_app.job.spec import Job
from queue_app.worker.device_worker import this_worker

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class Begun(Generic[Model]):
    """A shard that this worker has, and all that it takes to compute it."""

    job: Job
    directory: JobDir
    model: Model
    lease: Lease


@dataclass(frozen=True, slots=True)
class GettingReady:
    """One try of this worker to begin a shard. `claim` answers the lease, where it has one already."""

    manifest: CheckpointManifest
    places: JobPlaces
    index: int
    claim: Callable[[str, int], Lease | None] = lambda job_id, index: None

    def begin(self, load: Callable[[Job, JobDir], Model]) -> Begun[Model] | str:
        """What there is to be done; or in a word why there is nothing.

        Raises:
            redis.RedisError: the server is away.
        """
        shard = self.manifest.shard_status(self.index)
        if shard is None:
            return "unknown"
        if shard.state not in (ShardState.PENDING, ShardState.RUNNING):
            return str(shard.state)
        register, worker = register_of(self.manifest), this_worker.entry.name
        trouble = register.of(worker)
        if is_resting(self.manifest, trouble):
            if shard.state is ShardState.PENDING:
                give_back_unbegun(self.manifest, self.index)
            return "resting"
        try:
            begun = self._begin(load)
        except (*TRANSIENT, Garbage):
            raise
        except Exception as error:
            note_trouble(self.manifest, self.index, error, at_work=False)
            return end_in_trouble(self.manifest, self.index, error)
        if trouble is not None and not trouble.at_work:
            register.clear(worker)
        return begun

    def _begin(self, load: Callable[[Job, JobDir], Model]) -> Begun[Model] | str:
        found = find_job(self.manifest, self.places)
        if found is None:
            return "replaced"
        job, directory = found
        remember_job(directory, job.job_id)
        job = at_its_place(job, directory)
        model = load(job, directory)
        answer = self.claim(job.job_id, self.index) or acquire(self.manifest, directory, job, self.index)
        return answer.reason if isinstance(answer, Refusal) else Begun(job, directory, model, answer)


def find_job(manifest: CheckpointManifest, places: JobPlaces) -> tuple[Job, JobDir] | None:
    """The job, and where it lies for this host; None when the server knows the job no more: another one was
    put in its place.

    While it does, other hosts may see the directory. Should nobody, as it was given away behind the server's
    back, all workers say so, and the job ends with that.

    Raises:
        JobNotFound: this host does not see the job's directory, or sees another one in its place.
        NotOurs: another user could have put there what lies in it.
        Garbage: nobody of this fleet has made the job known.
    """
    status = manifest.job_status()
    if status is None:
        return None
    directory = places.find(manifest.job_id, status.job_dir)
    job = directory.load()
    if job.job_id == manifest.job_id:
        manifest.require_signed(job)
        return job, directory
    raise JobNotFound(
        f"{directory.path}: this host does not see the job's directory; what lies there belongs to job "
        f"{job.job_id}"
    )
