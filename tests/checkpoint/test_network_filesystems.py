"""Stores lie on local disks: network file systems are told by their mounts, and refused by name."""

from pathlib import Path

import pytest

import checkpoint.network_filesystems
from checkpoint import CheckpointStore, NetworkFileSystem
from checkpoint.network_filesystems import mount_of
from tests.support.blocks_and_stores import open_store

ROOT = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"


def mounted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *lines: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("\n".join((ROOT, *lines)))
    monkeypatch.setattr(checkpoint.network_filesystems, "MOUNTINFO", table)


def line(point: Path | str, kind: str, *, number: int = 40, parent: int = 27, source: str = "there") -> str:
    return (
        f"{number} {parent} 0:50 / {point} rw,relatime shared:1 master:2 - {kind} {source} rw,addr=10.0.0.1"
    )


@pytest.mark.parametrize(
    "kind",
    ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "lustre", "gpfs", "ceph", "fuse.ceph-fuse", "beegfs",
     "fuse.s3fs", "fuse.gcsfuse", "glusterfs", "fuse.glusterfs", "wekafs"],
)  # fmt: skip
def test_a_store_on_a_network_file_system_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = tmp_path / "there" / "00000.lmdb"
    with open_store(path):
        pass
    mounted(monkeypatch, tmp_path, line(tmp_path / "there", kind, source="host:/export"))
    for opening in (lambda: open_store(path, token=2), lambda: CheckpointStore.open_readonly(path)):
        with pytest.raises(NetworkFileSystem, match=rf"lies on {kind} \(host:/export.*HOLDFAST_SCRATCH"):
            opening()


def test_a_refused_store_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    mounted(monkeypatch, tmp_path, line(tmp_path / "there", "nfs4"))
    with pytest.raises(NetworkFileSystem):
        open_store(tmp_path / "there" / "deeper" / "00000.lmdb")
    assert list((tmp_path / "there").iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "fuse.mergerfs"]
)
def test_a_local_file_system_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mounted(monkeypatch, tmp_path, line(tmp_path, kind))
    with open_store(tmp_path / "00000.lmdb"):
        pass


def test_a_link_to_a_network_file_system_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "there")
    mounted(monkeypatch, tmp_path, line(tmp_path / "there", "nfs4"))
    with pytest.raises(NetworkFileSystem):
        open_store(tmp_path / "here" / "00000.lmdb")


def test_names_that_only_begin_alike_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, tmp_path, line("/data/net", "nfs4"))
    found = mount_of(Path("/data/network/x"))
    assert found is not None
    assert found.type == "ext4"


def test_a_blank_in_a_name_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted(monkeypatch, tmp_path, line(r"/with\040blank", "cifs", source=r"//server/a\040share"))
    found = mount_of(Path("/with blank/x"))
    assert found is not None
    assert (found.type, found.source) == ("cifs", "//server/a share")


def test_a_mount_over_another_hides_it_in_whatever_order_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = line("/a/b", "nfs4", number=50, parent=40)
    outer = line("/a", "tmpfs", number=40)
    hidden = line("/a/b", "lustre", number=30)
    deeper = line("/a/b/c", "xfs", number=20, parent=50)
    for lines in ((hidden, outer), (outer, hidden)):
        mounted(monkeypatch, tmp_path, *lines)
        assert (found := mount_of(Path("/a/b/x")))
        assert found.type == "tmpfs"
    mounted(monkeypatch, tmp_path, deeper, inner, outer, line("/a/b", "ceph", number=60, parent=50))
    for place, kind in {"/a/x": "tmpfs", "/a/b/x": "ceph", "/b": "ext4"}.items():
        assert (found := mount_of(Path(place)))
        assert found.type == kind


def test_this_machine_says_where_a_path_lies(tmp_path: Path) -> None:
    assert (found := mount_of(Path("/proc/self/status")))
    assert (found.type, found.point) == ("proc", Path("/proc"))
    assert (found := mount_of(tmp_path))
    assert found.point.stat().st_dev == tmp_path.stat().st_dev


@pytest.mark.parametrize("table", [None, "", "nonsense\n1 2 3 - x\n", ROOT.replace("ext4 /dev/vda rw", "")])
def test_where_nothing_is_known_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str | None
) -> None:
    monkeypatch.setattr(checkpoint.network_filesystems, "MOUNTINFO", tmp_path / "mountinfo")
    if table is not None:
        (tmp_path / "mountinfo").write_text(table)
    assert mount_of(tmp_path) is None
    with open_store(tmp_path / "00000.lmdb"):
        pass
