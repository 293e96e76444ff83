"""int8 is held against float32 on the job's own records, and does not begin where it loses too much."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import EsmModel, EsmTokenizer

from gpu_tasks import load_model
from gpu_tasks.errors import NotCertified, NumericsDeviate, UnsupportedModel
from gpu_tasks.models.linears.int8 import is_exact
from gpu_tasks.shard.job_model import load_float32, load_job_model
from gpu_tasks.shard.numerics import certify
from gpu_tasks.shard.numerics.certify import compare, draw_sample
from queue_app.errors import Damage, UsageError
from queue_app.ingest import settle
from queue_app.ingest.open_dataset import resolve_options
from queue_app.ingest.request import EmbedRequest
from queue_app.outputs.run_card.certificate import LEAST_COSINE, Certificate, read_certificate
from queue_app.settings import runtime_config
from tests.support.command_runs import holdfast
from tests.support.inline_job import InlineJob, submitted, write_numbered
from tests.support.model_directories import MINILM, change_weights, cosines, embed, save_esm2
from tests.zoo import texts

pytestmark = pytest.mark.skipif(not is_exact(), reason="this processor does not multiply int8 exactly")
NUM_RECORDS = 30


@pytest.fixture(scope="module")
def esm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_esm2(tmp_path_factory.mktemp("models") / "esm2")


@pytest.fixture(scope="module")
def with_outliers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One number of each layer's input is huge, and no weight looks at it: in float32 it changes nothing."""

    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name, tensor in tensors.items():
            if name.endswith("LayerNorm.weight"):
                tensor[0] = 1e5
            if name.endswith("LayerNorm.bias"):
                tensor[0] = 1e5
            if name.endswith(("query.weight", "key.weight", "value.weight", "intermediate.dense.weight")):
                tensor[:, 0] = 0
            if name.endswith(("output.dense.weight", "output.dense.bias")):
                tensor *= 20  # so that the layers count beside what they are added to

    return change_weights(save_esm2(tmp_path_factory.mktemp("models") / "esm2"), change)


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job is known to be certified."""
    monkeypatch.setattr(certify, "_certified", set())


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_numbered(
        tmp_path / "a.fasta", range(NUM_RECORDS), extra=f">long\n{'MKV' * 200}\n>bad\n123\n"
    )


def certified(made: InlineJob) -> Certificate:
    model = load_job_model(made.job, made.job_dir, device="cpu", dtype="int8")
    certify.certify(made.job, made.job_dir, model, lambda: load_float32(made.job, made.job_dir))
    found = read_certificate(made.job_dir)
    assert found is not None
    return found


def test_the_sample_holds_records_of_all_lengths_and_the_longest(
    esm2: Path, fasta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = submitted(tmp_path / "a.npy", [fasta], model=str(esm2), dtype="int8")
    drawn = draw_sample(made.job, made.job_dir)
    assert len(drawn) == NUM_RECORDS + 1  # all that can be embedded
    monkeypatch.setattr(certify, "RECORDS_MOST", 8)
    few = draw_sample(made.job, made.job_dir)
    lengths = sorted(map(len, drawn))
    assert (len(few), min(map(len, few)), max(map(len, few))) == (8, lengths[0], 600)
    assert few == draw_sample(made.job, made.job_dir)


def test_the_certificate_is_what_transformers_says_of_the_vectors(
    esm2: Path, fasta: Path, tmp_path: Path
) -> None:
    made = submitted(tmp_path / "a.npy", [fasta], model=str(esm2), dtype="int8")
    found = certified(made)
    model, tokenizer = EsmModel.from_pretrained(str(esm2)).eval(), EsmTokenizer.from_pretrained(str(esm2))
    sequences = draw_sample(made.job, made.job_dir)
    with torch.inference_mode():
        exact = np.stack(
            [
                model(**tokenizer(each, return_tensors="pt")).last_hidden_state[0, 1:-1].mean(0).numpy()
                for each in sequences
            ]
        )
    ours = embed(load_model(str(esm2), dtype="int8"), sequences)
    expected = cosines(ours, exact)
    assert found.least_cosine == pytest.approx(float(expected.min()), abs=2e-6)
    assert found.mean_cosine == pytest.approx(float(expected.mean()), abs=2e-6)
    assert found.num_records == len(sequences)


def test_a_model_that_quantises_badly_is_refused_before_anything_is_computed(
    with_outliers: Path, fasta: Path, tmp_path: Path
) -> None:
    made = submitted(tmp_path / "a.npy", [fasta], model=str(with_outliers), dtype="int8")
    with pytest.raises(
        NotCertified, match=r"int8: the least cosine with float32 is 0\.\d+ .* --least-cosine"
    ):
        certified(made)
    assert not made.job_dir.certificate.exists()


def test_a_bound_of_ones_own_counts(esm2: Path, fasta: Path, tmp_path: Path) -> None:
    strict = submitted(tmp_path / "a.npy", [fasta], model=str(esm2), dtype="int8", least_cosine=0.9999999)
    with pytest.raises(NotCertified, match=r"--least-cosine is 0\.9999999;"):
        certified(strict)


def test_a_bound_of_nothing_takes_every_model(with_outliers: Path, fasta: Path, tmp_path: Path) -> None:
    made = submitted(tmp_path / "a.npy", [fasta], model=str(with_outliers), dtype="int8", least_cosine=0.0)
    assert 0 <= certified(made).least_cosine < LEAST_COSINE


def test_a_worker_that_is_below_where_another_was_not_has_a_broken_device(
    with_outliers: Path, fasta: Path, tmp_path: Path
) -> None:
    made = submitted(tmp_path / "a.npy", [fasta], model=str(with_outliers), dtype="int8")
    made.job_dir.certificate.write_bytes(Certificate(made.job.job_id, 8, 100, 0.999, 0.9999).encode())
    with pytest.raises(NumericsDeviate, match="is this device broken"):
        certified(made)


def test_a_damaged_certificate_is_named(esm2: Path, fasta: Path, tmp_path: Path) -> None:
    made = submitted(tmp_path / "a.npy", [fasta], model=str(esm2), dtype="int8")
    made.job_dir.certificate.write_bytes(b"{")
    with pytest.raises(Damage, match=r"certificate\.json: not readable"):
        certified(made)


def test_what_is_not_finite_in_int8_alone_counts_as_opposite() -> None:
    one = np.ones(3)
    assert compare([one, None, None], [one, one, None]).tolist() == [pytest.approx(1.0), -1.0]


def test_the_card_names_least_and_mean_cosine(esm2: Path, fasta: Path, tmp_path: Path) -> None:
    made = submitted(tmp_path / "a.npy", [fasta], model=str(esm2), dtype="int8", least_cosine=0.9)
    found = certified(made)
    made.compute()
    made.export()
    card = json.loads((tmp_path / "a.npy.card.json").read_text())
    assert card["certificate"] == dataclasses.asdict(found)
    assert f"{found.least_cosine:.6f} at least and {found.mean_cosine:.6f} on average" in card["methods"]
    assert "--dtype int8" in card["command"]
    assert "--least-cosine 0.9" in card["command"]


def test_another_job_in_its_place_is_certified_anew(esm2: Path, fasta: Path, tmp_path: Path) -> None:
    made = submitted(tmp_path / "a.npy", [fasta], model=str(esm2), dtype="int8")
    certified(made)
    submitted(tmp_path / "a.npy", [fasta], model=str(esm2), overwrite=True)
    assert not made.job_dir.certificate.exists()


def test_the_command_ends_with_one_line_and_a_failure(
    with_outliers: Path, fasta: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    ended = holdfast(
        "embed", fasta, "-m", with_outliers, "-o", output, "--device", "cpu", "--dtype", "int8",
        "--allow-quarantine", "--workers", "1", expect=1,
    )  # fmt: skip
    assert "int8: the least cosine with float32 is" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not output.exists()


# ---- who cannot have it


def request(tmp_path: Path, **changed: Any) -> EmbedRequest:
    wanted = {"inputs": [tmp_path / "a.fasta"], "model": str(MINILM), "output": tmp_path / "a.npy", **changed}
    return EmbedRequest(**wanted)


def test_a_bound_without_int8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--least-cosine: is for --dtype int8"):
        settle.settle(request(tmp_path, least_cosine=0.9))
    with pytest.raises(UsageError, match=r"no cosine is more than 1"):
        settle.settle(request(tmp_path, least_cosine=1.5, dtype="int8"))


def test_a_family_that_transformers_computes_is_refused(tmp_path: Path, esm2: Path) -> None:
    spec = settle.settle(request(tmp_path, model=str(esm2))).spec
    other = dataclasses.replace(spec, family="auto")
    with pytest.raises(UsageError, match="computed natively"):
        settle.refuse_impossible(request(tmp_path, dtype="int8"), other)


def test_a_gpu_is_refused(tmp_path: Path, esm2: Path, fasta: Path) -> None:
    spec = settle.settle(request(tmp_path, model=str(esm2))).spec
    with pytest.raises(UsageError, match="is for the CPU"):
        resolve_options(request(tmp_path, dtype="int8"), spec, "cuda", "protein")


def test_a_processor_without_vnni_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "is_emulated", lambda dtype: True)
    asked = request(tmp_path, dtype="int8")
    with pytest.raises(UsageError, match="neither VNNI nor AMX"):
        settle.choose_workers(asked, settle.settle(asked), "cpu", None, runtime_config())


def test_no_dtype_is_int8_by_itself(tmp_path: Path, esm2: Path) -> None:
    asked = request(tmp_path, model=str(esm2))
    spec = settle.settle(asked).spec
    assert {resolve_options(asked, spec, device, "protein").dtype for device in ("cpu", "cuda")} == {
        "float32",
        "bfloat16",
    }


def test_the_loader_refuses_another_family_too(tmp_path: Path) -> None:
    directory = tmp_path / "model"
    directory.mkdir()
    texts.other("distilbert")(directory)
    with pytest.raises(UnsupportedModel, match="computed natively"):
        load_model(str(directory), dtype="int8")
