"""What this user makes is closed to others, and what others have made is not used."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from queue_app.host.durable_files import DigestedFile, create_durably, write_durably
from queue_app.host.file_lock import FileLock, is_held
from queue_app.host.own_files import (
    NotOurs,
    begun,
    make_inner_directory,
    make_own_directory,
    open_own,
    require_trusted_directory,
    write_own,
)
from queue_app.settings import runtime_config
from tests.support.other_user import GROUP, NOBODY, PRECIOUS, needs_root, of_nobody, precious


@pytest.fixture
def shared_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setenv("HOLDFAST_SHARED_GROUP", str(GROUP))
    runtime_config.cache_clear()
    yield GROUP
    runtime_config.cache_clear()


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def rights(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def taken(path: Path) -> None:
    FileLock(path).acquire()


USES: list[Callable[[Path], object]] = [
    taken,
    lambda path: write_own(path, "x"),
    lambda path: open_own(path, os.O_RDONLY),
    lambda path: open_own(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
]


@pytest.mark.parametrize("use", USES)
def test_a_link_is_neither_followed_nor_truncated(use: Callable[[Path], object], tmp_path: Path) -> None:
    target, link = precious(tmp_path / "target"), tmp_path / "link"
    link.symlink_to(target)
    with pytest.raises(NotOurs, match="a link or a pipe"):
        use(link)
    assert target.read_text() == PRECIOUS


@pytest.mark.parametrize("use", USES)
def test_a_second_name_of_a_file_is_neither_followed_nor_truncated(
    use: Callable[[Path], object], tmp_path: Path
) -> None:
    target = precious(tmp_path / "target")
    os.link(target, tmp_path / "name")
    with pytest.raises(NotOurs):
        use(tmp_path / "name")
    assert target.read_text() == PRECIOUS


@needs_root
@pytest.mark.parametrize("use", USES)
def test_a_file_of_another_user_is_neither_read_nor_truncated(
    use: Callable[[Path], object], tmp_path: Path
) -> None:
    path = of_nobody(precious(tmp_path / "theirs"))
    with pytest.raises(NotOurs):
        use(path)
    assert path.read_text() == PRECIOUS
    assert not is_held(path)


@pytest.mark.parametrize("use", USES)
def test_a_file_of_ours_is_refused_to_another_user(
    use: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same seen from the other side, which nobody has to be root for."""
    path, other = precious(tmp_path / "ours"), os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    with pytest.raises(NotOurs):
        use(path)


@pytest.mark.parametrize("use", USES)
def test_a_pipe_in_the_place_of_a_file_holds_up_nobody(use: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotOurs):
        use(tmp_path / "pipe")


@pytest.mark.parametrize("planted", [".a.json.{pid}.tmp", "a.json"])
def test_what_is_written_durably_replaces_a_link_and_leaves_what_it_leads_to(
    planted: str, tmp_path: Path
) -> None:
    target = precious(tmp_path / "target")
    (tmp_path / planted.format(pid=os.getpid())).symlink_to(target)
    write_durably(tmp_path / "a.json", b"{}")
    assert (tmp_path / "a.json").read_text() == "{}"
    assert target.read_text() == PRECIOUS


def test_what_is_made_is_for_this_user_alone_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    assert rights(make_inner_directory(tmp_path / "results")) == 0o700 & ~umask
    write_durably(tmp_path / "a", b"")
    create_durably(tmp_path / "b", b"")
    write_own(tmp_path / "c", "")
    begun(tmp_path / "d")
    taken(tmp_path / "e")
    assert {rights(tmp_path / name) for name in "abcde"} == {0o600 & ~umask}
    DigestedFile(tmp_path / "output").close()
    assert rights(tmp_path / "output") == 0o666 & ~umask


@needs_root
def test_what_a_group_shares_is_its_own_whatever_the_umask(
    shared_group: int, umask: int, tmp_path: Path
) -> None:
    made = make_inner_directory(tmp_path / "results")
    assert (rights(made), made.stat().st_gid) == (0o2770, shared_group)
    write_durably(made / "a", b"")
    begun(made / "b")
    assert {(rights(path), path.stat().st_gid) for path in made.iterdir()} == {(0o660, shared_group)}


# ---- directories


def test_a_directory_that_others_may_write_to_is_not_believed(tmp_path: Path) -> None:
    require_trusted_directory(tmp_path)
    for mode in (0o770, 0o707, 0o1777):
        tmp_path.chmod(mode)
        with pytest.raises(NotOurs, match=f"{tmp_path}: others can write into it, chmod go-w changes that"):
            require_trusted_directory(tmp_path)


def test_a_directory_with_a_link_in_it_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "logs").symlink_to("/etc")
    with pytest.raises(NotOurs, match="logs: a link"):
        require_trusted_directory(tmp_path)


@needs_root
@pytest.mark.parametrize("inside", ["", "logs"])
def test_a_directory_of_another_user_is_not_believed(inside: str, tmp_path: Path) -> None:
    (tmp_path / "job" / inside).mkdir(parents=True)
    os.chown(tmp_path / "job" / inside, NOBODY, NOBODY)
    with pytest.raises(NotOurs, match="of another user") as refusal:
        require_trusted_directory(tmp_path / "job")
    assert "HOLDFAST_SHARED_GROUP" in str(refusal.value)
    with pytest.raises(NotOurs):
        make_own_directory(tmp_path / "job" / inside)


@needs_root
def test_a_link_that_another_user_made_to_a_directory_of_ours_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "job").mkdir(0o700)
    (tmp_path / "link").symlink_to("job")
    require_trusted_directory(tmp_path / "link")
    of_nobody(tmp_path / "link")
    with pytest.raises(NotOurs, match="a link that another user has made"):
        require_trusted_directory(tmp_path / "link")


@needs_root
def test_a_directory_of_the_shared_group_is_believed_whoever_owns_it(
    shared_group: int, tmp_path: Path
) -> None:
    job = tmp_path / "job"
    job.mkdir()
    os.chown(job, NOBODY, shared_group)
    job.chmod(0o2770)
    require_trusted_directory(job)
    job.chmod(0o2777)
    with pytest.raises(NotOurs):
        require_trusted_directory(job)
