"""The main job through the real parts: command, server, workers, store, output; and what crashes do to it."""

import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import torch
from safetensors.numpy import save_file

from queue_app.coordination import keys
from queue_app.coordination.embedded_server import ServerAddress
from queue_app.coordination.redis_client import connect
from tests.support.blocks_and_stores import damage_block
from tests.support.command_runs import (
    committed_batches,
    environment,
    holdfast,
    kill_tree,
    left_over,
    running,
    status,
    wait_for_progress,
)
from tests.support.inline_job import submitted
from tests.support.jobs_and_inputs import protein, write_fasta
from tests.support.model_directories import change_weights, save_esm2
from tests.support.output_files import EVERY_FORMAT, ids_of, vectors_of
from tests.support.waiting import wait_for

NUM_RECORDS = 600
SLOW = ["-m", "mock:16,delay_ms=40", "--toks-per-batch", "512", "--commit-seconds", "0.2"]
SLOWER = ["-m", "mock:16,delay_ms=200", *SLOW[2:]]
"""The same vectors, so late that a command given half-way finds the job at work."""
CPU = ["--device", "cpu", "--workers", "2"]


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fasta(tmp_path_factory.mktemp("input") / "proteins.fasta", NUM_RECORDS)


@pytest.fixture(scope="module")
def undisturbed(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a run that nothing happened to."""
    output = tmp_path_factory.mktemp("undisturbed") / "out.npy"
    holdfast("embed", fasta, "-o", output, *SLOW, *CPU)
    return output


def bytes_of(output: Path) -> tuple[bytes, bytes]:
    return output.read_bytes(), output.with_suffix(".ids.txt").read_bytes()


def pids_of(seen: dict[str, Any]) -> list[int]:
    return [pid for worker in seen["workers"] for pid in (worker["pid"], worker["child_pid"])]


def test_every_record_comes_out_in_input_order(undisturbed: Path) -> None:
    ids = undisturbed.with_suffix(".ids.txt").read_text().splitlines()
    assert ids == [f"p{number}" for number in range(NUM_RECORDS)]
    assert np.load(undisturbed).shape == (NUM_RECORDS, 16)


def test_a_vector_is_the_models_answer_for_its_own_sequence(undisturbed: Path) -> None:
    from gpu_tasks import AsyncInferenceRunner, load_model
    from gpu_tasks.inference.plan_batches import plan_batches

    model = load_model("mock:16")
    for number in (0, 7, NUM_RECORDS - 1):
        plan = plan_batches(
            model.tokenize([protein(number)]), [0], prefix=model.prefix, suffix=model.suffix,
            toks_per_batch=512, max_length=1022, long="window", window_overlap=127,
        )  # fmt: skip
        (alone,) = AsyncInferenceRunner(model).run(plan)
        np.testing.assert_array_equal(np.load(undisturbed)[number], alone.embeddings[0])


def test_a_second_output_of_the_same_input_is_identical_in_bytes(
    fasta: Path, undisturbed: Path, tmp_path: Path
) -> None:
    holdfast("embed", fasta, "-o", tmp_path / "out.npy", *SLOW, "--device", "cpu", "--workers", "1")
    assert bytes_of(tmp_path / "out.npy") == bytes_of(undisturbed)


def test_a_killed_child_costs_nothing(fasta: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    with running("embed", fasta, "-o", output, *SLOW, *CPU) as job:
        seen = wait_for_progress(tmp_path / "out.npy.holdfast", 0.2, job)
        os.kill(seen["workers"][0]["child_pid"], signal.SIGKILL)
        assert job.wait(timeout=120) == 0
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(tmp_path / "out.npy.holdfast").values()) == 1


def test_a_child_that_was_stopped_for_good_is_replaced(
    fasta: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    with running("embed", fasta, "-o", output, *SLOW, "--device", "cpu", "--workers", "1") as job:
        seen = wait_for_progress(tmp_path / "out.npy.holdfast", 0.2, job)
        os.kill(seen["workers"][0]["child_pid"], signal.SIGSTOP)
        assert job.wait(timeout=120) == 0
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(tmp_path / "out.npy.holdfast").values()) == 1


def test_a_child_that_was_stopped_while_it_had_nothing_to_do_is_replaced(
    fasta: Path, client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    output, broker = tmp_path / "out.npy", {"HOLDFAST_BROKER_URL": server_url}
    with running("worker", "cpu0", **broker, HOLDFAST_PRELOAD_TORCH="0"):
        wait_for(lambda: client.hlen(keys.WORKERS), "the worker")
        os.kill(json.loads(client.hvals(keys.WORKERS)[0])["child_pid"], signal.SIGSTOP)
        holdfast("enqueue", fasta, "-o", output, "-m", "mock:4", "--queues", "cpu0", **broker)
        wait_for((tmp_path / "out.npy.card.json").exists, "the output")


def test_a_killed_worker_is_started_again_and_costs_nothing(
    fasta: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    with running("embed", fasta, "-o", output, *SLOW, "--device", "cpu", "--workers", "1") as job:
        seen = wait_for_progress(tmp_path / "out.npy.holdfast", 0.3, job)
        kill_tree(seen["workers"][0]["pid"])
        assert job.wait(timeout=120) == 0
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(tmp_path / "out.npy.holdfast").values()) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_command_goes_on_after_everything_was_killed(
    fasta: Path, undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    command = ["embed", fasta, "-o", output, *SLOW, *CPU]
    with running(*command) as job:
        seen = wait_for_progress(job_dir, random.Random(seed).uniform(0.05, 0.8), job)
        job.kill()
        job.wait()
        # Workers and server die with the command, so that nothing of the old run meets the new one.
        wait_for(lambda: not left_over(pids_of(seen)), "the workers to die with the command")
    assert not output.exists()
    assert "resumed" in holdfast(*command).stderr
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(job_dir).values()) == 1


def test_ctrl_c_commits_and_says_how_to_go_on(fasta: Path, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    command = ["embed", fasta, "-o", output, *SLOW, *CPU]
    with running(*command) as job:
        seen = wait_for_progress(tmp_path / "out.npy.holdfast", 0.2, job)
        job.send_signal(signal.SIGINT)
        printed, _ = job.communicate(timeout=60)
        assert job.returncode == 130
        assert left_over(pids_of(seen)) == []
    (go_on,) = re.findall(r"what is done is committed. To go on: holdfast (.*)", printed)
    assert shlex.split(go_on) == [*map(str, command)]
    holdfast(*shlex.split(go_on))
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(tmp_path / "out.npy.holdfast").values()) == 1


def test_workers_of_a_finished_job_are_ended_with_nothing_in_hand(fasta: Path, tmp_path: Path) -> None:
    holdfast("embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:4", *CPU, "--shards", "16")
    logs = logs_of(tmp_path / "out.npy.holdfast")
    # A shard's message may come twice, when a worker found the job before it was announced; it is done once.
    assert len(re.findall(r"\] done job=\S+ shard=\d+", logs)) == 16
    assert list((tmp_path / "out.npy.holdfast" / "checkpoints").iterdir()) == []
    assert "Warm shutdown" not in logs


def test_a_finished_job_is_not_computed_again(fasta: Path, tmp_path: Path) -> None:
    command = ["embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:4", *CPU]
    holdfast(*command)
    before = committed_batches(tmp_path / "out.npy.holdfast")
    assert "done already" in holdfast(*command).stderr
    assert committed_batches(tmp_path / "out.npy.holdfast") == before


def test_overwrite_forgets_earlier_work(fasta: Path, tmp_path: Path) -> None:
    command = ["embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:4", *CPU]
    holdfast(*command)
    first = json.loads((tmp_path / "out.npy.holdfast" / "job.json").read_text())["job_id"]
    holdfast(*command, "--overwrite")
    second = json.loads((tmp_path / "out.npy.holdfast" / "job.json").read_text())["job_id"]
    assert first != second
    assert set(committed_batches(tmp_path / "out.npy.holdfast").values()) == {2}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--pool", "max"], "pool: mean -> max"),
        (["-m", "mock:8"], "model"),
        (["--store-dtype", "float16"], "store_dtype: float32 -> float16"),
    ],
)
def test_a_changed_job_on_the_same_output_is_refused_by_name(
    fasta: Path, tmp_path: Path, change: list[str], named: str
) -> None:
    command = ["embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:4", *CPU]
    holdfast(*command)
    before = bytes_of(tmp_path / "out.npy")
    refused = holdfast(*command, *change, expect=2).stderr
    assert named in refused
    assert "--overwrite" in refused
    assert bytes_of(tmp_path / "out.npy") == before


def test_a_changed_input_on_the_same_output_is_refused_by_name(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 20)
    command = ["embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:4", *CPU]
    holdfast(*command)
    write_fasta(fasta, 21)
    assert "a.fasta" in holdfast(*command, expect=2).stderr


def test_every_output_holds_the_same_rows(fasta: Path, tmp_path: Path) -> None:
    holdfast("embed", fasta, "-o", tmp_path / "out.h5", "-m", "mock:4", *CPU)
    for name in EVERY_FORMAT:
        holdfast("export", tmp_path / "out.h5.holdfast", "-o", tmp_path / name)
    expected = np.load(tmp_path / "out.npy")
    ids = (tmp_path / "out.ids.txt").read_text().splitlines()
    for name in EVERY_FORMAT:
        assert ids_of(tmp_path / name) == ids
        np.testing.assert_array_equal(vectors_of(tmp_path / name), expected)


def test_bad_records_are_quarantined_by_name_and_the_rest_embedded(tmp_path: Path) -> None:
    bad = ">empty\n\n>digit\nMK4V\n"
    (tmp_path / "a.fasta").write_text(f">a\n{protein(1)}\n{bad}>b\n{protein(2)}\n")
    output = tmp_path / "out.npy"
    answer = holdfast("embed", tmp_path / "a.fasta", "-o", output, "-m", "mock:4", *CPU, "--json", expect=3)
    counts = json.loads(answer.stdout)
    assert (counts["records"], counts["embedded"], counts["quarantined"]) == (4, 2, 2)
    assert output.with_suffix(".ids.txt").read_text().splitlines() == ["a", "b"]
    listed = (tmp_path / "out.npy.quarantine.tsv").read_text()
    assert "empty" in listed
    assert "digit" in listed


@pytest.mark.parametrize(("rule", "code"), [("window", 0), ("truncate", 0), ("error", 3)])
def test_a_long_sequence_follows_the_rule(tmp_path: Path, rule: str, code: int) -> None:
    (tmp_path / "a.fasta").write_text(f">short\n{protein(1)}\n>long\n{protein(3) * 60}\n")
    command = ["embed", tmp_path / "a.fasta", "-o", tmp_path / "out.npy", "-m", "mock:4", *CPU]
    holdfast(*command, "--long", rule, "--max-length", "200", expect=code)
    rows = 1 if rule == "error" else 2
    assert np.load(tmp_path / "out.npy").shape == (rows, 4)


def test_two_producers_at_once_make_one_job(
    fasta: Path, tmp_path: Path, server_url: str, client: Any
) -> None:
    command = ["enqueue", fasta, "-m", "mock:4", "-o", tmp_path / "out.npy", "--queues", "cpu0", "--json"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "queue_app.cli.main", *map(str, command)],
            stdout=subprocess.PIPE, text=True, env=environment(HOLDFAST_BROKER_URL=server_url),
        )
        for _ in range(2)
    ]  # fmt: skip
    answers = [json.loads(process.communicate(timeout=60)[0]) for process in both]
    assert answers[0]["job"] == answers[1]["job"]
    assert sorted(answer["created"] for answer in answers) == [False, True]
    assert client.llen("cpu0") == 1  # to begin with; the rest waits in the manifest


def test_enqueued_work_is_done_and_exported_by_workers_alone(
    fasta: Path, tmp_path: Path, server_url: str, client: Any
) -> None:
    output = tmp_path / "out.npy"
    holdfast(
        "enqueue",
        fasta,
        "-m",
        "mock:4",
        "-o",
        output,
        "--queues",
        "cpu0,cpu1",
        HOLDFAST_BROKER_URL=server_url,
    )
    with running(
        "worker", "cpu0", "cpu1", HOLDFAST_BROKER_URL=server_url, HOLDFAST_PRELOAD_TORCH="0"
    ) as workers:
        wait_for((tmp_path / "out.npy.card.json").exists, "the workers' export")
        seen = status(tmp_path / "out.npy.holdfast", HOLDFAST_BROKER_URL=server_url)
        assert seen["state"] == "done"
        assert {worker["queue"] for worker in seen["workers"]} == {"cpu0", "cpu1"}
        workers.send_signal(signal.SIGTERM)
        assert workers.wait(timeout=40) == 0
    assert np.load(output).shape == (NUM_RECORDS, 4)
    card = json.loads((tmp_path / "out.npy.card.json").read_text())
    assert (card["counts"]["embedded"], card["faults"]["command_starts"]) == (NUM_RECORDS, 0)
    assert card["throughput"]["num_tokens"] == sum(len(protein(n)) + 2 for n in range(NUM_RECORDS))


def test_a_drained_worker_gives_its_shard_back_and_another_goes_on(
    fasta: Path, undisturbed: Path, tmp_path: Path, server_url: str, client: Any
) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    broker = {"HOLDFAST_BROKER_URL": server_url, "HOLDFAST_PRELOAD_TORCH": "0"}
    holdfast("enqueue", fasta, "-o", output, *SLOW, "--queues", "cpu0", "--shards", "2", **broker)
    with running("worker", "cpu0", **broker) as first:
        wait_for(lambda: status(job_dir, **broker)["sequences"]["done"] > 50, "some commits")
        first.send_signal(signal.SIGTERM)  # a spot notice
        assert first.wait(timeout=40) == 0
    drained = status(job_dir, **broker)
    assert drained["shards"]["running"] == 0
    assert list(client.scan_iter("cpu0*")) == []  # nothing waits for who has gone
    with running("worker", "cpu0", **broker):
        wait_for((tmp_path / "out.npy.card.json").exists, "the output", seconds=120)
    assert bytes_of(output) == bytes_of(undisturbed)


DEAF = """
import os, pathlib
from kombu.transport import redis
start = redis.Channel._brpop_start
def once(channel, *arguments):
    if pathlib.Path(os.environ["DEAF"]).exists():
        channel._in_poll = channel.client.connection  # as if it had asked, on a connection that says nothing
        channel._brpop_sent_at = None
    else:
        start(channel, *arguments)
redis.Channel._brpop_start = once
"""


def test_a_worker_that_takes_no_messages_any_more_is_started_again(
    fasta: Path, undisturbed: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(DEAF)
    deaf, output = tmp_path / "deaf", tmp_path / "out.npy"
    env = {
        "DEAF": str(deaf),
        "PYTHONPATH": str(tmp_path),
        "HOLDFAST_RETRY_SECONDS": "1",
        "HOLDFAST_RESEND_SECONDS": "1",
    }
    with running("embed", fasta, "-o", output, *SLOW, "--device", "cpu", "--workers", "1", **env) as job:
        wait_for_progress(tmp_path / "out.npy.holdfast", 0.2, job)
        deaf.touch()
        wait_for(lambda: "takes none" in logs_of(tmp_path / "out.npy.holdfast"), "the worker's last words")
        deaf.unlink()
        assert job.wait(timeout=120) == 0
    assert bytes_of(output) == bytes_of(undisturbed)


def test_an_own_server_behaves_as_the_embedded_one(
    fasta: Path, undisturbed: Path, tmp_path: Path, server_url: str, client: Any
) -> None:
    output = tmp_path / "out.npy"
    holdfast("embed", fasta, "-o", output, *SLOW, *CPU, "--broker", server_url)
    assert bytes_of(output) == bytes_of(undisturbed)
    assert not (tmp_path / "out.npy.holdfast" / "server.json").exists()


def test_cancel_stops_a_job_and_resume_finishes_it(fasta: Path, undisturbed: Path, tmp_path: Path) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    with running("embed", fasta, "-o", output, *SLOWER, *CPU) as job:
        wait_for_progress(job_dir, 0.1, job)
        assert "cancelled" in holdfast("cancel", job_dir).stdout
        assert job.wait(timeout=60) == 1
    assert status(job_dir)["state"] == "cancelled"
    holdfast("resume", job_dir, "--workers", "2")
    assert bytes_of(output) == bytes_of(undisturbed)


def test_a_paused_job_rests_until_it_is_unpaused(fasta: Path, undisturbed: Path, tmp_path: Path) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    with running("embed", fasta, "-o", output, *SLOWER, *CPU) as job:
        wait_for_progress(job_dir, 0.1, job)
        assert "paused" in holdfast("pause", job_dir).stdout
        wait_for(lambda: status(job_dir)["shards"]["running"] == 0, "the holders to stop")
        resting = status(job_dir)
        assert resting["state"] == "paused"
        assert "running" in holdfast("unpause", job_dir).stdout
        assert job.wait(timeout=120) == 0
    assert resting["sequences"]["done"] < NUM_RECORDS
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(job_dir).values()) == 1


@pytest.mark.parametrize("how", ["flushed", "killed and without its data"])
def test_a_job_that_the_server_forgot_is_rebuilt_from_its_directory(
    fasta: Path, undisturbed: Path, tmp_path: Path, how: str
) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    with running("embed", fasta, "-o", output, *SLOW, *CPU) as job:
        wait_for_progress(job_dir, 0.2, job)
        address = ServerAddress.read(job_dir / "server.json")
        assert address is not None
        if how == "flushed":
            with connect(address.url) as client:
                client.flushall()
        else:
            shutil.rmtree(job_dir / "server")
            os.kill(json.loads((job_dir / "processes.json").read_text())["server"]["pid"], signal.SIGKILL)
        assert job.wait(timeout=150) == 0
    assert "rebuilt from its directory" in logs_of(job_dir)
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(job_dir).values()) == 1


def test_a_damaged_result_is_found_named_and_computed_again(fasta: Path, tmp_path: Path) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    command = ["embed", fasta, "-o", output, "-m", "mock:4", *CPU]
    holdfast(*command)
    before = bytes_of(output)
    result = sorted((job_dir / "results").iterdir())[3]
    damaged = bytearray(result.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    result.write_bytes(damaged)
    assert "shard 3" in holdfast("verify", job_dir, expect=4).stdout
    output.unlink()
    holdfast(*command)
    assert bytes_of(output) == before
    assert "sound" in holdfast("verify", job_dir).stdout


def test_a_damaged_batch_is_computed_again_and_no_other(
    fasta: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    command = ["embed", fasta, "-o", output, *SLOW, "--device", "cpu", "--workers", "1", "--shards", "1"]
    with running(*command) as job:
        wait_for_progress(job_dir, 0.5, job)
        job.kill()
        job.wait()
    shard, batch = min(committed_batches(job_dir))
    damage_block(job_dir / "checkpoints" / "00000.lmdb", batch)
    assert f"batch {batch}" in holdfast("verify", job_dir, expect=4).stdout
    holdfast(*command)
    again = [place for place, times in committed_batches(job_dir).items() if times > 1]
    assert again == [(shard, batch)]
    np.testing.assert_array_equal(np.load(output).shape, np.load(undisturbed).shape)


def block_results(job_dir: Path) -> None:
    """Put a file in the place of the results: from now on no shard can be published."""
    (job_dir / "results").rename(job_dir / "results.away")
    (job_dir / "results").touch()


def unblock_results(job_dir: Path) -> None:
    (job_dir / "results").unlink()
    (job_dir / "results.away").rename(job_dir / "results")


def test_a_failure_that_passes_is_retried_until_it_has_passed(
    fasta: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    with running("embed", fasta, "-o", output, *SLOW, *CPU) as job:
        wait_for_progress(job_dir, 0.1, job)
        block_results(job_dir)
        wait_for(lambda: "NotADirectoryError" in logs_of(job_dir), "a failure")
        assert status(job_dir)["state"] == "running"
        unblock_results(job_dir)
        assert job.wait(timeout=120) == 0
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(job_dir).values()) == 1


def test_a_shard_is_given_up_after_the_limit_and_the_same_command_tries_again(
    fasta: Path, undisturbed: Path, tmp_path: Path
) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    command = ["embed", fasta, "-o", output, *SLOW, *CPU]
    impatient = {
        "HOLDFAST_ATTEMPT_LIMIT": "2", "HOLDFAST_RESEND_SECONDS": "1", "HOLDFAST_RETRY_SECONDS": "1",
    }  # fmt: skip
    with running(*command, **impatient) as job:
        wait_for_progress(job_dir, 0.1, job)
        block_results(job_dir)
        printed, _ = job.communicate(timeout=150)
        assert job.returncode == 1
    assert "were given up" in printed
    assert "Not a directory" in printed
    assert not output.exists()
    unblock_results(job_dir)
    holdfast(*command)
    assert bytes_of(output) == bytes_of(undisturbed)
    assert max(committed_batches(job_dir).values()) == 1


def logs_of(job_dir: Path) -> str:
    return "".join(log.read_text() for log in (job_dir / "logs").glob("*.log"))


def num_deaths(job_dir: Path) -> int:
    """Processes that ended while they computed, by their parents' logs."""
    return len(set(re.findall(r"pid:(\d+) exited with", logs_of(job_dir))))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        ("kill", "computing it alone ended the process, 2 times"),
        ("raise", "computing it alone failed (ValueError: a sequence holds WWWWW), 2 times"),
        ("hang", "computing it alone ended the process, 2 times"),
        ("lost", "computing it alone failed (RuntimeError: CUDA error: a sequence holds WWWWW), 2 times"),
        ("nan", "not finite"),
    ],
)
def test_a_record_that_does_harm_is_set_aside_and_all_others_embedded(
    fasta: Path, undisturbed: Path, tmp_path: Path, harm: str, reason: str
) -> None:
    poisoned = tmp_path / "poisoned.fasta"
    poisoned.write_text(fasta.read_text() + f">poison\n{protein(5)}WWWWW\n")
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    model = f"mock:16,{harm}=WWWWW"
    holdfast(
        "embed",
        poisoned,
        "-m",
        model,
        "-o",
        output,
        *CPU,
        "--toks-per-batch",
        "512",
        expect=3,
        HOLDFAST_STALL_SECONDS="5",
    )
    (line,) = (tmp_path / "out.npy.quarantine.tsv").read_text().splitlines()[1:]
    assert line.split("\t")[:2] == [str(NUM_RECORDS), "poison"]
    assert reason in line
    assert bytes_of(output) == bytes_of(undisturbed)
    assert num_deaths(job_dir) <= (4 if harm in ("kill", "hang", "lost") else 0)


