"""Changes a module once it was imported, so that what is watched or harmed carries no hook for it.

For a `sitecustomize.py`, which Python imports at its start from whatever directory of PYTHONPATH holds it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

Changes = Mapping[str, Callable[[ModuleType], None]]
"""name of a module -> what to do to it once it was executed"""


def change_after_import(changes: Changes) -> None:
    sys.meta_path.insert(0, _AfterImport(changes))


class _AfterImport(MetaPathFinder):
    """Finds the modules as ever."""

    def __init__(self, changes: Changes) -> None:
        self.changes = changes

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        change = self.changes.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if change else None
        if change is None or spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec
