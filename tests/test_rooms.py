"""The rooms and the arrows between them, read from the source: who may know whom."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.support import ROOT
from tests.support.house import House

BELOW_JOB = {"queue_app.job", "queue_app.model", "queue_app.host"}
COORDINATE = BELOW_JOB | {"queue_app.coordination", "queue_app.coordination.trust"}
READ_AND_COORDINATE = COORDINATE | {"queue_app.ingest.readers"}
OF_A_MODEL = {
    "queue_app.model.spec", "queue_app.model.written_sequences", "queue_app.model.files",
    "queue_app.model.safetensors_head", "queue_app.model.strict_json",
}  # fmt: skip
"""What inference may know of queue_app. They know nobody."""
ARROWS = {
    "queue_app.host": set(),
    "queue_app.model": {"queue_app.host"},
    "queue_app.job": {"queue_app.model", "queue_app.host"},
    "queue_app.coordination.trust": BELOW_JOB,
    "queue_app.coordination": BELOW_JOB | {"queue_app.coordination.trust"},
    "queue_app.ingest.readers": BELOW_JOB,
    "queue_app.ingest": BELOW_JOB | {"queue_app.ingest.readers"},
    "queue_app.outputs": BELOW_JOB | {"queue_app.ingest.readers"},
    "queue_app.worker.metrics": COORDINATE,
    "queue_app.worker": COORDINATE | {"queue_app.worker.metrics"},
    "queue_app.status": COORDINATE | {"queue_app.outputs"},
    "queue_app.preflight": READ_AND_COORDINATE | {"queue_app.ingest"},
    "queue_app.dashboard": READ_AND_COORDINATE | {"queue_app.status"},
    "queue_app.api": READ_AND_COORDINATE
    | {"queue_app.ingest", "queue_app.outputs", "queue_app.status"}
    | {"queue_app.worker", "queue_app.worker.metrics"},
    "gpu_tasks.inference": OF_A_MODEL,
    "gpu_tasks.models": OF_A_MODEL | {"gpu_tasks.inference"},
    "gpu_tasks.model_directory": OF_A_MODEL | {"gpu_tasks.models", "gpu_tasks.inference"},
    "gpu_tasks.probes": OF_A_MODEL | {"gpu_tasks.models", "gpu_tasks.inference"},
}  # fmt: skip
"""Room -> the rooms, or single modules, that it may import. Downwards only; a room may import itself, and
everybody the modules that stand in no room."""
ABOVE = {"queue_app.cli", "gpu_tasks.shard", "gpu_tasks.task", "holdfast"}
"""The command line, where the packages meet, and what programs import: they may import everything, and no
room may import them."""
ROOMS = sorted({*ARROWS, *ABOVE} - {"gpu_tasks.task", "holdfast"})
OF_THE_STORE = {
    "queue_app.host": {"checkpoint.store_files", "checkpoint.process_identity"},
    "queue_app.job": {"checkpoint.store", "checkpoint.errors", "checkpoint.records", "checkpoint.store_files"}
    | {"checkpoint.network_filesystems"},
    "queue_app.coordination": {"checkpoint.records", "checkpoint.process_identity"},
    "queue_app.ingest": {"checkpoint.records"},
    "queue_app.outputs": {"checkpoint.records", "checkpoint.verify"},
    "queue_app.status": {"checkpoint.errors", "checkpoint.store"},
    "queue_app.dashboard": {"checkpoint.records"},
    "queue_app.preflight": {"checkpoint.network_filesystems"},
}
"""What each room may know of the store; all others but those where the packages meet: nothing."""

HOUSE = House(ROOT)


def room_of(name: str, rooms: set[str] | dict[str, set[str]] = ARROWS) -> str:
    """The innermost room that a module stands in; its own name where it stands in none."""
    parts = name.split(".")
    ways = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((way for way in ways if way in rooms), name)


def is_allowed(importer: str, imported: str) -> bool:
    room, other = room_of(importer), room_of(imported)
    if room not in ARROWS:
        return True
    if other not in ARROWS:
        return room_of(imported, ABOVE) not in ABOVE
    return other == room or other in ARROWS[room] or imported in ARROWS[room]


def modules(*packages: str) -> list[str]:
    return [name for name in HOUSE.modules if name.partition(".")[0] in packages]


def top_level(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


each_module = pytest.mark.parametrize("name", HOUSE.modules)
each_of_the_store = pytest.mark.parametrize("name", modules("checkpoint"))
each_of_the_queue = pytest.mark.parametrize("name", modules("queue_app"))
each_of_inference = pytest.mark.parametrize("name", modules("gpu_tasks"))


@each_module
def test_arrows_between_rooms_run_downwards(name: str) -> None:
    assert {other for other in HOUSE.arrows[name] if not is_allowed(name, other)} == set()


def test_an_arrow_that_runs_upwards_is_seen() -> None:
    assert not is_allowed("queue_app.job.spec", "queue_app.ingest.request")
    assert not is_allowed("queue_app.dashboard.serve", "queue_app.cli.printing")
    assert not is_allowed("gpu_tasks.models.esm2", "gpu_tasks.shard.attempt")
    assert not is_allowed("queue_app.api.embed", "holdfast")
    assert not is_allowed("gpu_tasks.inference.runner", "queue_app.model.reader")


@each_of_the_store
def test_checkpoint_knows_nothing_but_lmdb(name: str) -> None:
    outside = top_level(HOUSE.modules[name].imported) - sys.stdlib_module_names
    assert outside <= {"checkpoint", "numpy", "lmdb", "xxhash"}


@each_of_the_queue
def test_the_queue_never_imports_torch_or_the_inference(name: str) -> None:
    assert not top_level(HOUSE.modules[name].imported) & {"torch", "transformers", "gpu_tasks"}


@each_of_the_queue
def test_the_queue_knows_of_the_store_what_is_listed_here(name: str) -> None:
    known = {other for other in HOUSE.arrows[name] if other.partition(".")[0] == "checkpoint"}
    assert known <= OF_THE_STORE.get(room_of(name), set())


@each_of_inference
def test_inference_knows_neither_queue_nor_store(name: str) -> None:
    if room_of(name) in ARROWS:
        assert not top_level(HOUSE.modules[name].imported) & {"celery", "redis", "lmdb", "checkpoint"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_and_its_door_imports_nothing(room: str) -> None:
    door = HOUSE.modules[room].tree
    assert ast.get_docstring(door)
    assert len(door.body) == 1, "more than its docstring"


@each_of_inference
def test_transformers_is_imported_when_a_model_wants_it_and_never_before(name: str) -> None:
    assert "transformers" not in imports_at_once(HOUSE.modules[name].tree)


def test_nobody_imports_in_a_circle() -> None:
    assert HOUSE.circle() == []


def test_the_house_keeps_its_measures() -> None:
    """`make house` says which module is to blame."""
    assert len(HOUSE.longest_chain()) <= 14
    assert max(map(len, HOUSE.arrows.values())) <= 18
    assert max(length for module in HOUSE.modules.values() for length in module.functions) <= 60
    folders = Counter(module.path.parent for module in HOUSE.modules.values())
    assert max(folders.values()) <= 18


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


def imports_at_once(tree: ast.Module) -> set[str]:
    """The packages whose import the import of the module waits for: those that no function holds."""
    names: set[str] = set()
    for node in at_import(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    return top_level(names)


def calls_at_import(tree: ast.Module) -> set[str]:
    return {ast.unparse(node.func) for node in at_import(tree) if isinstance(node, ast.Call)}


def test_no_import_touches_a_device_or_a_store() -> None:
    for module in HOUSE.modules.values():
        calls = calls_at_import(module.tree)
        assert not {call for call in calls if call.startswith("torch.cuda") or call == "lmdb.open"}, (
            module.name
        )


def test_the_reader_of_imports_sees_calls_in_classes_decorators_and_defaults() -> None:
    source = ast.parse(
        "class A:\n    x = one()\n@two()\ndef f(a=three(), *, b=four()):\n    five()\ng = lambda: six()\n"
    )
    assert calls_at_import(source) == {"one", "two", "three", "four"}


# ---- the environment


def environment_reads(tree: ast.Module) -> list[str]:
    """Reads of single variables. Handing the whole environment to a child process is no such read."""
    reads = []
    for node in ast.walk(tree):
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


READERS = {"queue_app.settings", "gpu_tasks.inference.numerics"}
"""Holdfast's settings, and what torch's libraries read of theirs, which we refuse or put back."""


@each_module
def test_nobody_but_the_settings_reads_the_environment(name: str) -> None:
    if name not in READERS:
        assert environment_reads(HOUSE.modules[name].tree) == []


def test_every_way_to_read_a_variable_is_found() -> None:
    source = ast.parse(
        "import os\nfrom os import getenv\na = os.environ['X']\nb = os.environ.get('X')\nc = os.getenv('X')\n"
        "d = 'X' in os.environ\nos.environ['X'] = '1'\nenv = {**os.environ}\n"
    )
    assert sorted(environment_reads(source)) == sorted(
        ["getenv", "os.environ['X']", "os.environ.get", "os.getenv", "'X' in os.environ"]
    )


# ---- the plan of the house


@pytest.mark.parametrize("room", ROOMS)
def test_the_plan_has_a_row_for_every_room(room: str) -> None:
    rows = [line for line in (ROOT / "docs/inside.md").read_text().splitlines() if line.startswith("| `")]
    path = room.replace(".", "/") + "/"
    assert [row for row in rows if f"`{path}`" in row or f"`{path.split('/', 2)[2]}`" in row], path


@pytest.mark.parametrize("page", ["docs/inside.md", "CONTRIBUTING.md"])
def test_every_file_that_the_plan_names_is_there(page: str) -> None:
    named = re.findall(r"`([\w./]+/[\w.]*|[\w/]+\.(?:py|lua|md))`", (ROOT / page).read_text())
    assert named
    tops = ["checkpoint", "holdfast", "queue_app", "gpu_tasks", "tests", "docs", ".ci"]
    there = [f"/{path.relative_to(ROOT)}" for top in tops for path in [ROOT / top, *(ROOT / top).rglob("*")]]
    missing = [name for name in named if not any(path.endswith(f"/{name.rstrip('/')}") for path in there)]
    assert missing == []
