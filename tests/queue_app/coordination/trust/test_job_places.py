"""Where a job lies is found by its id, and believed by what lies there: a server's word is a hint."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from queue_app.coordination.trust import job_places
from queue_app.coordination.trust.job_places import JobPlaces
from queue_app.errors import Damage, HoldfastError, JobNotFound
from queue_app.host.own_files import NotOurs
from queue_app.job.directory import JobDir
from tests.support.jobs_and_inputs import make_job
from tests.support.other_user import needs_root, of_nobody

JOB = make_job(num_shards=2, records_per_shard=5)
FLEET, OTHER_FLEET = "ab" * 8, "cd" * 8
ABSENT = "0123456789ab-00000000"


def job_at(path: Path, *, fleet: str = FLEET) -> Path:
    path.mkdir(mode=0o700, parents=True)
    JobDir(path).write(JOB)
    JobDir(path).fleet_json.write_text(json.dumps({"fleet": fleet}))
    return path


def places(*roots: Path, remembered: Path | None = None) -> JobPlaces:
    return JobPlaces(roots, lambda: {FLEET}, lambda _: [remembered] if remembered else [])


def is_found(where: JobPlaces, hint: object) -> bool:
    try:
        return where.find(JOB.job_id, str(hint)).job_json.is_file()
    except JobNotFound as error:
        assert "this host does not see the job's directory" in str(error)  # noqa: PT017
        return False


def test_what_lies_in_a_root_is_found_whatever_the_server_says(tmp_path: Path) -> None:
    home = job_at(tmp_path / "root" / "a.holdfast")
    for hint in ("/nowhere", "", "relative", "/with\0nul", "/" + 5000 * "x", tmp_path):
        assert places(tmp_path / "root").find(JOB.job_id, str(hint)).path == home
    assert places(home).find(JOB.job_id, "").path == home


def test_with_roots_a_server_leads_nobody_out_of_them(tmp_path: Path) -> None:
    outside, root = job_at(tmp_path / "outside"), tmp_path / "root"
    root.mkdir()
    assert not is_found(places(root), outside)
    assert not is_found(places(root), f"{root}/../outside")
    (root / "way").symlink_to(outside)
    assert not is_found(places(root), root / "way"), "by its real path"
    assert is_found(places(root, remembered=outside), outside)
    with pytest.raises(JobNotFound, match="HOLDFAST_ROOTS"):
        places(root).find(JOB.job_id, str(outside))


def test_deeper_in_a_root_a_hint_is_needed(tmp_path: Path) -> None:
    home = job_at(tmp_path / "root/deep/down")
    assert is_found(places(tmp_path / "root"), home)
    assert not is_found(places(tmp_path / "root"), "")


def test_without_roots_a_hint_leads_to_jobs_of_this_user_and_fleet_alone(tmp_path: Path) -> None:
    assert is_found(places(), job_at(tmp_path / "ours"))
    assert not is_found(places(), job_at(tmp_path / "of another fleet", fleet=OTHER_FLEET))
    nobodys = job_at(tmp_path / "of no fleet")
    JobDir(nobodys).fleet_json.unlink()
    assert not is_found(places(), nobodys)
    assert not is_found(places(), os.path.relpath(tmp_path / "ours"))


def test_another_job_is_never_found_in_its_place(tmp_path: Path) -> None:
    home = job_at(tmp_path / "root" / "a")
    with pytest.raises(JobNotFound, match=f"what lies there belongs to job {JOB.job_id}"):
        places(tmp_path / "root").find(ABSENT, str(home))


@needs_root
@pytest.mark.parametrize("spoil", [of_nobody, lambda home: home.chmod(0o777)])
def test_what_another_user_could_have_put_there_is_refused(
    spoil: Callable[[Path], object], tmp_path: Path
) -> None:
    home = job_at(tmp_path / "root" / "planted")
    spoil(home)
    for where in (places(tmp_path / "root"), places(), places(remembered=home)):
        for hint in (str(home), ""):
            with pytest.raises(HoldfastError) as refusal:
                where.find(JOB.job_id, hint)
            assert isinstance(refusal.value, NotOurs | JobNotFound)


def test_a_place_that_has_become_anothers_is_looked_for_again(tmp_path: Path) -> None:
    where, home = places(tmp_path / "root"), job_at(tmp_path / "root" / "a")
    assert where.find(JOB.job_id, "").path == home
    home.rename(tmp_path / "root" / "b")
    assert where.find(JOB.job_id, str(tmp_path / "root" / "b")).path == tmp_path / "root" / "b"
    shutil.rmtree(tmp_path / "root" / "b")
    assert where.find_or_none(JOB.job_id, "") is None


def test_roots_are_not_gone_through_for_each_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []
    monkeypatch.setattr(job_places, "in_roots", lambda roots: looked.append(roots) or [])
    where = places(tmp_path)
    for _ in range(10):
        assert where.find_or_none(ABSENT, "") is None
    assert len(looked) == 1


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"job": 1}', b"[" * 100_000, b"\xff"])
def test_a_job_json_that_is_none_is_damage_where_the_hint_leads_and_nothing_elsewhere(
    content: bytes, tmp_path: Path
) -> None:
    home = job_at(tmp_path / "root" / "a")
    JobDir(home).job_json.write_bytes(content)
    with pytest.raises(Damage, match="not a readable job"):
        places(tmp_path / "root").find(JOB.job_id, str(home))
    assert not is_found(places(tmp_path / "root"), "")
