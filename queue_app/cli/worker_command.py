"""The command `holdfast worker`."""

from typing import Annotated

import typer

from queue_app.cli import options as options


def worker(
    queues: Annotated[list[str], typer.Argument(help="gpu0 gpu1 … or cpu0 …: one worker each.")],
    broker: options.Broker = None,
    metrics_port: options.MetricsPort = None,
    metrics_address: options.MetricsAddress = None,
) -> None:
    """Start one worker per device. The same as celery -A queue_app worker -Q gpu0."""
    from queue_app.coordination.redis_client import connected
    from queue_app.host.queues import check_queues
    from queue_app.worker.supervisor import run_workers

    check_queues(queues)
    config = options.config_with_metrics(metrics_port, metrics_address)
    url, _ = connected(broker)
    run_workers(queues, url, config)
