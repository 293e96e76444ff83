"""Who has a device, and under which name: worked out by processes of their own, as workers are."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import redis

from queue_app.coordination import keys
from queue_app.coordination.dealing import tick
from queue_app.coordination.workers import Owner, WorkerEntry
from queue_app.host.own_files import NotOurs
from queue_app.host.physical_device import physical_device, short_name
from queue_app.host.queues import Queue
from queue_app.settings import RuntimeConfig
from queue_app.worker import device_claim
from queue_app.worker.device_claim import DeviceClaim
from tests.support import ROOT
from tests.support.other_user import PRECIOUS, needs_root, of_nobody, precious

HOST = socket.gethostname()
CLAIM = """
import sys
from queue_app.host.queues import Queue
from queue_app.settings import runtime_config
from queue_app.worker.device_claim import DeviceClaim
claim = DeviceClaim(Queue.parse(sys.argv[1]), runtime_config())
claim.take()
print(claim.name(), flush=True)
sys.stdin.read()
"""
DRIVER = """
import os
UUIDS = os.environ["UUIDS"].split(",")

class NVMLError(Exception): ...

NVML_DEVICE_MIG_ENABLE = 1
def nvmlInit(): ...
def nvmlDeviceGetCount(): return len(UUIDS)
def nvmlDeviceGetHandleByIndex(number): return UUIDS[number]
def nvmlDeviceGetHandleByUUID(uuid):
    if uuid not in UUIDS:
        raise NVMLError
    return uuid
def nvmlDeviceGetUUID(handle): return handle
def nvmlDeviceGetMigMode(handle): return [int(handle in os.environ.get("PARTITIONED", "")), 0]
def nvmlDeviceGetMigDeviceHandleByIndex(handle, number): return handle.replace("GPU-", f"MIG-{number}")
"""
"""A driver that shows the devices of UUIDS, in this order."""
A, B = "GPU-8f6d9a1c-0000", "GPU-01234567-0000"


class Machine:
    """Starts processes that claim a device, and keeps those that got it."""

    def __init__(self, home: Path, server_url: str, keep: contextlib.ExitStack) -> None:
        (home / "driver").mkdir()
        (home / "driver/pynvml.py").write_text(DRIVER)
        (home / "none").mkdir()
        (home / "none/pynvml.py").write_text("raise ImportError('no driver')")
        self.home, self.keep, self.server_url = home, keep, server_url

    def claim(self, queue: str, *uuids: str, **env: str) -> str:
        """The worker's name; what it says instead, where it is refused. Without UUIDs there is no driver."""
        path = os.pathsep.join([str(self.home / ("driver" if uuids else "none")), str(ROOT)])
        kept = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        own = {"HOLDFAST_LOCKS": str(self.home / "locks"), "PYTHONPATH": path, "UUIDS": ",".join(uuids)}
        process = subprocess.Popen(
            [sys.executable, "-c", CLAIM, queue],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=kept | own | {"HOLDFAST_BROKER_URL": self.server_url} | env,
        )  # fmt: skip
        self.keep.enter_context(process)
        self.keep.callback(process.kill)
        assert process.stdout is not None
        assert process.stderr is not None
        return process.stdout.readline().strip() or process.stderr.read()


@pytest.fixture
def machine(client: redis.Redis, server_url: str, tmp_path: Path) -> Iterator[Machine]:
    with contextlib.ExitStack() as keep:
        yield Machine(tmp_path, server_url, keep)


def test_the_workers_of_a_whole_machine_are_named_by_number(machine: Machine) -> None:
    assert machine.claim("gpu0", A, B) == f"gpu0@{HOST}"
    assert machine.claim("gpu1", A, B) == f"gpu1@{HOST}"
    assert machine.claim("cpu0") == f"cpu0@{HOST}"


