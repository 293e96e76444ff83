"""An export that is killed between any two writes: the next completes it, and no card says too much."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from queue_app.job.directory import JobDir
from queue_app.job.output_names import card_paths
from queue_app.job.output_place import exported, take_place
from queue_app.job.spec import Job
from queue_app.outputs.export import export, output_damage
from queue_app.outputs.verify import verify_job
from tests.support import ROOT
from tests.support.command_runs import environment
from tests.support.jobs_and_inputs import make_job, publish, publish_anew

AT_LEAST = 6
"""The claim, the output, three companions, the end of the claim."""


@dataclass(frozen=True)
class Home:
    """A published job, and where its output goes."""

    path: Path
    name: str

    @property
    def job_dir(self) -> JobDir:
        return JobDir(self.path / "job")

    @property
    def output(self) -> Path:
        return self.path / self.name

    @property
    def job(self) -> Job:
        return self.job_dir.load()

    def export(self) -> None:
        export(self.job, self.job_dir, self.output)

    def files(self) -> dict[str, bytes]:
        """All that lies beside the job directory, but for what the cards say, which tell the time."""
        found = (path for path in self.path.rglob("*") if path.is_file())
        names = {path: str(path.relative_to(self.path)) for path in found}
        return {
            name: b"" if ".card." in name else path.read_bytes()
            for path, name in names.items()
            if not name.startswith("job/")
        }


@pytest.fixture(params=["out.npy", "out"])
def published(request: pytest.FixtureRequest, tmp_path: Path) -> Home:
    home = Home(tmp_path / "published", request.param)
    publish(make_job(num_shards=3, records_per_shard=5), home.job_dir, quarantined={0, 7})
    take_place(home.job_dir, home.output)
    return home


def killed(home: Home, where: Path) -> Sequence[Home]:
    """A copy of it after each death."""
    script = [sys.executable, "-m", "tests.support.killed_exports"]
    command = [*script, str(home.job_dir.path), str(home.output), str(where)]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True, timeout=120)
    found = [Home(path, home.name) for path in where.iterdir()]
    assert len(found) >= AT_LEAST, "its steps are not seen"
    return found


def require_complete(home: Home, undisturbed: dict[str, bytes]) -> None:
    """The output and what lies beside it, and nothing else."""
    assert home.files() == undisturbed
    assert not home.job_dir.claims.exists()
    assert exported(home.job, home.job_dir) is not None
    assert not [line for line in verify_job(home.job_dir).damage if "output" in line]


def test_a_first_export_is_completed_by_the_next_and_its_card_comes_last(
    published: Home, tmp_path: Path
) -> None:
    copies = killed(published, tmp_path / "killed")
    published.export()
    undisturbed = published.files()
    for home in copies:
        if card_paths(home.output)[1].exists():
            assert home.files().items() >= undisturbed.items(), "the card is there, and something else is not"
        home.export()
        require_complete(home, undisturbed)


def test_an_export_of_newer_results_is_completed_and_no_older_card_stands_for_it(
    published: Home, tmp_path: Path
) -> None:
    published.export()
    publish_anew(published.job, published.job_dir, 2, 0.5)
    copies = killed(published, tmp_path / "killed")
    published.export()
    undisturbed = published.files()
    for home in copies:
        if exported(home.job, home.job_dir) is not None:
            assert output_damage(home.job, home.job_dir) == [], "the card is of what was there before"
        home.export()
        require_complete(home, undisturbed)
