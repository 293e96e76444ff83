"""The Celery app, with every option in one place. Importing it touches neither network nor GPU.

A message is only a wake-up call: it names a shard, and the manifest decides. What the options must
do is keep one message in a worker's hands, give it back when the worker dies, and never store results.
"""

import time
from functools import cached_property
from typing import Any

from celery import Celery
from celery.loaders.app import AppLoader
from celery.signals import before_task_publish

from queue_app.settings import runtime_config
from queue_app.trust.server_tls import split_tls

EMBED_SHARD = "gpu_tasks.embed_shard"
EXPORT_JOB = "gpu_tasks.export_job"

SENT_AT = "sent_at"
"""The header of every message that says when it was sent, in seconds by the sender's clock."""

VISIBILITY_TIMEOUT_SECONDS = 30 * 24 * 3600
"""So long that it never ends a lease: the reconciler does, within seconds instead of an hour."""

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
    "worker_enable_remote_control": False,
    "worker_proc_alive_timeout": 120.0,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_hijack_root_logger": True,
    "worker_send_task_events": True,
    "task_send_sent_event": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
}

TRANSPORT_OPTIONS: dict[str, Any] = {
    "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
    "socket_timeout": 10.0,
    "socket_connect_timeout": 5.0,
    "health_check_interval": 5,
    "priority_steps": [0],  # one list a queue; kombu's four would make four keys of each in every wait
}


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
        super().__init__("holdfast", broker=broker_url, loader=OwnLoader, fixups=[])
        self.backend_cls = "disabled"
        self.server_url = broker_url

    @cached_property
    def Worker(self) -> Any:  # the name that Celery gives it
        where: Any = "queue_app.worker.celery_worker:DeviceWorker"  # imported by workers alone
        return self.subclass_with_self(where, name="Worker")

    def connection(self, hostname: str | None = None, *rest: Any, **options: Any) -> Any:
        return super().connection(hostname or self.server_url, *rest, **options)

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_read(url or self.server_url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_write(url or self.server_url, **options)


def make_app(broker_url: str) -> Celery:
    """An app that talks to the server at `broker_url`, encrypted as every other connection is.

    Raises:
        UsageError: the address asks for a connection that is not to be trusted.
    """
    bare, tls = split_tls(broker_url)
    made = OwnApp(bare)
    made.conf.update(OPTIONS, broker_transport_options=dict(TRANSPORT_OPTIONS), broker_use_ssl=tls or None)
    return made


@before_task_publish.connect
def stamp(headers: dict[str, Any], **_: object) -> None:
    """So that whoever looks at a queue can tell how long its messages have waited. Nothing else reads it."""
    headers[SENT_AT] = time.time()


app = make_app(runtime_config().broker_url)
