"""Jobs from Python: in a notebook's kernel, in threads, interrupted, by workers of one's own."""

import asyncio
import inspect
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest

import queue_app
from queue_app import Job, Result
from queue_app.api.background_run import BackgroundRun
from queue_app.api.inputs import input_files
from queue_app.api.options import Options, RunArguments
from queue_app.coordination.dealing import leave, tick
from queue_app.coordination.states import JobState
from queue_app.coordination.workers import WorkerEntry, every_live_queue
from queue_app.errors import HoldfastError, JobChanged, JobFailed, JobNotFound, UsageError
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.request import DECLARED, EmbedRequest
from queue_app.job.directory import JobDir
from queue_app.outputs.arrays import open_result
from queue_app.outputs.clean import clean
from queue_app.outputs.content import content_lock
from queue_app.outputs.export import export
from queue_app.status.screens import open_view
from tests.support.command_runs import environment, running, wait_for_progress
from tests.support.jobs_and_inputs import TEXTS, make_job, publish, write_fasta

HERE: Any = {"device": "cpu", "workers": 1}
SLOW: Any = {
    **HERE,
    "model": "mock:8,delay_ms=50",
    "toks_per_batch": 300,
    "num_shards": 4,
    "commit_seconds": 0.2,
}


# ---- a job that is done


def embed_texts(finished: Path, sequences: Any = TEXTS) -> Job:
    return queue_app.embed(sequences=sequences, model="mock:8", output=finished / "texts.npy", **HERE)


def test_two_jobs_run_at_once_in_an_event_loop_outside_the_main_thread(finished: Path) -> None:
    proteins, texts = (Job.open(finished / name).result() for name in ("out.h5", "texts.npy"))
    with h5py.File(finished / "out.h5") as file:
        assert proteins.ids == list(file["ids"].asstr()[:]) == [f"p{number}" for number in range(60)]
        assert np.array_equal(proteins.embeddings, file["embeddings"][:])
    assert (len(proteins), [entry.id for entry in proteins.quarantine]) == (60, ["bad"])
    assert repr(proteins) == "Result(60 rows of 8 float32, 1 quarantined)"
    assert (texts.ids, texts.ordinals.tolist()) == (["0", "1"], [0, 1])


