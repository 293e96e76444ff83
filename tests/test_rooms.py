"""The arrows between the packages, read from the source: who may know whom."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

KNOWN_OF_THE_STORE = {
    "aside": {"checkpoint.records"},
    "card": {"checkpoint.records"},
    "check_disk": {"checkpoint.network_filesystems"},
    "content": {"checkpoint.records"},
    "done": {"checkpoint.records"},
    "durable": {"checkpoint.store_files"},
    "export": {"checkpoint.records"},
    "lock": {"checkpoint.store_files"},
    "manifest": {"checkpoint.records"},
    "mapped": {"checkpoint.records"},
    "merge": {"checkpoint.records"},
    "monitor": {"checkpoint"},
    "owner": {"checkpoint.process_identity"},
    "processes": {"checkpoint.process_identity"},
    "published": {"checkpoint.records"},
    "quarantine": {"checkpoint", "checkpoint.records"},
    "reuse": {"checkpoint.records"},
    "space": {"checkpoint.errors", "checkpoint.network_filesystems"},
    "verify": {"checkpoint.records", "checkpoint.verify"},
}
"""What each module of queue_app may import of checkpoint; all others: nothing."""
MEETING_PLACES = {
    "task", "job_model", "getting_ready", "attempt", "shard_run", "set_aside", "guarded", "meter", "watch",
}  # fmt: skip
"""Modules of gpu_tasks where the three packages meet."""


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found
    return found


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> set[str]:
    """Every module that is imported anywhere in the file, also inside functions and for typing."""
    names: set[str] = set()
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(str(node.module))
    return names


def top_level(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


def imports_at_once(path: Path) -> set[str]:
    """The packages whose import the import of the file waits for: those that no function holds."""
    names: set[str] = set()
    for node in at_import(parse(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    return names


def every_module() -> list[Path]:
    return [path for package in ("checkpoint", "queue_app", "gpu_tasks") for path in modules(package)]


@pytest.mark.parametrize("path", modules("checkpoint"), ids=lambda path: path.stem)
def test_checkpoint_knows_nothing_but_lmdb(path: Path) -> None:
    outside = top_level(path) - sys.stdlib_module_names
    assert outside <= {"checkpoint", "numpy", "lmdb", "xxhash"}


@pytest.mark.parametrize("path", modules("queue_app"), ids=lambda path: path.stem)
def test_the_queue_never_imports_torch_or_the_inference(path: Path) -> None:
    assert not top_level(path) & {"torch", "transformers", "gpu_tasks"}


@pytest.mark.parametrize("path", modules("queue_app"), ids=lambda path: path.stem)
def test_the_queue_knows_of_the_store_what_is_listed_here(path: Path) -> None:
    known = {name for name in imports(path) if name.partition(".")[0] == "checkpoint"}
    assert known <= KNOWN_OF_THE_STORE.get(path.stem, set())


@pytest.mark.parametrize(
    "path",
    [path for path in modules("gpu_tasks") if path.stem not in MEETING_PLACES],
    ids=lambda path: path.stem,
)
def test_inference_knows_neither_queue_nor_store(path: Path) -> None:
    assert not top_level(path) & {"celery", "redis", "lmdb", "checkpoint"}
    of_the_queue = {name for name in imports(path) if name.partition(".")[0] == "queue_app"}
    assert of_the_queue <= {"queue_app.model.spec", "queue_app.model.files"}, "which know nobody"


@pytest.mark.parametrize("path", modules("gpu_tasks"), ids=lambda path: path.stem)
def test_transformers_is_imported_when_a_model_wants_it_and_never_before(path: Path) -> None:
    assert "transformers" not in imports_at_once(path)


# ---- what happens at import


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: all but the bodies of functions."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.Lambda):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (*child.decorator_list, *child.args.defaults, *filter(None, child.args.kw_defaults)):
                yield part
                yield from at_import(part)
            continue
        yield child
        yield from at_import(child)


def calls_at_import(path: Path) -> set[str]:
    return {ast.unparse(node.func) for node in at_import(parse(path)) if isinstance(node, ast.Call)}


@pytest.mark.parametrize("path", every_module(), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_no_import_touches_a_device_or_a_store(path: Path) -> None:
    touching = {
        call for call in calls_at_import(path) if call.startswith("torch.cuda") or call == "lmdb.open"
    }
    assert not touching


def test_the_reader_of_imports_sees_calls_in_classes_decorators_and_defaults(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "class A:\n    x = one()\n@two()\ndef f(a=three(), *, b=four()):\n    five()\ng = lambda: six()\n"
    )
    assert calls_at_import(source) == {"one", "two", "three", "four"}


# ---- the environment


def environment_reads(path: Path) -> list[str]:
    """Reads of single variables. Handing the whole environment to a child process is no such read."""
    reads = []
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            if ast.unparse(node.value).endswith("environ"):
                reads.append(ast.unparse(node))
        elif isinstance(node, ast.Attribute):
            if ast.unparse(node.value).endswith("environ") or ast.unparse(node) == "os.getenv":
                reads.append(ast.unparse(node))
        elif isinstance(node, ast.Compare):
            reads += [ast.unparse(node) for side in node.comparators if ast.unparse(side).endswith("environ")]
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            reads += [alias.name for alias in node.names if alias.name in ("environ", "getenv")]
    return reads


@pytest.mark.parametrize("path", every_module(), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_nobody_but_the_settings_reads_the_environment(path: Path) -> None:
    if path != ROOT / "queue_app/settings.py":
        assert environment_reads(path) == []


def test_every_way_to_read_a_variable_is_found(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(
        "import os\nfrom os import getenv\na = os.environ['X']\nb = os.environ.get('X')\nc = os.getenv('X')\n"
        "d = 'X' in os.environ\nos.environ['X'] = '1'\nenv = {**os.environ}\n"
    )
    assert sorted(environment_reads(source)) == sorted(
        ["getenv", "os.environ['X']", "os.environ.get", "os.getenv", "'X' in os.environ"]
    )


# ---- the map


def test_the_documentation_names_every_module_and_no_other() -> None:
    """The table of modules: each package's rows follow the row that names the package."""
    named: set[str] = set()
    package = ""
    for line in (ROOT / "docs/inside.md").read_text().splitlines():
        if heading := re.match(r"\| \*\*`(\w+)/`\*\* \|", line):
            package = heading[1]
        elif package and line.startswith("| `"):
            named.update(
                f"{package}/{name}" for name in re.findall(r"`(\w+\.(?:py|lua))`", line.split("|")[1])
            )
    existing = {
        str(path.relative_to(ROOT))
        for package in ("checkpoint", "queue_app", "gpu_tasks")
        for path in (ROOT / package).iterdir()
        if path.suffix in (".py", ".lua") and path.name != "__init__.py"
    }
    assert named == existing
