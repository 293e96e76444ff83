"""Models by the names that people say."""

import json
import re
from pathlib import Path

import pytest

from queue_app.errors import ModelError
from queue_app.model.reader import HUB_ID, locate
from queue_app.model.short_names import HUB_IDS, hub_id_of
from tests.support.command_runs import holdfast
from tests.support.model_directories import save_esm2


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("esm2_t33_650M_UR50D", "facebook/esm2_t33_650M_UR50D"),
        ("esm1b_t33_650M_UR50S", "facebook/esm1b_t33_650M_UR50S"),
        ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("prot_t5_xl_uniref50", "Rostlab/prot_t5_xl_uniref50"),
        ("ProtBERT", "Rostlab/prot_bert"),
        ("ankh_base", "ElnaggarLab/ankh-base"),
        ("mock:8", None),
        ("facebook/esm2_t6_8M_UR50D", None),
    ],
)
def test_a_short_name_is_a_hub_id(name: str, hub_id: str | None) -> None:
    assert hub_id_of(name) == hub_id


def test_every_short_name_leads_to_one_hub_id() -> None:
    assert all(HUB_ID.fullmatch(hub_id) and "_" not in name for name, hub_id in HUB_IDS.items())
    assert all(hub_id_of(hub_id.split("/")[1]) == hub_id for hub_id in HUB_IDS.values())


def test_a_directory_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "esm2_8m").mkdir()
    assert hub_id_of("esm2_8m") is None
    assert locate("esm2_8m", None) == (tmp_path / "esm2_8m", "esm2_8m", "")


def test_a_name_that_is_nearly_one_is_answered_by_it() -> None:
    with pytest.raises(ModelError, match=re.escape("is facebook/esm2_t33_650M_UR50D meant?")):
        locate("esm2_t33_650_UR50D", None)


def test_a_short_name_is_said_and_the_job_has_the_hubs(tmp_path: Path) -> None:
    """Out of the hub client's own cache: the hub itself is never asked."""
    model = tmp_path / "hf" / "hub" / "models--facebook--esm2_t6_8M_UR50D"
    save_esm2(model / "snapshots" / ("a" * 40))
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("a" * 40)
    fasta, output = tmp_path / "in.fasta", tmp_path / "out.npy"
    fasta.write_text(">a\nMKTAYIAKQR\n")
    on = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    run = holdfast("embed", fasta, "-m", "esm2_8m", "-o", output, "--device", "cpu", "--workers", "1", **on)
    assert run.stderr.startswith("esm2_8m: the hub's facebook/esm2_t6_8M_UR50D\n")
    job = json.loads((tmp_path / "out.npy.holdfast" / "job.json").read_text())
    assert (job["model"]["name"], job["model"]["revision"]) == ("facebook/esm2_t6_8M_UR50D", "a" * 40)
