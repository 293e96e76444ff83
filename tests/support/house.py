"""The house in figures: `python tests/support/house.py [CHECKOUT ...]`, checkouts side by side.

Counted are the modules of the packages. An import counts wherever it stands in a module, also inside a
function and for typing; a package's `__init__` that only hands names on is looked through.
"""

import ast
import statistics
import sys
from collections import Counter
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGES = ("checkpoint", "holdfast", "queue_app", "gpu_tasks")


class Module:
    """One file: its lines, its functions, and the names that it imports."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path.relative_to(root)
        parts = self.path.with_suffix("").parts
        self.name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        source = path.read_text()
        self.lines = len(source.splitlines())
        self.tree = ast.parse(source)

    @cached_property
    def head_lines(self) -> int:
        """Lines from the top to the end of the docstring and of the imports, whichever comes last."""
        head = [
            node for node in self.tree.body if isinstance(node, ast.Import | ast.ImportFrom) or _typing(node)
        ]
        if ast.get_docstring(self.tree) is not None:
            head.append(self.tree.body[0])
        return max((node.end_lineno or 0 for node in head), default=0)

    @cached_property
    def functions(self) -> list[int]:
        """The length of every function and method in lines, its decorators and docstring with it."""
        return [
            _length(node)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]

    @cached_property
    def imported(self) -> set[str]:
        """The modules named by its import statements; `from a import b` names a and a.b."""
        names: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
                names.update(f"{node.module}.{alias.name}" for alias in node.names)
        return names


def _length(node: ast.stmt) -> int:
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return (node.end_lineno or node.lineno) - first + 1


def _typing(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


class House:
    """Every module of a checkout, and who imports whom."""

    def __init__(self, root: Path) -> None:
        files = sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))
        self.modules = {module.name: module for module in (Module(root, path) for path in files)}
        self.arrows = {name: self._arrows(module) for name, module in self.modules.items()}

    def _arrows(self, module: Module) -> set[str]:
        """The modules that it imports: of `from package import module` the module, not the package."""
        named = {name for name in module.imported if name in self.modules}
        packages = {name for name in named if any(other.startswith(f"{name}.") for other in named)}
        return named - packages - {module.name}

    def circle(self) -> list[str]:
        """A circle of imports, in order; empty if there is none."""
        try:
            TopologicalSorter(self.arrows).prepare()
        except CycleError as error:
            return list(reversed(error.args[1]))
        return []

    def longest_chain(self) -> list[str]:
        """The longest way from import to import. In a circle it goes round at most once."""
        known: dict[str, list[str]] = {}

        def chain(name: str, above: tuple[str, ...]) -> list[str]:
            if name not in known:
                below = [chain(each, (*above, name)) for each in self.arrows[name] if each not in above]
                known[name] = [name, *max(below, key=len, default=[])]
            return known[name]

        return max((chain(name, ()) for name in self.modules), key=len)

    def figures(self) -> dict[str, str]:
        """Each figure as it is shown, by its name."""
        modules = self.modules.values()
        lines = sum(module.lines for module in modules)
        functions = sorted(length for module in modules for length in module.functions)
        folders = Counter(str(module.path.parent) for module in modules if module.path.name != "__init__.py")
        folder, most = folders.most_common(1)[0]
        importer = max(self.arrows, key=lambda name: len(self.arrows[name]))
        chain, circle = self.longest_chain(), self.circle()
        longest = max(modules, key=lambda module: module.lines)
        return {
            "product lines": f"{lines:,}",
            "modules": f"{len(modules)}",
            "longest module": f"{longest.lines} ({longest.name})",
            "most modules in a folder": f"{most} ({folder})",
            "head lines": f"{sum(module.head_lines for module in modules) / lines:.1%}",
            "longest import chain": f"{len(chain)} ({chain[0]})",
            "most imports of one module": f"{len(self.arrows[importer])} ({importer})",
            "import circle": " -> ".join(circle) or "none",
            "functions: median": f"{statistics.median(functions):g}",
            "functions: 9 of 10 at most": f"{functions[len(functions) * 9 // 10]}",
            "functions: longest": f"{functions[-1]}",
        }


def main(roots: list[Path]) -> None:
    columns = {str(root): House(root).figures() for root in roots}
    print("| |", *(f"{name} |" for name in columns))
    print("|---|" + "---|" * len(columns))
    for name in next(iter(columns.values())):
        print(f"| {name} |", *(f"{figures[name]} |" for figures in columns.values()))


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]] or [Path()])
