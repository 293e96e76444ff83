"""Cancel, pause and unpause: what the manifest says and what the job directory keeps are the same."""

from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from queue_app.coordination.embedded_server import ServerAddress
from queue_app.coordination.fleet import take_job
from queue_app.coordination.job_control import cancel, pause, unpause
from queue_app.coordination.manifest import CheckpointManifest
from queue_app.coordination.states import JobState
from queue_app.errors import BrokerUnreachable
from queue_app.job.directory import JobDir
from queue_app.job.spec import Progress
from tests.support.free_ports import free_ports
from tests.support.jobs_and_inputs import make_job

JOB = make_job(num_shards=2, records_per_shard=5)


@pytest.fixture
def held(client: redis.Redis, server_url: str, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Makes a job of which so many shards are done, does these things to it, and answers its state by the
    server and by its directory."""
    directory = JobDir(tmp_path / "job")
    directory.path.mkdir()
    directory.write(JOB)
    take_job(client, directory)

    def after(*controls: Callable[[str, str], tuple[str, JobState]], num_done: int = 0) -> tuple[str, str]:
        done = {index: Progress(1, 5, 0) for index in range(num_done)}
        CheckpointManifest(client, JOB.job_id).initialize(JOB, str(directory.path), done)
        for control in controls:
            _, state = control(JOB.job_id, server_url)
        return str(state), directory.held.read_text() if directory.held.exists() else ""

    return after


def test_what_the_server_says_the_directory_keeps(held: Callable[..., tuple[str, str]]) -> None:
    assert held(pause) == ("paused", "paused")
    assert held(unpause) == ("running", "")
    assert held(cancel) == ("cancelled", "cancelled")


@pytest.mark.parametrize("control", [pause, unpause])
def test_a_cancelled_job_stays_so_also_where_the_server_loses_its_data(
    held: Callable[..., tuple[str, str]], control: Callable[..., tuple[str, JobState]]
) -> None:
    assert held(cancel, control) == ("cancelled", "cancelled")


@pytest.mark.parametrize("control", [pause, unpause, cancel])
def test_a_finished_job_is_held_by_nothing(
    held: Callable[..., tuple[str, str]], control: Callable[..., tuple[str, JobState]]
) -> None:
    assert held(control, num_done=2) == ("done", "")


def test_a_job_that_rests_with_its_own_server_is_said_to_and_how_it_goes_on(tmp_path: Path) -> None:
    directory = JobDir(tmp_path / "job")
    directory.path.mkdir()
    directory.write(JOB)
    ServerAddress(free_ports(0)[0], "secret-of-the-job").write(directory.server_json)
    with pytest.raises(BrokerUnreachable) as refusal:
        pause(str(directory.path), None)
    remedy = "holdfast status tells how far it is, holdfast resume goes on"
    assert str(refusal.value) == f"{directory.path}: nobody works on this job now; {remedy}"


HELD = [(pause, "paused"), (cancel, "cancelled"), (unpause, "running")]


@pytest.mark.parametrize(("control", "state"), HELD)
def test_a_job_whose_directory_is_not_seen_is_held_on_the_server_and_nothing_is_written(
    control: Callable[..., tuple[str, JobState]],
    state: str,
    client: redis.Redis,
    server_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A forged manifest leads to a directory of this user's that holds no such job, or another fleet's."""
    for name, directory in (("none", JobDir(tmp_path / "none")), ("other", JobDir(tmp_path / "other"))):
        directory.path.mkdir()
        if name == "other":
            directory.write(JOB)
            directory.fleet_json.write_text('{"fleet": "abababababababab"}')
        files = {path: path.read_bytes() for path in directory.path.iterdir()}
        CheckpointManifest(client, JOB.job_id).initialize(JOB, str(directory.path), {})
        caplog.clear()
        assert control(JOB.job_id, server_url) == (JOB.job_id, state)
        assert "noted by the server alone" in caplog.text
        assert str(directory.path) in caplog.text
        assert {path: path.read_bytes() for path in directory.path.iterdir()} == files
        CheckpointManifest(client, JOB.job_id).forget()
