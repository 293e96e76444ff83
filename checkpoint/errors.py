"""The errors of the checkpoint store."""


class CheckpointError(Exception):
    """Raised when a store cannot do what it was asked for; the message names the store."""


class BlockDamaged(CheckpointError):
    """Raised when a block's bytes are not those that were written."""


class StoreDamaged(CheckpointError):
    """Raised when a store cannot be read as a whole: missing, cut off, or broken pages."""


class StaleToken(CheckpointError):
    """Raised when a higher token than the caller's has been seen: the shard belongs to somebody else."""


class WrongJob(CheckpointError):
    """Raised when a store or block belongs to another job or another batch plan."""


class NewerFormat(CheckpointError):
    """Raised when a store or block was written by a newer version than this one."""


class DiskFull(CheckpointError):
    """Raised when a commit finds no room; what was committed before stays."""


class DiskFailed(CheckpointError):
    """Raised when this host fails a store: its disk, a right, a limit. Elsewhere the same may succeed."""


class OwnerAlive(CheckpointError):
    """Raised when the process that last owned a store lives on, and is not to be or could not be ended."""


class AlreadyOpen(CheckpointError):
    """Raised when this process has the store open: a second opening would write beside the first."""


class NetworkFileSystem(CheckpointError):
    """Raised when a store would lie on a network file system, where LMDB loses data."""
