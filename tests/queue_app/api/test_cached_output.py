"""Sequences in memory without an output: their job lies in the user's cache, and the same call finds it."""

import logging
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import holdfast
from queue_app.api.cached_output import named_by_content, unnamed_output
from queue_app.api.inputs import input_files
from queue_app.api.options import request_of
from queue_app.choices import DeviceClass
from queue_app.model.reader import find_model
from queue_app.settings import RuntimeConfig, runtime_config

HERE: Any = {"model": "mock:8", "device": "cpu", "workers": 1, "num_shards": 1}
TEXTS = {"a": "MKV", "b": "GLSAD"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOLDFAST_CACHE", str(tmp_path / "cache"))
    runtime_config.cache_clear()
    return tmp_path / "cache" / "jobs"


def embed(**changed: Any) -> holdfast.Job:
    return holdfast.embed(**{**HERE, "sequences": TEXTS, **changed})


def test_the_same_call_finds_the_job_done(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "queue_app.api.local_job")
    first, second = embed(), embed(commit_seconds=1.0, priority=3)
    assert (first.id, first.output) == (second.id, second.output)
    assert caplog.messages == [f"no output was named: it is {first.output}"] * 2
    assert first.output.parent.parent == cache
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    named = embed(output=cache.parent / "named.npy").result()
    np.testing.assert_array_equal(first.result().embeddings, named.embeddings)
    assert first.result().ids == named.ids == ["a", "b"]


def test_other_sequences_have_a_job_of_their_own_and_leave_the_first(cache: Path) -> None:
    first, other = embed(), embed(sequences={**TEXTS, "b": "GLSAE"})
    assert first.output != other.output
    assert other.result().ids == first.result().ids
    assert len([*cache.iterdir()]) == 2


def place(
    *, sequences: Any = TEXTS, model: str = "mock:8", device: DeviceClass = "cpu", **asked: Any
) -> Path:
    """Where the job of a call lies."""
    with input_files(None, sequences) as files:
        request = replace(request_of(model, unnamed_output(asked), asked), inputs=files)
        return named_by_content(request, find_model(model), device).output


@pytest.mark.parametrize(
    "changed",
    [
        {"sequences": {"a": "MKV", "c": "GLSAD"}},
        {"sequences": {"b": "GLSAD", "a": "MKV"}},
        {"model": "mock:4"},
        {"pool": "mean,cls"},
        {"layers": (1,)},
        {"store_dtype": "float16"},
        {"long": "truncate"},
        {"device": "cuda"},
    ],
    ids=str,
)
def test_whatever_changes_a_row_changes_the_place(cache: Path, changed: dict[str, Any]) -> None:
    assert place(**changed) != place() == place(overwrite=True) == place(commit_seconds=1.0, priority=3)


@pytest.mark.parametrize("changed", [{"pool": "none"}, {"h5_layout": "per-id"}], ids=str)
def test_what_no_array_can_hold_is_kept_as_hdf5(cache: Path, changed: dict[str, Any]) -> None:
    job = embed(**changed)
    assert job.output.name == "embeddings.h5"
    assert len(job.result()) == 2


def test_overwrite_computes_it_anew_in_its_place(cache: Path) -> None:
    first = embed()
    first_id, again = first.id, embed(overwrite=True)
    assert again.output == first.output
    assert again.id != first_id


def test_started_in_the_background_it_says_where_it_is(cache: Path) -> None:
    job = holdfast.start(sequences=TEXTS, **HERE)
    assert cache in job.output.parents
    assert job.wait(60).done == 2
    assert job.output.exists()


def test_the_progress_says_where_it_is_and_is_not_shown_unless_asked_for(
    cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = embed()
    assert capsys.readouterr() == ("", "")
    embed(progress=True)
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith(f" no output was named: it is {job.output}")


def test_files_without_an_output_are_refused_before_anything_is_made(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "a.fasta").write_text(">a\nMKV\n")
    for call in (holdfast.embed, holdfast.start):
        with pytest.raises(holdfast.UsageError, match=r"^output: name one, as in output='out.h5'; only seq"):
            call(tmp_path / "a.fasta", **HERE)
    with pytest.raises(holdfast.UsageError, match=r"^name a model and an output"):
        holdfast.submit(sequences=TEXTS, model="mock:8")
    assert not cache.exists()


def test_a_user_without_a_home_is_told_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_CACHE", "")
    runtime_config.cache_clear()
    with pytest.raises(holdfast.UsageError, match="there is no home to keep a cache in"):
        embed()


def test_the_cache_is_where_the_user_has_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert RuntimeConfig().cache == tmp_path / "holdfast"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert RuntimeConfig().cache == Path.home() / ".cache" / "holdfast"
