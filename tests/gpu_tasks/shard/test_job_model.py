"""How a worker loads the model of a job."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
    monkeypatch.setattr(job_model, "load", lambda *_, **options: options)
    job = replace(make_job(num_shards=1, records_per_shard=1), threads=2)
    with caplog.at_level(logging.WARNING):
        loaded: Any = job_model._load_once(job, JobDir(tmp_path), "cpu")
    assert loaded["threads"] == 2
    assert (f"its 2 threads, though this host grants fewer cores: {num_cores}" in caplog.text) is is_told