def test_one_poison_among_2000_costs_itself_and_four_processes_at_most(tmp_path: Path) -> None:
    clean = write_fasta(tmp_path / "clean.fasta", 1_999)
    lines = clean.read_text().splitlines(keepends=True)
    poisoned = tmp_path / "poisoned.fasta"
    poisoned.write_text("".join([*lines[:2000], f">poison\n{protein(5)}WWWWW\n", *lines[2000:]]))
    command = ["-m", "mock:16,kill=WWWWW", "--toks-per-batch", "2048", *CPU]
    holdfast("embed", clean, "-o", tmp_path / "clean.npy", *command)
    holdfast("embed", poisoned, "-o", tmp_path / "out.npy", *command, expect=3)
    (line,) = (tmp_path / "out.npy.quarantine.tsv").read_text().splitlines()[1:]
    assert line.split("\t")[:2] == ["1000", "poison"]
    assert bytes_of(tmp_path / "out.npy") == bytes_of(tmp_path / "clean.npy")
    assert np.load(tmp_path / "out.npy").shape == (1_999, 16)
    assert num_deaths(tmp_path / "out.npy.holdfast") <= 4


def test_a_record_that_did_harm_gets_another_chance_and_a_bad_one_does_not(tmp_path: Path) -> None:
    fasta, output = tmp_path / "a.fasta", tmp_path / "out.npy"
    fasta.write_text(f">good\n{protein(1)}\n>poison\n{protein(5)}WWWWW\n>digit\nM4\n")
    command = ["embed", fasta, "-m", "mock:4,nan=WWWWW", "-o", output, *CPU]
    holdfast(*command, expect=3)
    listed = holdfast("quarantine", output).stdout.splitlines()
    assert [line.split("\t")[1] for line in listed] == ["poison", "digit"]
    again = holdfast("quarantine", output, "--retry").stdout.splitlines()
    assert [line.split("\t")[1] for line in again] == ["poison"]
    holdfast(*command, expect=3)
    assert set(committed_batches(tmp_path / "out.npy.holdfast").values()) == {2}
    assert [entry["id"] for entry in json.loads(holdfast("quarantine", output, "--json").stdout)] == [
        "poison",
        "digit",
    ]


