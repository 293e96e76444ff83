"""The way of an `embed` through the rooms runs downwards."""

import subprocess
import sys

from tests.support import ROOT


def test_an_embed_enters_at_most_twelve_rooms_and_never_calls_up() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.support.way"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    *_, rooms, climbs = ended.stdout.splitlines()
    assert int(rooms.split()[0]) <= 12
    assert climbs == "0 calls that run up"
