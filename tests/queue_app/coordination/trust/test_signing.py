"""A fleet's keys: who holds one is believed, and they are exchanged without a pause."""

from itertools import pairwise
from pathlib import Path

import pytest

from queue_app.coordination.trust.key_file import write_key_file
from queue_app.coordination.trust.signing import KeyRing, read_key_file
from queue_app.errors import UsageError
from tests.support.command_runs import holdfast

OLD, NEW = (f"{name} {name * 16}" for name in ("old", "new"))


def ring(path: Path, *lines: str) -> KeyRing:
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(0o600)
    return read_key_file(path)


def test_only_what_was_signed_is_accepted_and_only_as_what_it_was_signed(tmp_path: Path) -> None:
    keys = ring(tmp_path / "key", OLD)
    signature = keys.sign("lease", "job", 1, "ab", "c")
    assert keys.accepts(signature, "lease", "job", 1, "ab", "c")
    assert not keys.accepts(signature, "lease", "job", 1, "a", "bc")
    assert not keys.accepts(signature, "job", "job", 1, "ab", "c")
    assert not keys.accepts(signature[:-1], "lease", "job", 1, "ab", "c")
    for odd in ("", ":", "old:", None, 5, "old:ü"):
        assert not keys.accepts(odd, "lease", "job", 1, "ab", "c")


def test_a_key_is_exchanged_without_a_pause(tmp_path: Path) -> None:
    """Appended on every host, then first on every host, then alone: at each step all believe each other."""
    steps = [ring(tmp_path / "key", *lines) for lines in ((OLD,), (OLD, NEW), (NEW, OLD), (NEW,))]
    for before, after in pairwise(steps):
        assert after.accepts(before.sign("lease", 1), "lease", 1)
        assert before.accepts(after.sign("lease", 1), "lease", 1)
    assert not steps[-1].accepts(steps[0].sign("lease", 1), "lease", 1), "the old one was dropped"


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "short secret\n", f"{OLD}\n{OLD}\n", f"{OLD} more\n", "é " + "x" * 40]
)
def test_what_is_no_key_file_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match=str(path)):
        read_key_file(path)


def test_a_key_that_others_can_read_is_none(tmp_path: Path) -> None:
    ring(tmp_path / "key", OLD)
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        read_key_file(tmp_path / "key")


def test_a_new_key_is_for_its_user_alone_and_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "fleet.key"
    assert write_key_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    written = path.read_bytes()
    assert read_key_file(path)
    assert not write_key_file(path)
    assert path.read_bytes() == written


def test_the_command_writes_a_key_and_refuses_where_a_file_is(tmp_path: Path) -> None:
    holdfast("key-file", tmp_path / "fleet.key")
    assert read_key_file(tmp_path / "fleet.key")
    assert "stays" in holdfast("key-file", tmp_path / "fleet.key", expect=2).stderr
    holdfast("key-file", tmp_path / "not there" / "fleet.key", expect=2)
