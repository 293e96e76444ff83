"""The commands about workers: `holdfast worker` and `holdfast drain`."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_app.cli import options as options
from queue_app.cli.printing import print_json, say, tell
from queue_app.errors import UsageError

if TYPE_CHECKING:
    from queue_app.coordination.workers import WorkerEntry

LOOK_SECONDS = 0.5


def worker(
    queues: Annotated[list[str], typer.Argument(help="gpu0 gpu1 … or cpu0 …: one worker each.")],
    broker_url: options.BrokerUrl = None,
    exit_when_idle: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="End, with 0, once nothing was there to do for these devices for so long. Default: "
            "HOLDFAST_EXIT_WHEN_IDLE, else stay.",
        ),
    ] = None,
    metrics_port: options.MetricsPort = None,
    metrics_address: options.MetricsAddress = None,
) -> None:
    """Start one worker per device. The same as celery -A queue_app worker -Q gpu0.

    A worker that dies is started again; one that was drained, or found nothing to do, is not, and
    with the last of them the command ends.
    """
    from queue_app.coordination.redis_client import connected, open_to_writers
    from queue_app.coordination.workers import try_rights
    from queue_app.host.queues import check_queues
    from queue_app.host.torch_missing import require_torch
    from queue_app.worker.supervisor import run_workers

    check_queues(queues)
    require_torch()
    config = options.config_with_metrics(metrics_port, metrics_address)
    if exit_when_idle is not None:
        config = config.model_copy(update={"exit_when_idle": exit_when_idle})
    url, client = connected(broker_url)
    try_rights(client)
    if warning := open_to_writers(url):
        say(warning)
    run_workers(queues, url, config)


def key_file(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where it is to lie.")],
) -> None:
    """Write a new key of a fleet into a file that only you can read.

    Copy it to every host and set HOLDFAST_KEY_FILE there: what the server hands on is signed then.
    """
    from queue_app.coordination.trust.key_file import write_key_file

    try:
        is_new = write_key_file(path)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such directory") from None
    if not is_new:
        raise UsageError(f"{path}: a file is there already, and stays; name another")
    say(f"{path}: a new key; copy it to every host, and set HOLDFAST_KEY_FILE={path.absolute()} there")


def drain(
    target: Annotated[
        str, typer.Argument(metavar="WORKER|HOST", help="A worker, as status names it, or all of a host.")
    ],
    broker_url: options.BrokerUrl = None,
    wait: Annotated[bool, typer.Option("--wait", help="Come back when they have left.")] = False,
    as_json: options.Json = False,
) -> None:
    """Have workers leave, each at the end of its batch.

    Prints which were asked. They are not started again by what started them.
    """
    from queue_app.coordination.redis_client import TRANSIENT, connected
    from queue_app.settings import runtime_config
    from queue_app.worker.drain import request_drain, still_there

    lease_seconds = runtime_config().lease_seconds
    _, client = connected(broker_url)
    there = request_drain(client, target, lease_seconds)
    if as_json:
        print_json({"asked": [worker.name for worker in there]})
    else:
        _tell(there, "asked to drain")
    while wait and there:
        time.sleep(LOOK_SECONDS)
        with contextlib.suppress(*TRANSIENT):
            left = still_there(client, there, lease_seconds)
            if not as_json:
                _tell([worker for worker in there if worker not in left], "has left")
            there = left


def _tell(workers: Sequence["WorkerEntry"], what: str) -> None:
    for worker in workers:
        tell(f"{worker.name}: {what}")
