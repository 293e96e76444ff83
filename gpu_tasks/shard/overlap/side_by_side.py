"""Three shards of one worker: one is computed, the one before published, the next made ready beside it."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery.signals import worker_process_shutdown

from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.shard.attempt import Attempt
from gpu_tasks.shard.getting_ready import Begun
from gpu_tasks.shard.overlap.next_shard import Here, NextShard
from gpu_tasks.shard.overlap.publishing import Publishing
from gpu_tasks.shard.trouble.setbacks import NO_ANSWER
from queue_app.celery_app import app
from queue_app.coordination.dealing import Dealt, deal_to
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.redis_client import client
from queue_app.coordination.states import Lease
from queue_app.settings import runtime_config
from queue_app.worker.device_worker import child_state, this_worker

log = logging.getLogger(__name__)


class SideBySide:
    """Of this process; its tasks come one after the other."""

    def __init__(self) -> None:
        self._publishing = Publishing()
        self._next: NextShard[Attempt] | None = None
        self._claimed: Attempt | None = None

    @contextmanager
    def task(self, job_id: str, index: int) -> Iterator[None]:
        """While a shard's message is in hand. What was made ready for it and is not begun is given back."""
        self._publishing.wait_for(job_id, index)  # this worker's own lease on it was taken away
        try:
            yield
        finally:
            if (attempt := self._take()) is not None:
                attempt.let_go("not begun")
            if child_state.is_draining():
                self.end()

    def claim(self, job_id: str, index: int) -> Lease | None:
        """The lease of the shard, where it was made ready; what else was is given back."""
        following, self._next = self._next, None
        self._claimed = following.claim(job_id, index) if following else None
        return self._claimed.lease if self._claimed else None

    def work(
        self,
        manifest: CheckpointManifest,
        begun: Begun[EmbeddingModel],
        load_float32: Callable[[str], EmbeddingModel],
    ) -> str:
        """Compute the shard and publish it; answers in a word how it ended, or that it is published yet."""

        def attempt_under(lease: Lease) -> Attempt:
            return Attempt(manifest, lease, begun.job, begun.directory, begun.model, load_float32)

        attempt = self._take() or attempt_under(begun.lease)
        if not runtime_config().work_ahead:
            return attempt.work()
        here = Here(manifest, begun.job, begun.directory, begun.model, attempt_under)
        before = self._publishing.latest()
        following = self._next = NextShard(here, begun.lease.shard, _ask_for_next, before)
        attempt.watch(following)
        try:
            return attempt.work(lambda: self._publish_beside(attempt, following))
        finally:
            following.end_present()

    def ask_for_next(self) -> None:
        """Before a message is acknowledged the next one waits: between two shards a device stands still."""
        is_on_its_way = self._next is not None and self._next.is_known_dealt()
        if not is_on_its_way and not child_state.is_draining():
            _ask_for_next()

    def end(self) -> None:
        """Before the process ends, or its threads would be cut off."""
        if self._next is not None:
            self._next.drop()
        self._publishing.wait()

    def _publish_beside(self, attempt: Attempt, following: NextShard[Attempt]) -> bool:
        if child_state.is_draining() or not following.is_dealt():
            return False
        self._publishing.begin(attempt.lease, attempt.end)
        return True

    def _take(self) -> Attempt | None:
        attempt, self._claimed = self._claimed, None
        return attempt


def _ask_for_next() -> Dealt | None:
    try:
        return deal_to(client(), app, this_worker.entry)
    except NO_ANSWER as error:  # the parent asks again by and by
        log.warning("no next shard asked for: %s", error)
        return None


side_by_side = SideBySide()


@worker_process_shutdown.connect
def end_side_by_side(**_: object) -> None:
    """The process ends right behind this."""
    side_by_side.end()
