"""`make hashes`: what the published package needs at run time, each file of each version by its SHA-256.

    python packaging/hashed_requirements.py UV

`uv pip compile` chooses the versions of constraints.txt and asks the package index for the hashes. They go
into two files, so that an image without CUDA can leave out the second: requirements-hashed.txt, and
requirements-hashed-cuda.txt with torch and the CUDA libraries that its build from PyPI asks for.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILDS_THE_WHEEL = "hatchling"
"""An image makes the wheel of the checkout by itself, and may fetch nothing unchecked for that."""
OF_CUDA = re.compile(r"(torch|triton|nvidia-(?!ml-py)[\w-]+|cuda-[\w-]+)==")
HEAD = """\
# Made by `make hashes` of pyproject.toml and constraints.txt: {what}
"""
HEADS = {
    "requirements-hashed.txt": HEAD.format(what="all that Holdfast needs at run time but torch."),
    "requirements-hashed-cuda.txt": HEAD.format(what="torch as on PyPI, and what it needs of CUDA."),
}


def compiled(uv: str) -> str:
    """The whole closure, a requirement with its hashes after the other."""
    command = [
        uv,
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--universal",
    ]
    command += [
        "--python-version",
        "3.11",
        "--constraint",
        "constraints.txt",
        "--extra",
        "monitor",
        "pyproject.toml",
        "-",
    ]
    done = subprocess.run(
        command, cwd=ROOT, input=BUILDS_THE_WHEEL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


def main(uv: str) -> None:
    requirements = re.findall(r"^\S.*(?:\n    .*)*\n", compiled(uv), re.MULTILINE)
    cuda = [each for each in requirements if OF_CUDA.match(each)]
    plain = [each for each in requirements if each not in cuda]
    for (name, head), lines in zip(HEADS.items(), (plain, cuda), strict=True):
        (ROOT / name).write_text(head + "".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
