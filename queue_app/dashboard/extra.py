"""Whether the packages are there that serve the page."""

from importlib.util import find_spec

from queue_app.errors import UsageError


def require_extra() -> None:
    """Raises UsageError, with what to do, where the packages of the extra `dashboard` are missing."""
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"the page is served by {' and '.join(missing)}, not installed here: "
            "pip install 'holdfast[dashboard]'"
        )
