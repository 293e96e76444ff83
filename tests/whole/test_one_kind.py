"""Two real workers of two kinds: one of them computes with fewer of its processor's instructions."""

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import torch

from queue_app.job.directory import JobDir
from queue_app.job.done_records import read_done
from tests.support.command_runs import holdfast, running, status
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import save_esm2
from tests.support.waiting import wait_for

NUM_SHARDS = 60
FEWER = {"AVX512": "avx2", "AVX2": "default"}
"""What torch's kernels are held to, for each instruction set that they would use by themselves."""
CAPABILITY = torch.backends.cpu.get_cpu_capability()

pytestmark = pytest.mark.skipif(CAPABILITY not in FEWER, reason=f"{CAPABILITY} has none below it")


@pytest.fixture
def other() -> dict[str, str]:
    """The environment of a worker of the other kind."""
    return {"ATEN_CPU_CAPABILITY": FEWER[CAPABILITY]}


@pytest.fixture
def broker(server_url: str, client: redis.Redis) -> dict[str, str]:
    return {"HOLDFAST_BROKER_URL": server_url, "HOLDFAST_RESEND_SECONDS": "1", "HOLDFAST_RETRY_SECONDS": "1"}


@pytest.fixture
def enqueue(tmp_path: Path) -> list[str | Path]:
    """The command, of more shards than a worker does in a moment."""
    fasta, model = write_fasta(tmp_path / "a.fasta", 20 * NUM_SHARDS), save_esm2(tmp_path / "esm2")
    return [
        "enqueue", fasta, "-m", model, "-o", tmp_path / "out.npy", "--shards", str(NUM_SHARDS),
        "--queues", "cpu0,cpu1",
    ]  # fmt: skip


worker = partial(running, "worker", output=subprocess.DEVNULL)


def devices(job_dir: JobDir) -> set[str]:
    """What computed the shards that are done."""
    records = [record for shard in job_dir.load().shards if (record := read_done(job_dir, shard))]
    return {kind.device.rpartition(" ")[2] for record in records for kind in record.kinds}


def queues_of_workers(job_dir: JobDir, broker: dict[str, str]) -> set[str]:
    return {worker["queue"] for worker in status(job_dir.path, **broker)["workers"]}


def card(tmp_path: Path) -> Any:
    return json.loads((tmp_path / "out.npy.card.json").read_text())


def test_a_worker_of_another_kind_begins_no_shard_and_says_why(
    tmp_path: Path, enqueue: list[str | Path], broker: dict[str, str], other: dict[str, str]
) -> None:
    job_dir = JobDir(tmp_path / "out.npy.holdfast")
    holdfast(*enqueue, "--one-kind", **broker)
    with worker("cpu0", **broker):
        wait_for(lambda: devices(job_dir), "a shard")
    fixed, begun = job_dir.kind.read_bytes(), devices(job_dir)
    assert begun == {f"({CAPABILITY})"}
    with worker("cpu1", **broker, **other):
        wait_for(lambda: status(job_dir.path, **broker)["state"] == "failed", "the job to end", seconds=120)
        events = [event["text"] for event in status(job_dir.path, **broker)["events"]]
        why = "--one-kind: the job was begun on"
        assert [text for text in events if "cpu1@" in text and f"cannot begin: {why}" in text]
        assert [text for text in events if text.startswith(f"given up: {why}")]
        with worker("cpu0", **broker):
            wait_for(lambda: queues_of_workers(job_dir, broker) == {"cpu0", "cpu1"}, "both workers")
            holdfast(*enqueue, "--one-kind", **broker)
            wait_for((tmp_path / "out.npy.card.json").exists, "the output", seconds=120)
    assert devices(job_dir) == begun
    assert job_dir.kind.read_bytes() == fixed
    (share,) = card(tmp_path)["kinds"]
    assert (share["num_shards"], card(tmp_path)["mixed_kinds"]) == (NUM_SHARDS, None)


def test_an_emptied_server_lets_no_other_kind_in(
    tmp_path: Path,
    enqueue: list[str | Path],
    broker: dict[str, str],
    other: dict[str, str],
    client: redis.Redis,
) -> None:
    job_dir = JobDir(tmp_path / "out.npy.holdfast")
    holdfast(*enqueue, "--one-kind", **broker)
    with worker("cpu0", **broker):
        wait_for(lambda: devices(job_dir), "a shard")
    begun = devices(job_dir)
    client.flushall()
    holdfast(*enqueue, "--one-kind", **broker)
    with worker("cpu1", **broker, **other):
        wait_for(lambda: status(job_dir.path, **broker)["state"] == "failed", "the job to end", seconds=120)
    assert devices(job_dir) == begun


def test_without_it_both_kinds_compute_and_the_output_says_so(
    tmp_path: Path, enqueue: list[str | Path], broker: dict[str, str], other: dict[str, str]
) -> None:
    job_dir = JobDir(tmp_path / "out.npy.holdfast")
    holdfast(*enqueue, **broker)
    with worker("cpu0", **broker):
        wait_for(lambda: devices(job_dir), "a shard")
    with worker("cpu1", **broker, **other):
        wait_for((tmp_path / "out.npy.card.json").exists, "the output", seconds=120)
    assert devices(job_dir) == {f"({CAPABILITY})", f"({FEWER[CAPABILITY].upper()})"}
    assert card(tmp_path)["mixed_kinds"].startswith("Computed by 2 kinds of device")
    assert "Note: Computed by 2 kinds of device" in (tmp_path / "out.npy.card.md").read_text()
    assert "Computed by 2 kinds of device" in holdfast("verify", job_dir.path).stdout