def test_a_second_ctrl_c_leaves_at_once_and_loses_nothing_committed(fasta: Path, tmp_path: Path) -> None:
    output, job_dir = tmp_path / "out.npy", tmp_path / "out.npy.holdfast"
    endless = ["-m", "mock:16,hang=M", "--toks-per-batch", "512", "--device", "cpu", "--workers", "1"]
    with running("embed", fasta, "-o", output, *endless, HOLDFAST_GRACE_SECONDS="600") as job:
        wait_for(lambda: "computing" in logs_of(job_dir), "a batch that never ends")
        job.send_signal(signal.SIGINT)
        wait_for(lambda: "Warm shutdown" in logs_of(job_dir), "the worker to be told")
        seen = status(job_dir)
        job.send_signal(signal.SIGINT)
        assert job.wait(timeout=60) == 130
    assert left_over(pids_of(seen)) == []
    assert "unfinished and sound" in holdfast("verify", job_dir).stdout


@pytest.mark.parametrize("command", ["embed", "plan", "enqueue"])
def test_a_model_that_does_not_load_is_refused_before_the_input_is_read(
    tmp_path: Path, command: str, server_url: str
) -> None:
    model = save_esm2(tmp_path / "model")
    save_file({"unknown": np.zeros(3, np.float32)}, model / "model.safetensors")
    (unreadable := tmp_path / "in.fasta").write_text("not a FASTA file\n")
    more = {"embed": CPU, "enqueue": ["--broker", server_url, "--queues", "cpu0"], "plan": []}
    asked = [command, unreadable, "-o", tmp_path / "out.npy", "-m", model, *more[command]]
    refused = holdfast(*asked, expect=2).stderr
    assert "its weights lack embeddings.word_embeddings.weight" in refused
    assert "FASTA" not in refused
    assert {path.name for path in tmp_path.iterdir()} == {"model", "in.fasta"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a host without a GPU")
def test_a_worker_without_its_device_ends_and_says_why(fasta: Path, tmp_path: Path) -> None:
    model = save_esm2(tmp_path / "esm2")
    command = ["embed", fasta, "-o", tmp_path / "out.npy", "-m", model, "--device", "0"]
    ended = holdfast(*command, expect=1, CUDA_VISIBLE_DEVICES="0")
    assert "torch sees 0 CUDA devices" in ended.stderr


def test_a_host_with_another_model_under_the_same_name_computes_nothing(fasta: Path, tmp_path: Path) -> None:
    from gpu_tasks.errors import ModelLoadError
    from gpu_tasks.shard.job_model import load_job_model

    made = submitted(tmp_path / "out.npy", [fasta], model=str(save_esm2(tmp_path / "esm2")))
    load_job_model(made.job, made.job_dir, device="cpu", dtype="float32")
    change_weights(tmp_path / "esm2", lambda tensors: next(iter(tensors.values())).add_(1))
    with pytest.raises(ModelLoadError, match="not the model of the job"):
        load_job_model(made.job, made.job_dir, device="cpu", dtype="float32")


def test_clean_frees_what_a_finished_job_no_longer_needs(fasta: Path, tmp_path: Path) -> None:
    command = ["embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:4", *CPU, "--keep-checkpoints"]
    holdfast(*command)
    job_dir = tmp_path / "out.npy.holdfast"
    assert any((job_dir / "checkpoints").iterdir())
    assert "freed" in holdfast("clean", job_dir).stdout
    assert not (job_dir / "checkpoints").exists()
    assert "sound" in holdfast("verify", job_dir).stdout
    assert "done already" in holdfast(*command).stderr


def test_status_needs_no_server(fasta: Path, tmp_path: Path) -> None:
    holdfast("embed", fasta, "-o", tmp_path / "out.npy", "-m", "mock:4", *CPU)
    seen = status(tmp_path / "out.npy.holdfast")
    assert seen["state"] == "done"
    assert seen["sequences"] == {"total": NUM_RECORDS, "done": NUM_RECORDS, "quarantined": 0}
    assert seen["workers"] == []
