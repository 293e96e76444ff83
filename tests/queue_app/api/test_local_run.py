"""What `holdfast embed` refuses before it starts anything."""

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoint.process_identity import identify
from queue_app.api import local_run
from queue_app.api.local_run import embed
from queue_app.api.local_workers import LocalSetup
from queue_app.errors import UsageError
from queue_app.ingest.request import EmbedRequest
from queue_app.ingest.settle import settle
from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.outputs.export import ExportReport, export
from queue_app.settings import RuntimeConfig
from queue_app.status.screens import open_view
from tests.checkpoint.test_network_filesystems import line, mounted
from tests.support.jobs_and_inputs import write_fasta


def run(directory: Path, config: RuntimeConfig) -> None:
    fasta = write_fasta(directory.parent / "a.fasta", 3)
    request = EmbedRequest(inputs=[fasta], model="mock:4", output=directory / "out.npy")
    with open_view(quiet=True) as view:
        embed(request, settle(request), LocalSetup(["cpu0"], None, config, view))


def test_a_network_file_system_is_refused_before_anything_starts_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    mounted(monkeypatch, tmp_path, line(shared, "nfs4", source="host:/export"))
    with pytest.raises(UsageError, match=r"lies on nfs4 \(host:/export.*set HOLDFAST_SCRATCH to a directory"):
        run(shared, RuntimeConfig())
    assert list(shared.iterdir()) == []


def test_scratch_on_a_local_disk_is_all_that_a_network_file_system_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, scratch = tmp_path / "shared", tmp_path / "scratch"
    shared.mkdir()
    mounted(monkeypatch, tmp_path, line(shared, "nfs4"))
    monkeypatch.setenv("HOLDFAST_SCRATCH", str(scratch))
    run(shared, RuntimeConfig())
    assert (shared / "out.npy").exists()


def test_no_worker_is_left_when_the_export_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def watched(job: Job, job_dir: JobDir, output: Path, **options: Any) -> ExportReport:
        started = json.loads((job_dir.path / "processes.json").read_text())
        alive.extend(name for name, process in started.items() if identify(process["pid"]) is not None)
        return export(job, job_dir, output, **options)

    alive: list[str] = []
    monkeypatch.setattr(local_run, "export", watched)
    home = tmp_path / "home"
    home.mkdir()
    run(home, RuntimeConfig())
    assert alive == ["server"]
    assert (home / "out.npy").exists()
