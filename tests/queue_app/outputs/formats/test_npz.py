"""Files of NumPy's: any id, more than 4 GB, and ids that would not fit beside the vectors."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from queue_app.errors import UsageError
from queue_app.outputs.formats import npz
from tests.support.inline_job import InlineJob, embedded
from tests.support.jobs_and_inputs import protein

IDS = ["sp|P12345|ONE", "é ü 漢", "two words\nand a line", "", "a" * 300, "a"]


@pytest.fixture
def made(tmp_path: Path) -> InlineJob:
    lines = [json.dumps({"id": name, "sequence": protein(row)}) for row, name in enumerate(IDS)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    return embedded(tmp_path / "out.npz", [tmp_path / "a.jsonl"], alphabet="protein")


def test_every_id_is_there_as_it_was_and_nothing_is_pickled(made: InlineJob) -> None:
    with np.load(made.job.output, allow_pickle=False) as file:
        assert file["ids"].tolist() == IDS
        assert file["ids"].dtype == np.dtype("<U300")
        assert file["embeddings"].shape == (6, 8)
        assert json.loads(file["provenance"].item())["model_name"] == "mock:8"


def test_no_time_of_the_day_is_in_it(made: InlineJob) -> None:
    with zipfile.ZipFile(made.job.output) as archive:
        assert archive.testzip() is None
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


def test_an_array_may_be_larger_than_a_zip_of_old_could_hold(
    made: InlineJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As zipfile would refuse it: here beyond 100 bytes, really beyond 4 GB."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    made.export()
    with np.load(made.job.output) as file:
        assert file["ids"].tolist() == IDS


def test_one_id_that_makes_all_of_them_wider_than_the_vectors_is_refused(
    made: InlineJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "IDS_BYTES_MOST", 1_000)
    before = Path(made.job.output).read_bytes()
    with pytest.raises(UsageError, match=r"out\.npz: ids as wide as the longest .* instead") as said:
        made.export()
    assert "\n" not in str(said.value)
    assert Path(made.job.output).read_bytes() == before
    assert not [path for path in Path(made.job.output).parent.iterdir() if path.name.startswith(".")]
