"""A store of embedding batches one can trust: fenced, checksummed, durable. Knows no queue and no model."""

from checkpoint.block import Block, decode, encode
from checkpoint.errors import (
    BlockDamaged,
    CheckpointError,
    DiskFull,
    NewerFormat,
    OwnerAlive,
    StaleToken,
    StoreDamaged,
    WrongJob,
)
from checkpoint.records import DoneRecord, QuarantineEntry
from checkpoint.store import CheckpointStore
from checkpoint.writer import CheckpointTrigger, CheckpointWriter

__all__ = [
    "Block",
    "BlockDamaged",
    "CheckpointError",
    "CheckpointStore",
    "CheckpointTrigger",
    "CheckpointWriter",
    "DiskFull",
    "DoneRecord",
    "NewerFormat",
    "OwnerAlive",
    "QuarantineEntry",
    "StaleToken",
    "StoreDamaged",
    "WrongJob",
    "decode",
    "encode",
]
