"""A store of embedding batches one can trust: fenced, checksummed, durable. Knows no queue and no model."""

from checkpoint.block import Block, decode, encode
from checkpoint.errors import (
    AlreadyOpen,
    BlockDamaged,
    CheckpointError,
    DiskFailed,
    DiskFull,
    NetworkFileSystem,
    NewerFormat,
    OwnerAlive,
    StaleToken,
    StoreDamaged,
    WrongJob,
)
from checkpoint.records import DoneRecord, Kind, QuarantineEntry
from checkpoint.snapshot import Snapshot
from checkpoint.store import CheckpointStore
from checkpoint.writer import CheckpointTrigger, CheckpointWriter, WriterTimes

__all__ = [
    "AlreadyOpen",
    "Block",
    "BlockDamaged",
    "CheckpointError",
    "CheckpointStore",
    "CheckpointTrigger",
    "CheckpointWriter",
    "DiskFailed",
    "DiskFull",
    "DoneRecord",
    "Kind",
    "NetworkFileSystem",
    "NewerFormat",
    "OwnerAlive",
    "QuarantineEntry",
    "Snapshot",
    "StaleToken",
    "StoreDamaged",
    "WriterTimes",
    "WrongJob",
    "decode",
    "encode",
]
