"""What the shells are offered: asked as bash asks, with the words and the place of the cursor."""

import subprocess
from pathlib import Path

import pytest

from tests.support.command_runs import HOLDFAST, environment

OFFERED = {
    "holdfast emb": ["embed"],
    "holdfast embed a.fasta --lay": ["--layers"],
    "holdfast embed --dtype b": ["bfloat16"],
    "holdfast status ": ["a.h5", "b.npy.holdfast"],
    "holdfast verify ./b": ["./b.npy.holdfast"],
    "holdfast export sub/": ["sub/c.h5.holdfast"],
}


@pytest.mark.parametrize(("line", "expected"), OFFERED.items())
def test_bash_completes_commands_options_values_and_jobs(
    tmp_path: Path, line: str, expected: list[str]
) -> None:
    for name in ("a.h5.holdfast", "b.npy.holdfast", "sub/c.h5.holdfast"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a.h5").touch()
    asked = {"_HOLDFAST_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    ended = subprocess.run(
        HOLDFAST, cwd=tmp_path, env=environment(**asked), capture_output=True, text=True, timeout=60
    )
    assert ended.stdout.split() == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_is_shown(shell: str) -> None:
    asked = environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    command = [*HOLDFAST, "--show-completion", shell]
    ended = subprocess.run(command, env=asked, capture_output=True, text=True, timeout=60)
    assert f"_HOLDFAST_COMPLETE=complete_{shell}" in ended.stdout
