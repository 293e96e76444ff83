"""How a worker loads the model of a job."""

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpu_tasks.errors import ModelLoadError
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.models.files import model_files
from gpu_tasks.models.loading import load
from gpu_tasks.shard import job_model
from queue_app.errors import ModelError
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.model.files import check_files
from queue_app.model.spec import ModelFile
from tests.support.jobs_and_inputs import make_job
from tests.support.model_directories import change_weights, embed, save_esm2


@pytest.mark.parametrize(("num_cores", "is_told"), [(1, True), (2, False), (8, False)])
def test_a_host_with_fewer_cores_than_the_job_has_threads_keeps_the_threads_and_says_so(
    num_cores: int, is_told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(job_model, "num_cores", lambda: num_cores)
    monkeypatch.setattr(job_model, "_loaded", {})
    monkeypatch.setattr(job_model, "load", lambda *_, **options: options)
    job = replace(make_job(num_shards=1, records_per_shard=1), threads=2)
    with caplog.at_level(logging.WARNING):
        loaded: Any = job_model._load_once(job, JobDir(tmp_path), "cpu")
    assert loaded["threads"] == 2
    assert (f"its 2 threads, though this host grants fewer cores: {num_cores}" in caplog.text) is is_told


def job_of(directory: Path) -> Job:
    return replace(make_job(num_shards=1, records_per_shard=1), model=read_model(directory).spec)


def test_a_worker_loads_the_weights_of_the_digest_in_job_json_and_no_others_from_the_same_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of two jobs of one worker, between which a model is replaced, each has its own weights or none."""
    monkeypatch.setattr(job_model, "_loaded", {})
    directory = save_esm2(tmp_path / "model")
    first, job_dir = job_of(directory), JobDir(tmp_path)
    before = embed(job_model._load_once(first, job_dir, "cpu"), ["MKV"])
    change_weights(directory, lambda tensors: tensors.update({name: 2 * t for name, t in tensors.items()}))
    assert embed(job_model._load_once(first, job_dir, "cpu"), ["MKV"]).tobytes() == before.tobytes()
    after = embed(job_model._load_once(job_of(directory), job_dir, "cpu"), ["MKV"])
    assert after.tobytes() != before.tobytes()
    with pytest.raises(ModelLoadError, match=r"model\.safetensors: not the model of the job"):
        job_model._load_once(first, job_dir, "cpu")


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "model.safetensors\0", "elsewhere/../../secret"]
)
def test_a_worker_opens_no_file_outside_of_the_model_that_job_json_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_text("hunter2")
    spec = read_model(save_esm2(tmp_path / "model")).spec
    named = replace(spec, files=(*spec.files, ModelFile(name, 7, "0" * 32)))
    with pytest.raises(ModelLoadError, match="not a file of the model's directory"):
        model_files(named).read(name)
    with pytest.raises(ModelError, match="not a file of the model's directory"):
        check_files(named.files, tmp_path / "model")


def test_a_pipe_in_the_place_of_weights_is_refused_by_a_worker_and_not_waited_for(tmp_path: Path) -> None:
    spec = read_model(directory := save_esm2(tmp_path / "model")).spec
    (directory / "model.safetensors").unlink()
    os.mkfifo(directory / "model.safetensors")
    with pytest.raises(
        ModelLoadError, match=r"model\.safetensors: not the model of the job: not an ordinary"
    ):
        load(spec, None)
    with pytest.raises(ModelError, match=r"model\.safetensors: "):
        check_files(spec.files, directory)
