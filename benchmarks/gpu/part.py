"""`python -m benchmarks.gpu.part PART DEVICE HOME [--rehearsal]`: one part; its findings as lines of JSON."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.gpu.check import Check


def main(part: str, device: str, home: str, *options: str) -> None:
    check = Check(device, Path(home), is_rehearsal="--rehearsal" in options)
    for found in importlib.import_module(f"benchmarks.gpu.parts.{part}").run(check):
        print(json.dumps({**asdict(found), "text": str(found)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
