"""What every output keeps, whatever its format: whole or not at all, in little memory, damage noticed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from queue_app.job.directory import JobDir
from queue_app.job.spec import Job
from queue_app.model.reader import find_model
from queue_app.outputs.export import export, output_damage
from queue_app.outputs.formats.writers import OUTPUTS
from queue_app.outputs.verify import verify_job
from tests.support import ROOT
from tests.support.jobs_and_inputs import make_job, publish
from tests.support.output_files import EVERY_FORMAT, files_of, ids_of, vectors_of
from tests.support.small_disks import can_mount, small_disk

each_format = pytest.mark.parametrize("name", EVERY_FORMAT)


def made_job(home: Path, name: str, *, dim: int = 8, records: int = 5) -> tuple[Job, JobDir]:
    """A finished job whose output is not written yet."""
    job = make_job(num_shards=3, records_per_shard=records)
    job = replace(job, output=str(home / name), model=find_model(f"mock:{dim}").spec)
    job_dir = JobDir(home / "job")
    publish(job, job_dir)
    return job, job_dir


def test_every_format_is_tried_here() -> None:
    assert len(EVERY_FORMAT) == len(OUTPUTS)


# ---- damage


def damages(path: Path) -> Iterator[None]:
    """The file with another last byte, cut off, and gone; whole again in the end."""
    whole = path.read_bytes()
    for bad in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-1]):
        path.write_bytes(bad)
        yield
    path.unlink()
    yield
    path.write_bytes(whole)


@each_format
def test_verify_notices_damage_to_any_file_of_an_output(tmp_path: Path, name: str) -> None:
    job, job_dir = made_job(tmp_path, name)
    export(job, job_dir, tmp_path / name, precision="int8" if name == "out.npy" else "float32")
    files = files_of(tmp_path / name)
    written = json.loads((tmp_path / f"{name}.card.json").read_text())["output"]["files"]
    assert {str(path.relative_to(tmp_path)) for path in files} == written.keys()
    for path in files:
        for _ in damages(path):
            if (tmp_path / name).exists():  # one that was moved away is none
                (found,) = output_damage(job, job_dir)
                assert f"output {path} is not what was written" in found
    assert not any("output" in line for line in verify_job(job_dir).damage)


# ---- memory

MEMORY = """
import sys
from pathlib import Path
from queue_app.job.directory import JobDir
from queue_app.outputs.export import export

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

home = Path(sys.argv[1])
job_dir = JobDir(home / "job")
job = job_dir.load()
export(job, job_dir, home / ("small" + sys.argv[2]))  # what libraries take by themselves
job_dir = JobDir(home / "large" / "job")
job, before = job_dir.load(), peak()
export(job, job_dir, home / ("large" + sys.argv[2]))
print(peak() - before)
"""


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small job and, in `large`, one of 295 MB."""
    home = tmp_path_factory.mktemp("jobs")
    (home / "large").mkdir()
    made_job(home, "small.npy", dim=2048)
    made_job(home / "large", "large.npy", dim=2048, records=12_000)
    return home


@pytest.mark.parametrize("ending", [".npz", ".safetensors", ".h5ad", ".lance"])
def test_a_large_output_is_written_with_a_part_of_it_in_memory(jobs: Path, ending: str) -> None:
    run = [sys.executable, "-c", MEMORY, str(jobs), ending]
    peak = int(subprocess.run(run, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    num_bytes = sum(path.stat().st_size for path in files_of(jobs / f"large{ending}"))
    assert 294e6 < num_bytes < 300e6
    assert peak < 0.75 * num_bytes, f"{peak:,} of {num_bytes:,} bytes"


# ---- a full disk

FULL = """
import sys
from pathlib import Path
from queue_app.errors import DiskFull
from queue_app.job.directory import JobDir
from queue_app.outputs.export import export

for name in sys.argv[1:]:
    job_dir = JobDir(Path("large/job"))
    try:
        export(job_dir.load(), job_dir, Path("small") / name, overwrite=True)
    except DiskFull as error:
        print(name, "refused:", error)
    print(name, *sorted(path.name for path in Path("small").glob(".*")))
"""


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces to mount a small disk")
def test_a_full_disk_leaves_the_earlier_output_and_nothing_else(tmp_path: Path) -> None:
    """Also for Lance and HDF5, which write by themselves."""
    (tmp_path / "large").mkdir()
    made_job(tmp_path / "large", "large.npy", dim=512, records=2_000)
    (tmp_path / "first").mkdir()
    first = made_job(tmp_path / "first", "first.npy", records=1)
    for name in EVERY_FORMAT:
        export(*first, tmp_path / "first" / name)
    (tmp_path / "full.py").write_text(FULL)
    script = (
        f"cp -r first/out* small/; PYTHONPATH={ROOT} {sys.executable} full.py {' '.join(EVERY_FORMAT)};"
        "rm -rf first/out*; cp -r small/out* first/"
    )
    ended = small_disk(tmp_path, "8m", script)
    assert (ended.returncode, ended.stderr) == (0, "")
    told = [f"{name} refused: small/{name}: no room on the disk" for name in EVERY_FORMAT]
    lines = ended.stdout.splitlines()
    assert [line.partition(";")[0] for line in lines[::2]] == told
    assert lines[1::2] == EVERY_FORMAT, "no temporary file stays"
    for name in EVERY_FORMAT:
        assert ids_of(tmp_path / "first" / name) == ["p0", "p1", "p2"]
        np.testing.assert_array_equal(vectors_of(tmp_path / "first" / name)[:, 0], [0, 1, 2])
