"""What a worker does before it has a shard, and what becomes of its failing there.

It waits out its last failure, finds job and model, loads, tries the device, and asks for the shard. Each
failure is counted as the worker's trouble with the job, and costs no shard an attempt: while other workers
can begin, this one passes its shards on to them; when none can, the job ends with the reason.
"""

import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from celery.exceptions import Reject

from gpu_tasks.errors import DeviceUnavailable, InferenceError, NumericsDeviate, OtherKind
from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.shard.acquire import acquire
from queue_app.celery_app import app
from queue_app.coordination.dealing import deal_to_idle
from queue_app.coordination.fleet import remember_job
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import TRANSIENT
from queue_app.coordination.states import TIMES_MOST, Lease, Refusal, ShardState, Trouble
from queue_app.coordination.trouble import PASSING_TIMES_MOST, TroubleRegister, give_up_hopeless
from queue_app.errors import HoldfastError, JobNotFound
from queue_app.job.directory import JobDir
from queue_app.job.model_place import at_its_place
from queue_app.job.spec import Job
from queue_app.settings import runtime_config
from queue_app.worker.child_state import Stage
from queue_app.worker.device_worker import child_state, this_worker
from queue_app.worker.metrics.counters import Count, counters

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.2

Model = TypeVar("Model")


@dataclass(frozen=True, slots=True)
class GettingReady:
    """One try of this worker to begin a shard."""

    manifest: CheckpointManifest
    directory: JobDir
    index: int

    def begin(self, load: Callable[[Job], Model]) -> tuple[Job, Model, Lease] | str:
        """The job, its model and the lease; or in a word why there is nothing to be done.

        Raises:
            Reject: it failed, or the worker is told to stop: the message goes back to its queue.
            redis.RedisError: the server is away.
        """
        shard = self.manifest.shard_status(self.index)
        if shard is not None and shard.state not in (ShardState.PENDING, ShardState.RUNNING):
            return str(shard.state)
        trouble = self._register.all().get(this_worker.entry.name)
        if trouble is not None and self._hold_off(trouble):
            return "passed on"
        try:
            begun = self._begin(load)
        except (Reject, *TRANSIENT):
            raise
        except Exception as error:
            return self._fail(error)
        if trouble is not None:
            self._register.clear(this_worker.entry.name)
        return begun

    def _begin(self, load: Callable[[Job], Model]) -> tuple[Job, Model, Lease] | str:
        job = self._find_job()
        if job is None or not 0 <= self.index < len(job.shards):
            return "replaced"
        remember_job(self.directory, job.job_id)
        job = at_its_place(job, self.directory)
        model = load(job)
        answer = acquire(self.manifest, self.directory, job, self.index)
        return answer.reason if isinstance(answer, Refusal) else (job, model, answer)

    def _find_job(self) -> Job | None:
        """None when the directory was given to another job, or the server does not know this one.

        Raises JobNotFound when the job is there, and only this host does not see its directory.
        """
        try:
            job = self.directory.load()
        except JobNotFound:
            if self.manifest.job_status() is None:
                return None
            raise JobNotFound(f"{self.directory.path}: this host does not see the job's directory") from None
        return job if job.job_id == self.manifest.job_id else None

    # ---- failing

    def _fail(self, error: Exception) -> str:
        text = words_of(error)
        log.error("cannot begin job=%s shard=%d: %s", self.manifest.job_id, self.index, text)
        counters.add(Count.TROUBLES)
        times_most = PASSING_TIMES_MOST if isinstance(error, OSError) else TIMES_MOST
        if isinstance(error, OtherKind):
            times_most = 1  # however often it is tried, the worker stays what it is
        self._register.note(this_worker.entry.name, text, times_most=times_most)
        hopeless = give_up_hopeless(self._register, self.manifest, runtime_config().lease_seconds)
        if fault_of(error) is Fault.LOST:
            child_state.set_stage(Stage.TOLD)
            leave_process(text)
        if isinstance(error, (DeviceUnavailable, NumericsDeviate)):
            end_worker(f"{this_worker.entry.name}: {text}")
        elif hopeless:
            return "given up"
        raise Reject(text, requeue=True)

    def _hold_off(self, trouble: Trouble) -> bool:
        """Wait until it is to be tried again; true when another worker was given the shard instead."""
        left = self._register.wait_seconds(trouble)
        if left and trouble.is_lasting and self._pass_on():
            return True
        deadline = time.monotonic() + left
        while (left := deadline - time.monotonic()) > 0:
            if child_state.is_draining():
                raise Reject("the worker is shutting down", requeue=True)
            time.sleep(min(LOOK_SECONDS, left))
        return False

    def _pass_on(self) -> bool:
        others = self._register.others(this_worker.entry.queue, runtime_config().lease_seconds)
        if not others:
            return False
        self.manifest.undeal(self.index)
        deal_to_idle(self.manifest.client, app, this_worker.entry.kind)
        log.info("passed on job=%s shard=%d", self.manifest.job_id, self.index)
        return True

    @property
    def _register(self) -> TroubleRegister:
        seconds = runtime_config().retry_seconds
        return TroubleRegister(self.manifest.client, self.manifest.job_id, retry_seconds=seconds)


def words_of(error: Exception) -> str:
    """What a person is told: our own errors speak for themselves."""
    text = str(error).strip()
    is_ours = isinstance(error, (HoldfastError, InferenceError))
    return text if is_ours and text else f"{type(error).__name__}: {text}".rstrip(": ")


def end_worker(reason: str) -> None:
    """Without its device a worker is of no use: its queue's shards move to other ones when it is gone."""
    log.critical(reason)
    os.kill(this_worker.entry.pid or os.getppid(), signal.SIGTERM)


def leave_process(reason: str) -> None:
    """Without its CUDA context a process computes nothing any more. What was safe is committed."""
    log.critical("this process ends, another takes its place: %s", reason)
    os._exit(1)  # the parent gives the message back, and forks anew
