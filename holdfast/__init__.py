"""Embeddings of proteins, DNA and texts in crash-safe batches: what a program or a notebook uses of Holdfast.

    import holdfast

    job = holdfast.embed("proteins.fasta", model="facebook/esm2_t33_650M_UR50D", output="out.h5")
    job.result().embeddings  # [N, dim], in the order of the input

`embed` runs a job to its end, `start` in the background, `embed_async` in an event loop, and `submit` hands
it to workers of your own; each answers a `Job`, whose `result()` is a `Result`. `python -m holdfast` is the
command. Nothing heavy is imported before it is used.
"""

from typing import TYPE_CHECKING, Any

import queue_app
from queue_app.errors import (
    BrokerUnreachable,
    Damage,
    DiskFull,
    HoldfastError,
    InputError,
    JobBusy,
    JobChanged,
    JobFailed,
    JobNotFound,
    ModelError,
    OtherVersion,
    UsageError,
    WrongReadout,
    WrongType,
)

__all__ = [
    "BrokerUnreachable", "Damage", "DiskFull", "HoldfastError", "InputError", "Job", "JobBusy", "JobChanged",
    "JobFailed", "JobNotFound", "JobSnapshot", "ModelError", "Options", "OtherVersion", "Ragged", "Result",
    "UsageError", "WrongReadout", "WrongType", "__version__", "embed", "embed_async", "start", "submit",
]  # fmt: skip

if TYPE_CHECKING:
    from queue_app import Job, JobSnapshot, Options, Ragged, Result, embed, embed_async, start, submit

    __version__: str
else:  # a type checker would take every name for one that this finds

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "__version__":
            from importlib.metadata import version

            return version("holdfast")
        return getattr(queue_app, name)


def __dir__() -> list[str]:
    return __all__
