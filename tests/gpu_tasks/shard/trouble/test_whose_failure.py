"""Whose a failure is: what another host may do costs a shard nothing, and what fails anywhere is counted."""

import errno

import pyarrow as pa
import pytest

import checkpoint
from gpu_tasks import errors as inference
from gpu_tasks.shard.trouble.whose_failure import Whose, may_pass, whose
from queue_app import errors as ours
from queue_app.host.limits import LimitTooLow

OF_THE_SYSTEM = [
    OSError(code, "of this test")
    for code in (
        errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EACCES,
        errno.EPERM, errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTCONN,
    )
]  # fmt: skip
PASSING = [
    *OF_THE_SYSTEM,
    checkpoint.DiskFull("full"),
    checkpoint.DiskFailed("read-only"),
    ours.DiskFull("full"),
    ours.JobNotFound("this host does not see it"),
    RuntimeError("can't start new thread"),
]
LASTING = [
    checkpoint.NetworkFileSystem("nfs"),
    checkpoint.OwnerAlive("it does not end"),
    checkpoint.AlreadyOpen("open"),
    checkpoint.WrongJob("another plan"),
    checkpoint.NewerFormat("2"),
    ours.ModelError("no such model"),
    ours.OtherVersion("planned by another"),
    LimitTooLow("ulimit -v"),
    inference.ModelLoadError("no such model"),
    inference.UnsupportedModel("of another family"),
    inference.ModelTooLarge("for this host"),
    inference.DeviceUnavailable("cuda:0"),
    inference.NumericsDeviate("broken"),
    inference.OtherKind("--one-kind"),
    ImportError("libcudart.so"),
    MemoryError(),
    RuntimeError("CUDA error: unspecified launch failure"),
]
OF_THE_SHARD = [
    ValueError("of this test"),
    IndexError("of this test"),
    RuntimeError("shapes differ"),
    OSError("not an Arrow file"),  # as Arrow says it: nothing that the system refused
    pa.ArrowInvalid("of this test"),
    checkpoint.StoreDamaged("cut off"),
    checkpoint.BlockDamaged("a bit"),
    checkpoint.CheckpointError("inside a snapshot"),
]
OF_THE_JOB = [ours.Damage("not the shard that was submitted"), inference.JobHopeless("one vector")]


@pytest.mark.parametrize("error", [*PASSING, *LASTING], ids=repr)
def test_what_another_host_may_do_is_the_hosts(error: Exception) -> None:
    assert whose(error) is Whose.HOST


@pytest.mark.parametrize("error", OF_THE_SHARD, ids=repr)
def test_what_nothing_of_the_host_explains_is_the_shards(error: Exception) -> None:
    assert whose(error) is Whose.SHARD


@pytest.mark.parametrize("error", OF_THE_JOB, ids=repr)
def test_what_no_attempt_mends_is_the_jobs(error: Exception) -> None:
    assert whose(error) is Whose.JOB


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_a_disk_that_fills_and_a_mount_that_is_away_are_given_time(error: Exception) -> None:
    assert may_pass(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_does_not_mend_itself_is_given_less(error: Exception) -> None:
    assert not may_pass(error)
