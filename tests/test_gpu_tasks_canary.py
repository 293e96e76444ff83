"""A device that computes nonsense is found out before anything is stored."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import MINILM, save_esm2
from factories import write_fasta

from gpu_tasks.canary import COSINE_DISTANCE_MOST, check_numerics
from gpu_tasks.device import Fetched, HostPending, StoreDtype
from gpu_tasks.errors import NumericsDeviate
from gpu_tasks.models import Dtype, EmbeddingModel, load_model


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
    distance = check_numerics(load_model(ref, dtype=dtype), load_model(ref), dtype)
    assert distance < COSINE_DISTANCE_MOST[dtype] / 2


@pytest.mark.parametrize("harm", [5.0, np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_device_that_computes_nonsense_is_refused(esm2: Path, dtype: Dtype, harm: float) -> None:
    broken: EmbeddingModel = Broken(load_model(str(esm2), dtype=dtype), harm)  # type: ignore[assignment]
    with pytest.raises(NumericsDeviate, match="is the device broken"):
        check_numerics(broken, load_model(str(esm2)), dtype)


@pytest.mark.parametrize(("dtype", "watched"), [("float32", False), ("bfloat16", True)])
def test_a_worker_watches_the_canary_where_it_can_tell_something(
    esm2: Path, tmp_path: Path, dtype: Dtype, watched: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from gpu_tasks.task import watch_canary
    from queue_app.producer import prepare
    from queue_app.request import EmbedRequest

    caplog.set_level(logging.INFO)
    fasta = write_fasta(tmp_path / "a.fasta", 3)
    request = EmbedRequest(inputs=[fasta], model=str(esm2), output=tmp_path / "a.npy", dtype=dtype)
    job = prepare(request, client=None, device_class="cpu", threads=1).job
    watch_canary(job, load_model(str(esm2), dtype=dtype))
    assert ("numerics agree" in caplog.text) == watched
