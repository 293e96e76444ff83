"""A device that computes nonsense is found out before anything is stored."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpu_tasks.errors import NumericsDeviate
from gpu_tasks.inference.canary import COSINE_DISTANCE_MOST, Canary, embed_sequences
from gpu_tasks.inference.model import Dtype, EmbeddingModel, Fetched, HostPending, StoreDtype
from gpu_tasks.model_directory.load_model import load_model
from gpu_tasks.shard.job_model import load_float32
from gpu_tasks.shard.numerics import canary_check
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.request import EmbedRequest
from tests.support.inline_job import prepare_here
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import MINILM, save_esm2


@dataclass(frozen=True)
class Broken:
    """A sound model on a device that flips some numbers of one vector in each batch."""

    sound: Any
    harm: float

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sound, name)

    def stage(self, batch: Any) -> "Broken":
        return replace(self, sound=_Staged(self.sound, batch))

    def launch(self, store_dtype: StoreDtype) -> HostPending:
        fetched = self.sound.model.stage(self.sound.batch).launch(store_dtype).wait()
        embeddings = fetched.embeddings.copy()
        embeddings[0, ::4] = self.harm
        return HostPending(Fetched(embeddings, fetched.finite))


@dataclass(frozen=True)
class _Staged:
    model: Any
    batch: Any


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("family", ["esm2", "bert"])
def test_a_sound_device_passes_in_every_dtype(esm2: Path, family: str, dtype: Dtype) -> None:
    ref = str(esm2 if family == "esm2" else MINILM)
    canary = Canary("GPU-0", dtype, embed_sequences(load_model(ref, dtype=dtype)))
    assert canary.check_against(embed_sequences(load_model(ref))) < COSINE_DISTANCE_MOST[dtype] / 2


@pytest.mark.parametrize("harm", [5.0, np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_device_that_computes_nonsense_is_refused(esm2: Path, dtype: Dtype, harm: float) -> None:
    broken: EmbeddingModel = Broken(load_model(str(esm2), dtype=dtype), harm)  # type: ignore[assignment]
    with pytest.raises(NumericsDeviate, match=r"GPU-0: .*is the device broken"):
        Canary("GPU-0", dtype, embed_sequences(broken)).check_against(embed_sequences(load_model(str(esm2))))


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which references `watch` has loaded; nothing is remembered of tests before."""
    monkeypatch.setattr(canary_check, "_canaries", {})
    monkeypatch.setattr(canary_check, "_references", {})
    return []


def watch(made: Prepared, model: EmbeddingModel, loads: list[str], **changed: str) -> None:
    job = replace(made.job, **changed)

    def load_and_note() -> EmbeddingModel:
        loads.append(job.model.name)
        return load_float32(job, made.job_dir)

    canary_check.watch_canary(job, model, load_and_note)


def make_job(esm2: Path, directory: Path, dtype: Dtype) -> Prepared:
    fasta = write_fasta(directory / "a.fasta", 3)
    request = EmbedRequest(inputs=[fasta], model=str(esm2), output=directory / "a.npy", dtype=dtype)
    return prepare_here(request)


@pytest.mark.parametrize(("dtype", "watched"), [("float32", False), ("bfloat16", True)])
def test_a_worker_watches_the_canary_where_it_can_tell_something(
    esm2: Path, tmp_path: Path, dtype: Dtype, watched: bool, loads: list[str]
) -> None:
    made = make_job(esm2, tmp_path, dtype)
    watch(made, load_model(str(esm2), dtype=dtype), loads)
    assert len(loads) == int(watched)


def test_each_job_asks_the_device_anew_and_the_processor_once(
    esm2: Path, tmp_path: Path, loads: list[str]
) -> None:
    made, model = make_job(esm2, tmp_path, "bfloat16"), load_model(str(esm2), dtype="bfloat16")
    for _ in range(3):
        watch(made, model, loads)
    broken: Any = Broken(model, 5.0)  # breaks between two jobs
    watch(made, broken, loads)  # no shard of this one costs more than the first
    with pytest.raises(NumericsDeviate, match="not those of the processor"):
        watch(made, broken, loads, job_id="another")
    assert len(loads) == 1
