"""What anybody may have put on a queue does not end the worker that reads it."""

import json
import re
import signal
from pathlib import Path

import pytest
import redis

from queue_app.coordination import keys
from tests.support.command_runs import holdfast, running, status
from tests.support.jobs_and_inputs import write_fasta
from tests.support.waiting import wait_for

GARBAGE = ("", "not json", "7", "null", "[]", "{}", '{"body": "!"}', '{"body": "e30=", "properties": {}}')


def message(tag: object, **parts: object) -> str:
    """One as kombu writes them, but for the parts."""
    delivery = {"exchange": "", "routing_key": "cpu0"}
    properties = {"body_encoding": "base64", "delivery_tag": tag, "delivery_info": delivery}
    kind = {"content-type": "application/json", "content-encoding": "utf-8"}
    return json.dumps({"body": "e30=", "headers": {}, "properties": properties, **kind, **parts})


WORSE = (
    '{"__type__": "datetime", "__value__": 7}',
    "[" * 100_000,
    message(["no", "tag"]),
    message("tag-0", body="!"),
    message("tag-1"),
    message("tag-2", headers=["no", "headers"]),
    message("tag-3", headers={"task": ["no", "name"]}),
    message("tag-4", headers={"task": "gpu_tasks.embed_shard"}),
)
"""Messages that fail later and later on their way to a task."""


@pytest.fixture
def broker(server_url: str) -> dict[str, str]:
    return {"HOLDFAST_BROKER_URL": server_url, "HOLDFAST_PRELOAD_TORCH": "0"}


def test_a_worker_drops_what_is_no_message_and_does_the_next_task_in_the_same_process(
    client: redis.Redis, broker: dict[str, str], tmp_path: Path
) -> None:
    fasta, output = write_fasta(tmp_path / "a.fasta", 50), tmp_path / "a.npy"
    with running("worker", "cpu0", **broker) as workers:
        wait_for(lambda: client.hlen(keys.WORKERS), "the worker")
        before = json.loads(client.hvals(keys.WORKERS)[0])
        client.rpush("cpu0", *GARBAGE, *WORSE)
        wait_for(lambda: not client.llen("cpu0"), "the worker to read it all")
        holdfast("enqueue", fasta, "-o", output, "-m", "mock:4", "--queues", "cpu0", **broker)
        wait_for((tmp_path / "a.npy.card.json").exists, "the output", seconds=25)
        (after,) = status(tmp_path / "a.npy.holdfast", **broker)["workers"]
        workers.send_signal(signal.SIGTERM)
        printed, _ = workers.communicate(timeout=40)
    assert (after["pid"], after["child_pid"]) == (before["pid"], before["child_pid"])
    dropped = len(re.findall(r"dropped: no message queue=cpu0[^:]*: \w+", printed))
    said_by_celery = len(re.findall("Received and deleted unknown message", printed))
    assert dropped + said_by_celery == len(GARBAGE) + len(WORSE)
    assert dropped >= len(GARBAGE)
    assert "onnection to broker lost" not in printed
    assert "a delivery without a request" not in printed
