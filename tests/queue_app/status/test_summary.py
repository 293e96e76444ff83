"""The last words of a run: what can be done next, by lines to copy."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import h5py
import lance
import numpy
import pandas
import pyarrow
import pytest
import safetensors.numpy

from queue_app import Job
from queue_app.cli.main import app
from queue_app.outputs.export import ExportReport, export
from queue_app.status.reading import reading
from queue_app.status.summary import next_steps, print_summary


def report_of(finished: Path, output: Path, **options: Any) -> ExportReport:
    job = Job.open(finished / "out.h5")
    return export(job.job, job.job_dir, output, **options)


def read_by(report: ExportReport) -> str | None:
    return reading(report.card.job, report.output, report.h5_layout)


@pytest.mark.parametrize(
    "name", ["a.h5", "a.h5ad", "a.npy", "a.npz", "a.safetensors", "a.parquet", "a.arrow", "a.lance", "it's"]
)
def test_the_line_of_python_has_the_vectors_of_its_format(finished: Path, tmp_path: Path, name: str) -> None:
    line = read_by(report_of(finished, tmp_path / name))
    assert line is not None
    known = {
        each.__name__.partition(".")[0]: each for each in (anndata, h5py, lance, numpy, pandas, safetensors)
    }
    found = eval(line, known)
    found = found.to_pylist() if isinstance(found, pyarrow.ChunkedArray) else found
    expected = Job.open(finished / "out.h5").result().embeddings
    assert numpy.array_equal(numpy.stack(list(found)), expected)


def test_what_one_line_cannot_read_has_none(finished: Path, tmp_path: Path) -> None:
    report = report_of(finished, tmp_path / "a.h5", h5_layout="per-id")
    assert read_by(report) is None
    assert not any("Python" in step for step in next_steps(report))


def test_with_several_pools_the_first_ones_vectors_are_read(finished: Path, tmp_path: Path) -> None:
    report = report_of(finished, tmp_path / "a.h5")
    two = replace(report.card.job, options=replace(report.card.job.options, pool="mean,cls"))
    line = read_by(replace(report, card=replace(report.card, job=two)))
    assert line == f"h5py.File({str(tmp_path / 'a.h5')!r})['embeddings_mean'][:]"


def test_each_step_is_a_command_that_exists(finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "a b.h5"
    steps = [shlex.split(step, comments=True) for step in next_steps(report_of(finished, output))]
    commands = [words for words in steps if words[0] == "holdfast"]
    assert [words[1] for words in commands] == ["quarantine", "dashboard", "verify"]
    assert all(words[2:] == [str(output)] for words in commands)
    assert {command.callback.__name__ for command in app.registered_commands if command.callback} >= {
        words[1] for words in commands
    }


def test_a_quiet_summary_says_nothing_of_it(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary(report_of(finished, tmp_path / "a.npy"), quiet=True)
    assert "next:" not in capsys.readouterr().out
