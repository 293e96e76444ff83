"""`python -m tests.campaigns.cuda_standin.inside PART`: one part, in a process whose CUDA is the stand-in."""

import importlib
import json
import sys
from dataclasses import asdict

from tests.campaigns.cuda_standin.standin import Standin


def main(part: str) -> None:
    """Every finding is a line of JSON."""
    module = importlib.import_module(f"tests.campaigns.cuda_standin.parts.{part}")
    for finding in module.check(Standin()):
        print(json.dumps(asdict(finding)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
