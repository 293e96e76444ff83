"""Which port a worker's metrics have, and what is said when it cannot be had."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_app.errors import UsageError
from queue_app.settings import RuntimeConfig
from queue_app.worker.metrics.ports import describe, environment, port_of, require_ports
from tests.support.command_runs import holdfast
from tests.support.free_ports import free_ports
from tests.support.jobs_and_inputs import write_fasta


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize(("queue", "port"), [("gpu0", 9900), ("gpu3", 9903), ("cpu0", 9900), ("cpu12", 9912)])
def test_the_number_of_the_queue_is_added_to_the_port(queue: str, port: int) -> None:
    assert port_of(queue, RuntimeConfig(metrics_port=9900)) == port


def test_without_a_port_no_worker_serves_and_none_is_told_to() -> None:
    config = RuntimeConfig()
    assert port_of("gpu0", config) is None
    require_ports(["gpu0", "cpu0"], config)
    assert describe(["gpu0", "cpu0"], config) == ""
    assert environment(config) == {}


def test_metrics_stay_on_this_host_unless_an_address_is_given() -> None:
    assert RuntimeConfig().metrics_address == "127.0.0.1"
    assert (
        describe(["cpu0"], RuntimeConfig(metrics_port=9900))
        == "metrics: http://127.0.0.1:9900/metrics (cpu0)"
    )


def test_the_user_is_told_where_each_worker_serves() -> None:
    config = RuntimeConfig(metrics_port=9900, metrics_address="::1")
    assert describe(["gpu0", "gpu3"], config) == "metrics: http://[::1]:9900/metrics (gpu0), 9903 (gpu3)"


def test_a_port_that_is_taken_is_named_with_its_worker(taken: int) -> None:
    with pytest.raises(UsageError, match=rf"cpu1 cannot serve .*:{taken}/metrics \(Address already in use\)"):
        require_ports(["cpu1"], RuntimeConfig(metrics_port=taken - 1))


def test_two_workers_that_would_share_a_port_are_named() -> None:
    with pytest.raises(UsageError, match="gpu1 and cpu1 would share"):
        require_ports(["gpu1", "cpu1"], RuntimeConfig(metrics_port=free_ports(1)[0]))


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot serve"):
        require_ports(["cpu0"], RuntimeConfig(metrics_port=9900, metrics_address="203.0.113.7"))


def test_a_port_beyond_the_last_one_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot serve"):
        require_ports(["cpu1"], RuntimeConfig(metrics_port=65535))


def test_the_command_says_so_in_one_line_and_starts_nothing(taken: int, tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 3)
    job = [fasta, "-m", "mock:8", "-o", tmp_path / "out.npy", "--device", "cpu", "--workers", "1"]
    [line] = holdfast("embed", *job, "--metrics-port", str(taken), expect=2).stderr.splitlines()
    assert line.startswith(f"holdfast: cpu0 cannot serve its metrics at http://127.0.0.1:{taken}/metrics")
    assert "choose another --metrics-port" in line
    assert list(tmp_path.iterdir()) == [fasta]
