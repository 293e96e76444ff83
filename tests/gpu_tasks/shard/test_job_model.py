"""How a worker loads the model of a job."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpu_tasks.shard import job_model
from queue_app.job.directory import JobDir
from tests.support.jobs_and_inputs import make_job


@pytest.mark.parametrize(("num_cores", "is_told"), [(1, True), (2, False), (8, False)])
def test_a_host_with_fewer_cores_than_the_job_has_threads_keeps_the_threads_and_says_so(
    num_cores: int, is_told: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setattr(job_model, "num_cores", lambda: num_cores)
    monkeypatch.setattr(job_model, "_loaded", {})
    threads_before = torch.get_num_threads()
    try:
        with caplog.at_level(logging.WARNING):
            job = replace(make_job(num_shards=1, records_per_shard=1), threads=2)
            job_model._load_once(job, JobDir(tmp_path), "cpu")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads_before)
    assert ("its 2 threads, which share the 1 cores of this host" in caplog.text) is is_told
