"""With `--exact` a vector depends on its sequence, model, dtype and kind of device only, or it is said."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from gpu_tasks.errors import NumericsDeviate
from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.company import dependent_lengths
from gpu_tasks.inference.exact_shapes import FILLER_ROW, ExactShapes, filled
from gpu_tasks.inference.model import Dtype
from gpu_tasks.models.layers import Encoder, Packed
from gpu_tasks.shard.numerics import canary_check
from queue_app.ingest.prepare import Prepared
from queue_app.ingest.request import EmbedRequest
from queue_app.job.history import Attempt, History
from queue_app.outputs.run_card.faults_and_speed import independence_of
from tests.campaigns.companies.campaign import campaign, load_exact_model
from tests.campaigns.companies.models import FAMILIES
from tests.support.inline_job import prepare_here
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import contact_maps, save_esm2, with_contact_head
from tests.support.small_models import save_small_bert


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_vector_has_the_same_bits_in_any_company(tmp_path: Path, family: str, dtype: Dtype) -> None:
    kind = FAMILIES[family]
    assert campaign(kind.save(tmp_path / family), kind, dtype, 2, 12, seed=7).differing == ()


def test_contacts_are_the_same_in_any_company(tmp_path: Path) -> None:
    path = with_contact_head(save_esm2(tmp_path, masked_lm=True))
    model = load_exact_model(path, "float32", 2, "contacts", (-1,))
    sequences = ["MK", "MKTAYIAKQRQISFVKSHFSRQ", "GSHMASM", "M" * 90]
    alone = [contact_maps(model, [each])[0] for each in sequences]
    for found, expected in zip(contact_maps(model, sequences), alone, strict=True):
        assert found.tobytes() == expected.tobytes()


@dataclass(frozen=True)
class Sociable:
    """An encoder that adds what the whole batch is on average."""

    sound: Encoder

    def __call__(self, packed: Packed, layers: tuple[int, ...]) -> list[Tensor]:
        return [hidden + 1e-3 * hidden.mean(dim=0) for hidden in self.sound(packed, layers)]


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("esm2"))


def test_a_model_that_does_not_look_beside_a_row_passes(esm2: Path) -> None:
    model = load_exact_model(esm2, "float32", 2, "mean", (-1,))
    assert dependent_lengths(model, budget=1024, max_length=1022) == []


@pytest.mark.parametrize("pool", ["mean", "none"])
def test_an_encoder_whose_sums_depend_on_the_batch_is_found_out(esm2: Path, pool: str) -> None:
    sound: Any = load_exact_model(esm2, "float32", 2, pool, (-1,))
    model = replace(sound, encoder=Sociable(sound.encoder))
    assert dependent_lengths(model, budget=1024, max_length=1022) == [3, 61, 341]


def make_job(esm2: Path, directory: Path, exact: bool | None) -> Prepared:
    fasta = write_fasta(directory / "a.fasta", 3)
    return prepare_here(
        EmbedRequest(inputs=[fasta], model=str(esm2), output=directory / "a.npy", exact=exact)
    )


def test_a_worker_where_it_does_not_hold_is_refused_where_it_was_asked_for(
    esm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary_check, "_holding", {})
    job = make_job(esm2, tmp_path, exact=True).job
    sound: Any = load_exact_model(esm2, "float32", 1, "mean", (-1,))
    with pytest.raises(NumericsDeviate, match="--exact does not hold on this worker: in float32 on cpu"):
        canary_check.watch_company(job, replace(sound, encoder=Sociable(sound.encoder)))
    assert canary_check.holds_exact(job) is None


def test_a_run_that_was_not_asked_goes_on_and_says_so(
    esm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(canary_check, "_holding", {})
    job = make_job(esm2, tmp_path, exact=None).job
    sound: Any = load_exact_model(esm2, "float32", 1, "mean", (-1,))
    canary_check.watch_company(job, replace(sound, encoder=Sociable(sound.encoder)))
    assert "the run card says so" in caplog.text
    attempt = Attempt("job", 0, 1, "w@h", "GPU", "2", 0.0, 1.0, num_tokens=9, exact=False)
    assert canary_check.holds_exact(job) is False
    assert "on GPU --exact did not hold" in independence_of(job, History((attempt,), ()))
    held = replace(attempt, exact=True)
    assert independence_of(job, History((held,), ())).endswith("; checked at each worker's start")
    assert "checked" not in independence_of(job, History((held, replace(held, exact=None)), ()))


def batch_of(*lengths: int, halvings: int = 0) -> TokenBatch:
    sizes, total = np.array(lengths, np.int64), sum(lengths)
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    none = np.zeros(len(sizes), np.int64)
    ids = np.arange(total, dtype=np.int64)
    return TokenBatch(0, none.astype(np.uint64), ids, bounds, max(lengths), none, sizes, False, halvings)


def test_batches_on_cuda_have_the_budget_s_shape_or_its_half_or_its_quarter() -> None:
    shapes = ExactShapes(1024, longest=None, threads=0)
    sizes = [shapes.num_tokens(batch_of(size)) for size in (3, 256, 257, 513, 1024, 1500)]
    assert sizes == [256, 256, 512, 1024, 1024, 1500]


def test_what_ran_out_of_memory_is_not_filled_to_what_did_not_fit() -> None:
    shapes = ExactShapes(1024, longest=None, threads=0)
    assert shapes.num_tokens(batch_of(60, 40, halvings=4)) == 128
    assert shapes.num_tokens(batch_of(30, halvings=4)) == 64
    assert shapes.num_tokens(batch_of(300, halvings=2)) == 300
    assert shapes.num_tokens(batch_of(400, 200, halvings=1)) == 1024


def test_rows_that_fill_are_read_out_nowhere() -> None:
    batch = filled(batch_of(5, 3), 2 * FILLER_ROW + 9, None)
    assert batch.cu_seqlens.tolist() == [0, 5, 8, 8 + FILLER_ROW, 8 + 2 * FILLER_ROW, 9 + 2 * FILLER_ROW]
    assert batch.owned_ends.tolist() == [5, 3, 0, 0, 0]
    assert batch.max_seqlen == FILLER_ROW
    assert len(batch.input_ids) == batch.cu_seqlens[-1]


def test_the_choice_is_part_of_the_job_and_auto_takes_the_one_that_is_there(
    esm2: Path, tmp_path: Path
) -> None:
    assert make_job(esm2, tmp_path, exact=None).job.options.exact
    (tmp_path / "b").mkdir()
    first = make_job(esm2, tmp_path / "b", exact=False)
    again = make_job(esm2, tmp_path / "b", exact=None)
    assert (again.created, again.job.options.exact, again.job.job_id) == (False, False, first.job.job_id)


def test_a_job_of_before_is_resumed_without(esm2: Path, tmp_path: Path) -> None:
    made = make_job(esm2, tmp_path, exact=False)
    path = made.job_dir.job_json
    written = json.loads(path.read_bytes())
    assert written["options"].pop("exact") is False
    assert written["run"].pop("must_be_exact") is False
    path.write_text(json.dumps(written))
    again = make_job(esm2, tmp_path, exact=None)
    assert not again.created
    assert not again.job.options.exact


def test_rows_that_fill_a_batch_are_no_longer_than_the_positions_that_a_model_has(tmp_path: Path) -> None:
    """Else a model with few positions could not begin at all."""
    model = load_exact_model(save_small_bert(tmp_path / "bert"), "float32", 2, "mean", (-1,))
    assert model.max_length + 2 == 40 < FILLER_ROW
    assert dependent_lengths(model, budget=256, max_length=38) == []
