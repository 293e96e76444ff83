"""On which file system a store lies: LMDB keeps its promises on local ones only.

A map shared by processes and the locks beside it need one kernel to see all of them. Read from
/proc/self/mountinfo, which names what statfs(2) has only numbers for, FUSE's many kinds among them. Where
there is no such file (not Linux), nothing is known, and nothing refused.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from checkpoint.errors import NetworkFileSystem

MOUNTINFO = Path("/proc/self/mountinfo")

NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "fhgfs", "glusterfs", "gpfs", "lustre", "mfs",
    "ncpfs", "nfs", "nfs4", "orangefs", "panfs", "pvfs2", "quobyte", "smb3", "smbfs", "wekafs",
    "fuse.afpfs", "fuse.alluxio-fuse", "fuse.beegfs", "fuse.blobfuse", "fuse.blobfuse2", "fuse.ceph",
    "fuse.ceph-fuse", "fuse.curlftpfs", "fuse.davfs", "fuse.dfuse", "fuse.fuse_dfs", "fuse.gcsfuse",
    "fuse.geesefs", "fuse.glusterfs", "fuse.goofys", "fuse.gvfsd-fuse", "fuse.juicefs", "fuse.JuiceFS",
    "fuse.lizardfs", "fuse.mfs", "fuse.moosefs", "fuse.mount-s3", "fuse.mountpoint-s3", "fuse.nfs",
    "fuse.objectivefs", "fuse.quobyte", "fuse.rclone", "fuse.s3fs", "fuse.s3ql", "fuse.saunafs",
    "fuse.seaweedfs", "fuse.smbnetfs", "fuse.sshfs",
})  # fmt: skip
"""Types as mountinfo has them. Local FUSE file systems (ntfs-3g, mergerfs, overlay) are none of these."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo."""

    number: int
    parent: int
    point: Path
    type: str
    source: str


def refuse_network_file_system(path: Path) -> None:
    """Raises NetworkFileSystem when `path`, which need not exist yet, lies on one."""
    mount = mount_of(path)
    if mount is not None and mount.type in NETWORK_FILE_SYSTEMS:
        raise NetworkFileSystem(
            f"{path}: lies on {mount.type} ({mount.source}, mounted at {mount.point}), a network file "
            "system, where LMDB cannot keep data safe; set HOLDFAST_SCRATCH to a directory on a local disk"
        )


def mount_of(path: Path) -> Mount | None:
    """The mount that holds `path`; None where that cannot be told."""
    resolved = path.resolve()
    resolved.exists()  # an automounter mounts what is looked at; only then does mountinfo name it
    try:
        lines = MOUNTINFO.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    mounts = [mount for line in lines if (mount := _parse(line)) is not None]
    numbers = {mount.number for mount in mounts}
    found = next((m for m in mounts if m.point == Path("/") and m.parent not in numbers - {m.number}), None)
    while found is not None and (deeper := _next_mount(mounts, found, resolved)) is not None:
        found = deeper
    return found


def _next_mount(mounts: list[Mount], inside: Mount, path: Path) -> Mount | None:
    """Which mount on top of `inside` comes first on the way to `path`.

    The first, not the longest: a mount over /a hides an earlier one at /a/b. Lines stand in no such order.
    """
    on_the_way = [
        mount
        for mount in mounts
        if mount.parent == inside.number != mount.number and path.is_relative_to(mount.point)
    ]
    return min(on_the_way, key=lambda mount: len(mount.point.parts), default=None)


def _parse(line: str) -> Mount | None:
    """proc_pid_mountinfo(5): number, parent, device, root, point, options, optional, -, type, source."""
    before, _, after = line.partition(" - ")
    fields, kind = before.split(" "), after.split(" ")
    if len(fields) < 6 or len(kind) < 2 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    return Mount(int(fields[0]), int(fields[1]), Path(_unescape(fields[4])), kind[0], _unescape(kind[1]))


def _unescape(text: str) -> str:
    r"""Blanks and backslashes in names stand as \040 and \134."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
