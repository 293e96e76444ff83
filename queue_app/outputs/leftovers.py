"""What killed processes leave beside an output: files that they were writing, under temporary names."""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from queue_app.job.output_names import target_of


def remove_leftovers(paths: Iterable[Path], ending: Literal["tmp", "old"]) -> None:
    """Remove what was begun to be any of these files (`tmp`), or stood in its place (`old`).

    For whoever holds the lock on them: nobody else is writing them now.
    """
    for path in map(target_of, paths):
        theirs = re.compile(rf"\.{re.escape(path.name)}\.\d+\.{ending}")
        for found in [each for each in path.parent.iterdir() if theirs.fullmatch(each.name)]:
            if found.is_dir():
                shutil.rmtree(found)
            else:
                found.unlink()
