"""The Celery app, with every option in one place. Importing it touches neither network nor GPU.

A message is only a wake-up call: it names a shard, and the manifest decides. What the options must
do is keep one message in a worker's hands, give it back when the worker dies, never store results, and take
no orders but messages.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from celery import Celery
from celery.loaders.app import AppLoader
from celery.signals import before_task_publish

from queue_app.coordination.redis_client import address
from queue_app.coordination.trust.message_gate import (
    EMBED_SHARD as EMBED_SHARD,  # others know the tasks from here
)
from queue_app.coordination.trust.message_gate import EXPORT_JOB as EXPORT_JOB
from queue_app.coordination.trust.message_gate import SENT_AT as SENT_AT
from queue_app.coordination.trust.message_gate import SIGNATURE, SIGNED_AS, signed_parts
from queue_app.coordination.trust.server_tls import split_tls
from queue_app.coordination.trust.signing import KeyRing, ring_of_server
from queue_app.errors import UsageError
from queue_app.settings import runtime_config

OPTIONS: dict[str, Any] = {
    "imports": ("queue_app.worker.device_worker", "queue_app.worker.parent_loop", "gpu_tasks.task"),
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_ignore_result": True,
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    "worker_pool": "prefork",
    "worker_concurrency": 1,
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "worker_proc_alive_timeout": 120.0,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_enable_remote_control": False,  # who may write to the server is to give no orders
    "worker_hijack_root_logger": True,
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "broker_channel_error_retry": True,  # a key of the wrong type ends no worker
}

TRANSPORT_OPTIONS: dict[str, Any] = {
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
    "health_check_interval": 5,
    "priority_steps": [0],  # one list a queue; kombu's four would make four keys of each in every wait
}


_ring: ContextVar[KeyRing | None] = ContextVar("ring", default=None)
"""The keys that the message which is sent just now is signed with."""


class OwnLoader(AppLoader):
    """Reads no other application's configuration, and imports nothing from the working directory."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        return {}

    def import_from_cwd(self, module: str, imp: Any = None, package: str | None = None) -> Any:
        return self.import_module(module, package)


class OwnApp(Celery):
    """An app for one server, whatever `CELERY_BROKER_URL` and its like say to Celery's own settings."""

    def __init__(self, broker_url: str) -> None:
        # Django's fixup would load the settings of a site that the environment names.
        # Nor does it see the address among its settings, which it shows.
        super().__init__("holdfast", loader=OwnLoader, fixups=[])
        self.backend_cls = "disabled"
        self._broker_url = broker_url

    @cached_property
    def server_url(self) -> str:
        """With its password, without what is said of TLS.

        Raises:
            UsageError: it is no address, or asks for a connection that is not to be trusted.
        """
        return split_tls(address(self._broker_url))[0]

    @cached_property
    def Worker(self) -> Any:  # the name that Celery gives it
        where: Any = "queue_app.worker.celery_worker:DeviceWorker"  # imported by workers alone
        return self.subclass_with_self(where, name="Worker")

    def send_task(self, name: str, *rest: Any, **options: Any) -> Any:
        """Signed with the keys that are used with this server."""
        before = _ring.set(ring_of_server(urlsplit(self.server_url).password))
        try:
            return super().send_task(name, *rest, **options)
        finally:
            _ring.reset(before)

    def connection(self, hostname: str | None = None, *rest: Any, **options: Any) -> Any:
        return super().connection(hostname or self.server_url, *rest, **options)

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_read(url or self.server_url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_write(url or self.server_url, **options)


def make_app(broker_url: str) -> Celery:
    """An app that talks to the server at `broker_url`, encrypted as every other connection is."""
    made = OwnApp(broker_url)
    made.conf.update(OPTIONS, broker_transport_options=dict(TRANSPORT_OPTIONS))
    with suppress(UsageError):  # `server_url` says it, when there is somebody to hear it
        made.conf.broker_use_ssl = split_tls(broker_url)[1] or None
    return made


@before_task_publish.connect
def stamp(
    sender: str, body: tuple[Sequence[Any], Any, Any], headers: dict[str, Any], routing_key: str, **_: object
) -> None:
    """Say when the message was sent, for whoever looks at a queue, and sign it where the fleet has a key.

    The routing key is the queue's name: kombu's direct exchange has no other. A signal's errors are
    swallowed: who sends has looked at the key before (messages.py), and what is not signed nobody takes.
    """
    sent_at = headers[SENT_AT] = time.time()
    if (keys := _ring.get()) is not None:
        parts = signed_parts(sender, body[0], routing_key, headers["id"], sent_at)
        headers[SIGNATURE] = keys.sign(SIGNED_AS, *parts)


app = make_app(runtime_config().broker_url)