def test_two_tasks_with_a_device_each_are_both_gpu0_and_go_by_their_devices(machine: Machine) -> None:
    """As Slurm grants them, without and with a device of its own for each task's eyes."""
    assert machine.claim("gpu0", A, B, CUDA_VISIBLE_DEVICES="1") == f"gpu0-01234567@{HOST}"
    assert machine.claim("gpu0", A, B, CUDA_VISIBLE_DEVICES="0") == f"gpu0@{HOST}"


def test_two_tasks_that_each_see_their_own_device_as_number_0_have_two_names(machine: Machine) -> None:
    assert machine.claim("gpu0", A, CUDA_VISIBLE_DEVICES="0") == f"gpu0@{HOST}"
    assert machine.claim("gpu0", B, CUDA_VISIBLE_DEVICES="0") == f"gpu0-01234567@{HOST}"


@pytest.mark.parametrize("again", [("gpu1", "7,0"), ("gpu0", A), ("gpu0", "GPU-8f6d"), ("gpu0", "0")])
def test_one_device_has_one_worker_however_it_is_granted(machine: Machine, again: tuple[str, str]) -> None:
    queue, granted = again
    assert machine.claim("gpu0", A, B) == f"gpu0@{HOST}"
    refused = machine.claim(queue, A, B, CUDA_VISIBLE_DEVICES=granted)
    assert f"{queue} has a worker already" in refused


def test_a_partitioned_gpu_granted_whole_is_its_first_part_as_cuda_takes_it(machine: Machine) -> None:
    part = A.replace("GPU-", "MIG-0")
    assert machine.claim("gpu0", A, B, part, CUDA_VISIBLE_DEVICES=part, PARTITIONED=A) != ""
    refused = machine.claim("gpu0", A, B, part, CUDA_VISIBLE_DEVICES="0", PARTITIONED=A)
    assert "gpu0 has a worker already" in refused


def test_a_worker_is_refused_where_cuda_numbers_devices_otherwise_than_the_driver(machine: Machine) -> None:
    refused = machine.claim("gpu0", A, B, CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert "CUDA_DEVICE_ORDER=FASTEST_FIRST: gpu0 is the first device of nvidia-smi; unset it" in refused
    assert machine.claim("gpu0", A, B, CUDA_DEVICE_ORDER="PCI_BUS_ID") == f"gpu0@{HOST}"
    assert machine.claim("cpu0", CUDA_DEVICE_ORDER="FASTEST_FIRST") == f"cpu0@{HOST}"


def test_without_a_driver_the_granted_number_is_the_device(machine: Machine) -> None:
    assert machine.claim("gpu0", CUDA_VISIBLE_DEVICES="3") == f"gpu0-3@{HOST}"
    assert machine.claim("gpu0", CUDA_VISIBLE_DEVICES="4") == f"gpu0-4@{HOST}"
    assert "has a worker already" in machine.claim("gpu1", CUDA_VISIBLE_DEVICES="0,3")
    assert machine.claim("gpu0", CUDA_VISIBLE_DEVICES="MIG-8f6d9a1c-1") == f"gpu0-8f6d9a1c@{HOST}"


def elsewhere(name: str) -> WorkerEntry:
    """A worker of this name in another container of the same host name."""
    owner = replace(Owner.current(name), host_key="another-boot:7").encode()
    return WorkerEntry(name, "gpu0", "cuda:0", HOST, 7, 8, owner)


def test_a_host_whose_name_another_has_marks_its_workers(machine: Machine, client: redis.Redis) -> None:
    tick(client, elsewhere(f"gpu0@{HOST}"))
    marked = machine.claim("gpu0", A)
    assert marked.startswith(f"gpu0@{HOST}-")
    assert len(marked) == len(f"gpu0@{HOST}-") + 6


def test_of_two_hosts_of_one_name_that_start_at_once_one_is_marked(
    machine: Machine, client: redis.Redis
) -> None:
    """The other has said its name and has not registered yet."""
    client.set(keys.name_claim(f"gpu0@{HOST}"), "another-boot:7", ex=60)
    assert machine.claim("gpu0", A).startswith(f"gpu0@{HOST}-")


def test_a_worker_that_starts_again_has_its_name_again(machine: Machine, client: redis.Redis) -> None:
    name = machine.claim("cpu0")
    tick(client, replace(elsewhere(name), owner=Owner.current(name).encode()))
    machine.keep.close()
    assert machine.claim("cpu0") == name


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("1", "1"),
        (A, "8f6d9a1c"),
        ("MIG-8f6d9a1c-0-1", "8f6d9a1c"),
        ("MIG-GPU-8f6d9a1c-0/1/0", "8f6d9a1c.1.0"),
    ],
)
def test_a_device_is_readable_in_a_name(device: str, name: str) -> None:
    assert short_name(device) == name


