"""Memory that a worker's process would hold for nothing."""

import contextlib
import ctypes
import sys

import pyarrow as pa


def hold_less() -> None:
    """For a process that is all ours, before its first array."""
    _do_without_pandas()
    # Arrow's own allocator keeps most of what it once had, and nothing but Arrow can use it.
    pa.set_memory_pool(pa.system_memory_pool())


class _NoPandas:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("not needed here")


def _do_without_pandas() -> None:
    """At its first array pyarrow looks for pandas, and imports it: 28 MB and half a second, never used.

    It looks only once; whoever else wants pandas can still import it.
    """
    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(_NoPandas)


def give_memory_back() -> None:
    """Hand what was freed, in whatever part of the heap, back to the system: some 10 ms.

    What is freed in a shard lies scattered between what is still in use, and would add up shard by shard.
    """
    with contextlib.suppress(AttributeError):  # a C library that is not glibc
        ctypes.CDLL(None).malloc_trim(0)