@pytest.mark.parametrize("output", ["out.h5", "texts.npy"])
def test_the_vectors_are_mapped_from_the_disk_and_read_only(finished: Path, output: str) -> None:
    embeddings = Job.open(finished / output).result().embeddings
    assert isinstance(embeddings, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        embeddings[0, 0] = 0


def test_a_npy_output_is_mapped_as_it_lies(finished: Path) -> None:
    job = Job.open(finished / "texts.npy")
    assert job.result().embeddings.filename == job.output  # type: ignore[union-attr]
    assert not job.job_dir.array.exists()


def test_the_same_sequences_again_are_the_same_job_also_inside_an_event_loop(finished: Path) -> None:
    async def cell() -> Job:
        return embed_texts(finished)

    again = asyncio.run(cell())
    assert (again.id, again.status().state) == (Job.open(finished / "texts.npy").id, JobState.DONE)


def test_other_sequences_on_the_same_output_are_refused(finished: Path) -> None:
    with pytest.raises(JobChanged, match="content differs"):
        embed_texts(finished, TEXTS[:1])


def test_a_job_is_opened_by_its_directory_too(finished: Path) -> None:
    job = Job.open(finished / "out.h5")
    assert Job.open(job.job_dir.path).id == job.id
    assert repr(job) == f"Job('{finished}/out.h5.holdfast')"


def test_a_job_that_nobody_knows_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(JobNotFound, match="no job here"):
        Job.open(tmp_path / "out.h5")


def test_a_job_goes_to_another_process_without_the_run_that_began_it(finished: Path) -> None:
    job = Job.open(finished / "out.h5")
    begun = Job(job.job_dir, run=BackgroundRun(lambda view: None, partial(open_view, quiet=True)))
    again = pickle.loads(pickle.dumps(begun))
    assert (again.id, again.wait(0).state) == (job.id, JobState.DONE)


@pytest.mark.parametrize("job", ["", ".", "/", "nothing"])
def test_what_is_no_job_is_not_opened(job: str) -> None:
    with pytest.raises(JobNotFound):
        Job.open(job)


def test_the_twins_for_asyncio_answer_the_same(finished: Path) -> None:
    job = Job.open(finished / "out.h5")

    async def main() -> tuple[Any, Any, Result]:
        return await job.status_async(), await job.wait_async(), await job.result_async()

    status, ended, result = asyncio.run(main())
    assert status == ended == job.status()
    assert len(result) == 60


# ---- interrupted and gone on with


def test_ctrl_c_while_waiting_ends_the_run_and_leaves_a_job_that_goes_on(tmp_path: Path) -> None:
    fasta, output = write_fasta(tmp_path / "a.fasta", 200), tmp_path / "out.npy"
    call = f"start({str(fasta)!r}, output={str(output)!r}, **{SLOW!r})"
    program = [sys.executable, "-c", f"from queue_app import start; {call}.wait()"]
    with subprocess.Popen(program, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        job_dir = Path(f"{output}.holdfast")
        wait_for_progress(job_dir, 0.2, process)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    stopped = Job.open(output).status()
    assert (stopped.state, 0 < stopped.done < 200) == (JobState.STOPPED, True)
    result = asyncio.run(queue_app.embed_async(fasta, output=output, **SLOW)).result()
    assert result.ordinals.tolist() == list(range(200))
    assert result.embeddings.filename == output.resolve()  # type: ignore[union-attr]


def test_a_cancelled_coroutine_stops_its_run(tmp_path: Path) -> None:
    fasta, output = write_fasta(tmp_path / "a.fasta", 200), tmp_path / "out.npy"

    async def main() -> None:
        call = asyncio.create_task(queue_app.embed_async(fasta, output=output, **SLOW))
        while not (tmp_path / "out.npy.holdfast" / "job.json").exists():
            await asyncio.sleep(0.05)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name == "holdfast"]
    assert Job.open(output).status().state is JobState.STOPPED
    assert not output.exists()


def test_what_is_wrong_with_the_input_comes_out_of_start_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,sequence\na,MKV\nb\n")
    with pytest.raises(UsageError, match=r"a\.csv: line 3: 1 fields"):
        queue_app.start(tmp_path / "a.csv", model="mock:8", output=tmp_path / "out.npy", **HERE)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


# ---- workers of one's own


def test_a_submitted_job_is_held_let_go_and_done_by_the_workers_of_the_server(
    server_url: str, client: Any, tmp_path: Path
) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 60)
    arguments: Any = {"model": "mock:8", "output": tmp_path / "out.npy", "broker_url": server_url}
    job = queue_app.submit(fasta, queues=["cpu0"], **arguments)
    assert (job.created, job.pause()) == (True, JobState.PAUSED)
    with pytest.raises(TimeoutError, match=r"has not ended within 0\.1 s"):
        job.wait(0.1)
    with pytest.raises(TimeoutError):
        asyncio.run(job.wait_async(0.1))
    with pytest.raises(HoldfastError, match="shards are not done; wait for the job"):
        open_result(job.job, job.job_dir)
    assert (job.unpause(), job.cancel()) == (JobState.RUNNING, JobState.CANCELLED)
    with pytest.raises(JobFailed, match="is cancelled; the same call goes on"):
        job.wait()
    with running("worker", "cpu0", HOLDFAST_BROKER_URL=server_url):
        again = queue_app.submit(fasta, queues=["cpu0"], **arguments)
        assert (again.id, again.created) == (job.id, False)
        assert again.wait(60).done == 60
        assert Job.open(job.id, broker_url=server_url).result().ordinals.tolist() == list(range(60))


def test_submit_takes_a_whole_request_and_answers_what_the_producer_prepared(
    server_url: str, tmp_path: Path
) -> None:
    fasta = write_fasta(tmp_path / "a.fasta", 3)
    request = EmbedRequest(inputs=[fasta], model="mock:8", output=tmp_path / "out.npy")
    job = queue_app.submit(request, broker_url=server_url, queues=["cpu0"], threads=1)
    assert all(hasattr(job, field.name) for field in fields(Prepared))
    assert job.job.counts.num_records == 3


