"""Memory that a process of ours would hold for nothing."""

import contextlib
import ctypes
import sys

FEW_HEAPS = {"MALLOC_ARENA_MAX": "2"}
"""For a process that is about to start: by default glibc gives each thread a heap of its own, up to eight a
core, and what is freed in one is of no use to the others."""


def do_without_pandas() -> None:
    """Before the first array: pyarrow would import pandas with it, 28 MB and half a second, never used.

    It looks only once; whoever else wants pandas can still import it.
    """
    import pyarrow as pa  # here, as below: a worker's parent imports this module and no Arrow

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(_NoPandas)


class _NoPandas:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("not needed here")


def give_memory_back() -> None:
    """Hand what was freed back to the system: some 10 ms.

    Arrow keeps what it once had. What else is freed in a shard lies scattered between what is still in use,
    and would add up shard by shard.
    """
    import pyarrow as pa

    # Not by making Arrow use glibc's heap, too: its large buffers would teach malloc to keep as large ones.
    pa.default_memory_pool().release_unused()
    with contextlib.suppress(AttributeError):  # a C library that is not glibc
        ctypes.CDLL(None).malloc_trim(0)
