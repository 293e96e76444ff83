"""The wheel: what is in it, and that it works where the checkout is out of sight."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.jobs_and_inputs import write_fasta

PACKAGES = ("checkpoint", "gpu_tasks", "holdfast", "queue_app")


def run(command: Sequence[str | Path], cwd: Path) -> str:
    """Run a command that knows nothing of this checkout or of the caller's settings."""
    env = {name: value for name, value in os.environ.items()
           if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("HOLDFAST_")}  # fmt: skip
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(home)]
    run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], home)
    [built] = home.glob("holdfast-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment with the wheel in it, and our dependencies beside it.

    A .pth file puts their directory on the path without reading the .pth files in there, so that an
    editable install of the checkout stays out of sight.
    """
    home = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", "--without-pip", home], home)
    scripts = home / "bin"
    find_packages = [scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(run(find_packages, home).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python"]
    run([*pip, "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel], home)
    return scripts


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)


def test_the_wheel_carries_the_lua_script_the_page_the_types_and_the_license(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    parts = {path.name for path in (ROOT / "queue_app/dashboard/static").iterdir()}
    assert {f"queue_app/dashboard/static/{name}" for name in parts} <= set(names)
    assert {"queue_app/coordination/manifest.lua", *(f"{package}/py.typed" for package in PACKAGES)} <= set(
        names
    )
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_an_installed_wheel_is_imported_from_where_it_was_installed(installed: Path, tmp_path: Path) -> None:
    ask = (
        "import sys, checkpoint, gpu_tasks, queue_app;"
        "print(checkpoint.__file__, gpu_tasks.__file__, queue_app.__file__, *sys.path, sep='\\n')"
    )
    printed = run([installed / "python", "-c", ask], tmp_path).splitlines()
    files, path = printed[:3], printed[3:]
    assert all(file.startswith(str(installed.parent)) for file in files)
    assert str(ROOT) not in path


def test_an_installed_wheel_runs_a_job(installed: Path, tmp_path: Path) -> None:
    write_fasta(tmp_path / "x.fasta", 20)
    job = ["x.fasta", "-m", "mock:8", "-o", "out.npy", "--device", "cpu"]
    run([installed / "holdfast", "embed", *job], tmp_path)
    assert np.load(tmp_path / "out.npy").shape == (20, 8)
    assert (tmp_path / "out.ids.txt").read_text().split() == [f"p{number}" for number in range(20)]
