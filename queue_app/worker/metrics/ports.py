"""Where the workers of a host serve their metrics.

The worker of gpuN or cpuN has the port that was given plus N, so that one setting does for a whole host.
"""

import socket
from collections.abc import Mapping, Sequence

from queue_app.errors import UsageError
from queue_app.host.queues import Queue
from queue_app.settings import RuntimeConfig


def port_of(queue: str, config: RuntimeConfig) -> int | None:
    """Where the worker of a queue serves its metrics; None when it does not."""
    return None if config.metrics_port is None else config.metrics_port + Queue.parse(queue).number


def environment(config: RuntimeConfig) -> Mapping[str, str]:
    """What tells workers of ours to serve, and where."""
    if config.metrics_port is None:
        return {}
    return {
        "HOLDFAST_METRICS_PORT": str(config.metrics_port),
        "HOLDFAST_METRICS_ADDRESS": config.metrics_address,
    }


def ports_of(queues: Sequence[str], config: RuntimeConfig) -> dict[str, int]:
    """Of several workers, by queue; empty when they do not serve."""
    return {queue: port for queue in queues if (port := port_of(queue, config)) is not None}


def require_ports(queues: Sequence[str], config: RuntimeConfig) -> None:
    """Make sure that every worker will have its port.

    Raises:
        UsageError: one is taken, or the address is none of this host's; says which.
    """
    ports = ports_of(queues, config)
    for queue, port in ports.items():
        rivals = [other for other in ports if ports[other] == port and other != queue]
        if rivals:
            raise UsageError(f"{queue} and {rivals[0]} would share metrics port {port}; start one by itself")
        try:
            _try(config.metrics_address, port)
        except (OSError, OverflowError) as error:
            raise UsageError(refusal(queue, config.metrics_address, port, error)) from None


def describe(queues: Sequence[str], config: RuntimeConfig) -> str:
    """`metrics: http://127.0.0.1:9900/metrics (gpu0), 9901 (gpu1)`, or nothing where none is served."""
    ports = ports_of(queues, config)
    if not ports:
        return ""
    (queue, port), *others = ports.items()
    first = f"metrics: {url(config.metrics_address, port)} ({queue})"
    return ", ".join([first, *(f"{port} ({queue})" for queue, port in others)])


def _try(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server itself will
        probe.bind((address, port))


def url(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/metrics"


def refusal(queue: str, address: str, port: int, error: Exception) -> str:
    """One line about a port that cannot be had."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return (
        f"{queue} cannot serve its metrics at {url(address, port)} ({reason}); choose another --metrics-port "
        "(HOLDFAST_METRICS_PORT): gpuN and cpuN serve at that port plus N"
    )
