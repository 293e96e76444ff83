"""HDF5 and a disk that takes no more."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from queue_app.outputs.hdf5_file import new_file

WRITE = """
import resource, sys
from pathlib import Path
from queue_app.outputs.hdf5_file import new_file

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with new_file(Path(sys.argv[1])) as (file, output):
        for number in range(3000):
            file.create_dataset(str(number), data=[1.0] * 64).attrs["original_id"] = "p" * 50
            output.raise_failure()
except OSError as error:
    print(error.errno, number)
"""


@pytest.mark.parametrize("limit", [1_000, 300_000, 1_500_000])
def test_a_write_that_fails_is_an_error_and_never_the_death_of_the_process(
    tmp_path: Path, limit: int
) -> None:
    command = [sys.executable, "-c", WRITE, str(tmp_path / "a.h5"), str(limit)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    number, reached = map(int, ended.stdout.split())
    assert number == errno.EFBIG
    assert reached < 2999, "and nothing is made in vain"
    assert (tmp_path / "a.h5").stat().st_size <= limit


def test_an_error_of_the_writers_own_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="nothing"), new_file(tmp_path / "a.h5") as (file, _):
        file["nothing"]