def test_submit_without_a_live_worker_asks_for_queues(server_url: str, client: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no worker is running"):
        queue_app.submit(sequences=["MKV"], model="mock:8", output=tmp_path / "a.npy", broker_url=server_url)


def test_where_both_kinds_of_workers_live_a_job_is_one_for_gpus(client: Any) -> None:
    for queue in ("cpu0", "gpu0", "gpu1", "cpu1"):
        tick(client, WorkerEntry(f"{queue}@here", queue, "", "here", 1, 2, ""))
    assert every_live_queue(client) == ["gpu0", "gpu1"]
    leave(client, "gpu0@here")
    leave(client, "gpu1@here")
    assert every_live_queue(client) == ["cpu0", "cpu1"]


@pytest.fixture
def published(tmp_path: Path) -> JobDir:
    """A finished job of 2 shards with 3 records each, whose output was never written."""
    job_dir = JobDir(tmp_path / "job")
    job = replace(make_job(num_shards=2, records_per_shard=3), output=str(tmp_path / "a.parquet"))
    publish(job, job_dir, quarantined={1, 5})
    return job_dir


def test_a_job_has_not_ended_before_its_output_is_written(published: JobDir) -> None:
    job = Job(published)
    with pytest.raises(TimeoutError, match="has not ended within 0 s"):
        job.wait(0)
    export(job.job, published, job.output)
    assert job.wait(0).state is JobState.DONE


def test_who_waits_writes_the_output_that_nobody_is_left_to_write(
    published: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_app.api.job_handle.OUTPUT_PATIENCE_SECONDS", 0.0)
    job = Job(published)
    assert job.wait().state is JobState.DONE
    assert job.output.exists()


# ---- the mapped array


def test_rows_name_their_place_in_the_input_where_records_are_missing(published: JobDir) -> None:
    result = open_result(published.load(), published)
    assert result.ids == ["p0", "p2", "p3", "p4"]
    assert result.ordinals.tolist() == result.embeddings[:, 0].tolist() == [0, 2, 3, 4]
    assert [(entry.ordinal, entry.reason) for entry in result.quarantine] == [
        (1, "empty\tsequence"),
        (5, "empty\tsequence"),
    ]


def test_the_array_is_written_once_and_anew_when_the_results_changed(published: JobDir) -> None:
    first = open_result(published.load(), published)
    (written,) = published.array.iterdir()
    open_result(published.load(), published)
    assert list(published.array.iterdir()) == [written]
    for path in (published.results, published.path / "done"):
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    publish(published.load(), published, quarantined={1})
    assert open_result(published.load(), published).ids == ["p0", "p2", "p3", "p4", "p5"]
    assert not written.exists()
    assert first.embeddings[3, 0] == 4  # who maps the old one keeps it


def test_a_job_whose_every_record_is_set_aside_has_an_empty_array(tmp_path: Path) -> None:
    job_dir = JobDir(tmp_path / "job")
    publish(make_job(num_shards=1, records_per_shard=2), job_dir, quarantined={0, 1})
    assert open_result(job_dir.load(), job_dir).embeddings.shape == (0, 8)


def test_clean_removes_the_array_and_it_is_written_again(finished: Path, tmp_path: Path) -> None:
    own = shutil.copytree(finished, tmp_path / "own")  # the others want theirs as it is
    job = Job.open(own / "out.h5")
    job.result()
    assert job.job_dir.array.is_dir()
    clean(job.job_dir)
    assert not job.job_dir.array.exists()
    assert len(job.result()) == 60


def test_clean_waits_for_who_is_still_reading_the_results(published: JobDir) -> None:
    export(published.load(), published, Path(published.load().output))
    cleaning = threading.Thread(target=clean, args=[published])
    with content_lock(published):
        cleaning.start()
        cleaning.join(0.5)
        assert cleaning.is_alive()
    cleaning.join()


# ---- what may be asked for


def test_every_option_of_a_request_may_be_given_by_name() -> None:
    kinds = {name: get_args(field.type)[0] for name, field in DECLARED.items()}
    as_taken: Any = {Path | None: str | os.PathLike[str] | None, tuple[int, ...]: Sequence[int]}
    taken = {name: as_taken.get(kind, kind) for name, kind in kinds.items()}
    assert Options.__annotations__ | {name: taken[name] for name in ("inputs", "model", "output")} == taken


@pytest.mark.parametrize("call", [queue_app.start, queue_app.embed_async])
def test_every_call_takes_what_embed_takes_and_says_so(call: Any) -> None:
    parameters = inspect.signature(queue_app.embed).parameters
    assert inspect.signature(call).parameters == parameters
    assert RunArguments.__annotations__.keys() == parameters.keys() - {"inputs"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "double"}, "dtype='double': Input should be 'float32'"),
        ({"max_length": 0}, "max_length=0: Input should be greater than or equal to 1"),
        ({"colour": "red"}, "no option 'colour'; there are: job_dir, pool, "),
        ({"device": "tpu"}, "write auto, cpu, or device numbers"),
        ({"device": 99}, "--device 99: no GPU 99 among the"),
        ({"workers": 0, "device": "cpu"}, "--workers 0: one at least"),
        ({"sequences": None}, "name either inputs, which are files, or sequences"),
        ({"sequences": "MKV"}, "a single string"),
        ({"sequences": ["MKV", 5]}, "that of 1 is not a string"),
        ({"sequences": []}, "an empty file|no records"),
        ({"sequences": ["MKV"], "inputs": "a.fasta"}, "name either inputs"),
        ({"sequences": None, "inputs": "a.fasta", "output": None}, "output: name one, as in output='out.h5'"),
        ({"sequences": None, "output": None}, "name either inputs, which are files, or sequences"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        queue_app.embed(**{"sequences": ["MKV"], "model": "mock:8", "output": tmp_path / "o.npy", **options})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("inputs", ["a.fasta", Path("a.fasta"), ["a.fasta"], (Path("a.fasta"),)])
def test_one_input_or_several_are_named_in_any_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inputs: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    write_fasta(tmp_path / "a.fasta", 1)
    with input_files(inputs, None) as files:
        assert files == [Path("a.fasta")]


def test_sequences_in_memory_keep_their_ids_and_order_and_leave_no_file() -> None:
    given = {"b/1": "MKV", "ä 2": "two\nlines", "a": "\u2028"}
    with input_files(None, given) as [path]:
        records = [json.loads(line) for line in path.read_text().split("\n")[:-1]]
    assert [(record["id"], record["sequence"]) for record in records] == [*given.items()]
    assert not path.exists()
