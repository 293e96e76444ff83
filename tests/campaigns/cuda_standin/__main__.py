"""`python -m tests.campaigns.cuda_standin --site SITE`: torch's CUDA code, on a device that is not there.

SITE holds a CUDA build of torch, of the version that is installed here; CUDA's headers have to be here, too:

    pip download --no-deps --dest WHEELS --index-url https://pypi.org/simple torch==2.13.0
    python -m zipfile -e WHEELS/torch-2.13.0-*.whl SITE
    pip install --no-deps --target SITE triton==3.7.1

Without them, or without a compiler, nothing is looked at, and it says so; without Triton, which that torch
names in its metadata, none of our own kernels. Ends with 1 where something is not as promised.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.campaigns.cuda_standin.build import Missing, build, is_built
from tests.support import ROOT

PARTS = ("settings", "families", "reuse", "full_device", "kernels")
HOSTILE = {
    "CUBLAS_WORKSPACE_CONFIG": ":16:8",
    "CUBLASLT_WORKSPACE_SIZE": "16",
    "TORCH_CUBLASLT_UNIFIED_WORKSPACE": "0",
    "TORCH_BLAS_PREFER_CUBLASLT": "1",
    "TORCH_LINALG_PREFER_CUSOLVER": "1",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
}
"""What a user's environment may say of the libraries; the part `settings` runs under it as well."""
PART_SECONDS = 900
SAID = {True: "ok     ", False: "BROKEN ", None: "skipped"}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.cuda_standin", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument(
        "--site", type=Path, default=os.environ.get("STANDIN_SITE") or None, help="with a CUDA build of torch"
    )
    parser.add_argument(
        "--libraries", type=Path, default=ROOT / "build/cuda_standin", help="where the stand-ins go"
    )
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be repeated")
    parser.add_argument("--build", action="store_true", help="build them anew, and end")
    chosen = parser.parse_args()
    try:
        if not chosen.site:
            raise Missing("no --site, and no STANDIN_SITE")
        if chosen.build or not is_built(chosen.libraries):
            build(chosen.site, chosen.libraries)
    except Missing as error:
        print(f"skipped: {error}. See --help")
        return 0
    if chosen.build:
        return 0
    broken = 0
    for part, extra in _runs(chosen.only or PARTS):
        broken += _run(part, environment(chosen.site, chosen.libraries, **extra), extra)
    print(f"{broken} promises broken" if broken else "every promise holds")
    return int(broken > 0)


def environment(site: Path, libraries: Path, **extra: str) -> dict[str, str]:
    """That of a process whose torch is the one of the site, and whose CUDA is the stand-in."""
    path = os.pathsep.join([str(site), str(ROOT)])
    return {
        **os.environ, "PYTHONPATH": path, "LD_LIBRARY_PATH": str(libraries), "CUDA_VISIBLE_DEVICES": "0",
        "PYTHONDONTWRITEBYTECODE": "1", **extra,
    }  # fmt: skip


def _runs(parts: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    for part in parts:
        yield part, {}
        if part == "settings":
            yield part, HOSTILE


def _run(part: str, env: dict[str, str], extra: dict[str, str]) -> int:
    """How many promises of the part are broken; a part that does not end well is one."""
    print(f"== {part}{' in an environment that says otherwise' if extra else ''}")
    command = [sys.executable, "-m", "tests.campaigns.cuda_standin.inside", part]
    try:
        ended = subprocess.run(
            command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=PART_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        print(f"{SAID[False]}  no end within {PART_SECONDS} s")
        return 1
    broken = 0
    for line in ended.stdout.splitlines():
        finding = json.loads(line)
        broken += finding["holds"] is False
        print(f"{SAID[finding['holds']]}  {finding['text']}")
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [""])[-1]
        print(f"{SAID[False]}  exit status {ended.returncode}: {last[:300]}")
    return broken + bool(ended.returncode)


if __name__ == "__main__":
    sys.exit(main())
