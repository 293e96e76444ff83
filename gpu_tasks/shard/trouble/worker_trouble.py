"""A worker that fails at what another may do: it says so, its shard goes back unspent, and it rests.

Trouble is counted per worker and job. While other workers get on, it is only shown; when none can begin, the
job ends with the reason.
"""

import logging
import os
import signal
from collections.abc import Callable

from gpu_tasks.errors import DeviceUnavailable, InferenceError, NotCertified, NumericsDeviate, OtherKind
from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.shard.trouble.whose_failure import Whose, may_pass, whose
from queue_app.celery_app import app
from queue_app.coordination.dealing import deal_to_idle
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.messages import ask_for_export
from queue_app.coordination.redis_client import client
from queue_app.coordination.states import TIMES_MOST, Lease, Trouble
from queue_app.coordination.trouble import (
    PASSING_TIMES_MOST,
    TroubleRegister,
    give_up_hopeless,
    pause_seconds,
    pauses_of,
)
from queue_app.coordination.trust.values import Garbage
from queue_app.errors import HoldfastError
from queue_app.settings import runtime_config
from queue_app.shown import visible_lines
from queue_app.worker.child_state import Stage
from queue_app.worker.device_worker import child_state, this_worker
from queue_app.worker.metrics.counters import Count, counters

log = logging.getLogger(__name__)


def note_trouble(manifest: CheckpointManifest, index: int, error: Exception, *, at_work: bool) -> Trouble:
    """Count one more failure of this worker with the job. `at_work`: it had the shard.

    Comes before the shard is given back: from then on this worker is passed over. Raises redis errors.
    """
    text = words_of(error)
    log.error("in trouble job=%s shard=%d: %s", manifest.job_id, index, text)
    times_most = PASSING_TIMES_MOST if may_pass(error) else TIMES_MOST
    if isinstance(error, OtherKind | NotCertified):
        times_most = 1  # however often it is tried, worker and records stay what they are
    noted = register_of(manifest).note(this_worker.entry, text, times_most=times_most, at_work=at_work)
    counters.add(Count.TROUBLES)
    return noted


def end_in_trouble(manifest: CheckpointManifest, index: int, error: Exception) -> str:
    """Have another begin the shard, which nobody holds now; or end the job, where no worker can.

    Answers how it ended, in a word. A process, or a worker, that lacks its device does not come back.
    """
    given_up = give_up_hopeless(register_of(manifest), manifest, runtime_config().lease_seconds)
    if not given_up:
        give_back_unbegun(manifest, index)
    if isinstance(error, DeviceUnavailable) or fault_of(error) is Fault.LOST:
        child_state.set_stage(Stage.TOLD)
        leave_process(words_of(error))
    if isinstance(error, NumericsDeviate):
        end_worker(f"{this_worker.entry.name}: {words_of(error)}")
    return "given up" if given_up else "in trouble"


def is_resting(manifest: CheckpointManifest, trouble: Trouble | None) -> bool:
    """True while this worker is not to look again at the job that it is in trouble with."""
    return trouble is not None and register_of(manifest).wait_seconds(trouble) > 0


def give_back_unbegun(manifest: CheckpointManifest, index: int) -> None:
    """Have another worker begin a shard that this one cannot: it waits for the next that is free."""
    own = (this_worker.entry.name, this_worker.entry.queue)
    shard = manifest.shard_status(index)
    if shard is not None and shard.worker in own:  # a message that came twice takes it from nobody
        manifest.undeal(index)
    deal_to_idle(manifest.client, app, this_worker.entry.kind)
    log.info("given back job=%s shard=%d", manifest.job_id, index)


def tell_export_failed(manifest: CheckpointManifest, error: Exception) -> str:
    """Have another worker write the output where this host failed at it; answers in a word what follows.

    Where nobody else is, or it would fail everywhere, the reconciler asks for it again after this worker's
    rest, as long as there is hope, and from then on seldom.
    """
    if isinstance(error, Garbage):
        raise error
    words, is_hosts = words_of(error), whose(error) is Whose.HOST
    log.error("output not written job=%s: %s", manifest.job_id, words, exc_info=None if is_hosts else error)
    register, status = register_of(manifest), manifest.job_status()
    register.note(this_worker.entry, words, times_most=PASSING_TIMES_MOST)
    counters.add(Count.TROUBLES)
    others = register.others_awake(this_worker.entry) if is_hosts else []
    if not others or status is None:
        return "to be asked for again"
    state, export_by = status.state, status.export_by
    asked = ask_for_export(app, manifest.job_id, others[0], state=state, export_by=export_by)
    return "passed on" if asked else "not wanted"


def unless_garbage(job_id: str, work: Callable[[], str]) -> str:
    """The word that `work` ends with. Where the server holds garbage of the job, it is to be made known anew;
    what is published stays."""
    try:
        return work()
    except Garbage as fault:
        log.error("passed over job=%s: %s", job_id, fault)
        counters.add(Count.GARBAGE)
        CheckpointManifest(client(), job_id).note_unsound(fault)
        return "garbage"


def register_of(manifest: CheckpointManifest) -> TroubleRegister:
    """The troubles of the manifest's job, with this worker's pauses."""
    return TroubleRegister(manifest.client, manifest.job_id, pauses_of(runtime_config()))


def words_of(error: Exception) -> str:
    """What a person is told: our own errors speak for themselves."""
    text = visible_lines(str(error)).strip()
    is_ours = isinstance(error, (HoldfastError, InferenceError))
    return text if is_ours and text else f"{type(error).__name__}: {text}".rstrip(": ")


def end_worker(reason: str) -> None:
    """A device that computes nonsense is of no use, whatever time passes."""
    log.critical(reason)
    os.kill(this_worker.entry.pid or os.getppid(), signal.SIGTERM)


def leave_process(reason: str) -> None:
    """Without its CUDA context a process computes nothing any more; only a new one sees a device again that
    was gone. What was safe is committed."""
    log.critical("this process ends, another takes its place: %s", reason)
    os._exit(1)  # the parent gives the message back, and forks anew


def release_for_later(manifest: CheckpointManifest, lease: Lease, reason: str) -> bool:
    """Give a shard back that failed: the more often it did without a commit, the later it is dealt again.

    The manifest counts the attempts, and gives the shard up at the limit.
    """
    status = manifest.shard_status(lease.shard.index)
    pause = pause_seconds(status.attempts if status else 1, runtime_config().retry_seconds)
    return manifest.release(lease, reason, delay_seconds=pause)
