"""Torch, which only those need who compute: a host without it enqueues jobs and looks at them."""

from importlib.util import find_spec

from queue_app.errors import UsageError

MISSING = (
    "torch is not installed here, and what computes needs it: pip install torch "
    "(without it a host enqueues jobs, shows, verifies and exports them)"
)
AS_PYTHON_SAYS_IT = "ModuleNotFoundError: No module named 'torch'"


class TorchMissing(UsageError):
    """Raised when a command would compute on a host that has no torch; nothing was touched."""


def require_torch() -> None:
    """Without importing it, which no process may that starts workers. Raises TorchMissing."""
    if find_spec("torch") is None:
        raise TorchMissing(MISSING)


def in_words(last_line: str) -> str:
    """What a child died of, where it was that."""
    return MISSING if last_line == AS_PYTHON_SAYS_IT else last_line