# ---- where it is claimed


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its run-time directories and its temporary one, and a named place for nothing."""
    (tmp_path / "run").mkdir()
    (tmp_path / "tmp").mkdir(mode=0o1777)
    monkeypatch.setattr(device_claim, "RUN", tmp_path / "run")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("HOLDFAST_LOCKS")
    return tmp_path


def claimed(queue: str = "cpu0") -> DeviceClaim:
    claim = DeviceClaim(Queue.parse(queue), RuntimeConfig())
    claim.take()
    return claim


def in_session(host: Path) -> Path:
    home = host / "run" / str(os.geteuid())
    home.mkdir(mode=0o700)
    return home


def in_temporary(host: Path) -> Path:
    return host / "tmp" / f"holdfast-{os.geteuid()}"


def test_a_service_with_a_temporary_directory_of_its_own_and_a_shell_agree(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_session(host)
    first = claimed()
    (host / "private").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(host / "private"))
    with pytest.raises(SystemExit, match="has a worker already"):
        claimed()
    assert first


def test_a_worker_that_started_before_its_user_had_a_session_is_seen_from_it(host: Path) -> None:
    first = claimed()
    in_session(host)
    with pytest.raises(SystemExit, match="has a worker already"):
        claimed()
    assert first


@needs_root
@pytest.mark.parametrize("planted", ["of another user", "a link", "open to others"])
def test_a_planted_directory_of_locks_is_refused_and_what_it_leads_to_stays(planted: str, host: Path) -> None:
    home, target = in_temporary(host), precious(host / "target")
    home.mkdir()
    if planted == "a link":
        home.rename(host / "theirs")
        home.symlink_to(host / "theirs")
    server = sha256(RuntimeConfig().broker_url.encode()).hexdigest()[:12]
    (home / f"cpu0-{server}.lock").symlink_to(target)
    if planted == "open to others":
        home.chmod(0o777)
    else:
        of_nobody(home)
    with pytest.raises(SystemExit, match="HOLDFAST_LOCKS") as refusal:
        claimed()
    assert f"{home}: not a directory of this user alone" in str(refusal.value)
    assert target.read_text() == PRECIOUS
    in_session(host)
    assert claimed(), "whoever has another place of his own is not kept from it"
    assert target.read_text() == PRECIOUS


def test_a_link_in_the_place_of_a_lock_is_not_followed(host: Path) -> None:
    in_temporary(host).mkdir(mode=0o700)
    server = sha256(RuntimeConfig().broker_url.encode()).hexdigest()[:12]
    (in_temporary(host) / f"cpu0-{server}.lock").symlink_to(precious(host / "target"))
    with pytest.raises(NotOurs):
        claimed()
    assert (host / "target").read_text() == PRECIOUS


@pytest.mark.gpu
def test_the_driver_names_a_device_by_its_number_its_uuid_and_the_beginning_of_that() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    uuid = physical_device("0")
    assert uuid.startswith("GPU-")
    assert physical_device(uuid) == uuid
    assert physical_device(uuid[:12]) == uuid
