"""The examples that end each help are run as they stand, where a job of their names is."""

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_app.cli.command_words import EXAMPLES
from tests.support.command_runs import HOLDFAST, environment, running
from tests.support.jobs_and_inputs import write_fasta
from tests.support.model_directories import save_esm2
from tests.support.waiting import wait_for

MODEL = re.compile(r"(facebook|sentence-transformers)/[\w.-]+")
ENDED_BY_ITS_READER = {"dashboard", "worker"}
OF_A_JOB_AT_WORK = {"pause", "unpause", "cancel"}
"""On one that has ended they say so, with 1."""
EVERY = [(command, line) for command, lines in EXAMPLES.items() for line in lines]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("examples")
    write_fasta(home / "proteins.fasta", 20)
    (home / "texts.csv").write_text("id,text\na,hello\n")
    save_esm2(home / "pickled-model")
    _pickle(home / "pickled-model")
    job = ["embed", "proteins.fasta", "-m", "mock:8", "-o", "out.h5", "--device", "cpu", "--workers", "1"]
    subprocess.run([*HOLDFAST, *job], cwd=home, env=environment(), check=True, capture_output=True)
    return home


def _pickle(model: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(model / "model.safetensors"), model / "pytorch_model.bin")
    (model / "model.safetensors").unlink()


@pytest.fixture
def place(home: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of what the examples name, to be changed."""
    shutil.copytree(home, tmp_path / "place")
    return tmp_path / "place"


def words(line: str, server_url: str) -> list[str]:
    """With the model, the server and the devices that are here."""
    here = MODEL.sub("mock:8", line).replace("redis://HOST:6379/0", server_url)
    return shlex.split(here.replace("gpu0 gpu1", "cpu7 cpu8"))[1:]


@pytest.mark.parametrize(
    ("command", "line"), [each for each in EVERY if each[0] not in ENDED_BY_ITS_READER], ids=lambda each: each
)
def test_an_example_runs_as_it_stands(place: Path, server_url: str, command: str, line: str) -> None:
    if command in ("embed", "enqueue"):
        shutil.rmtree(place / "out.h5.holdfast")
        for path in place.glob("out.h5*"):
            path.unlink()
    more = {"enqueue": ["--queues", "cpu9"], "embed": ["--device", "cpu"], "doctor": ["--json"]}
    named = {"drain": {"HOLDFAST_BROKER_URL": server_url}}.get(command, {})
    ended = subprocess.run(
        [*HOLDFAST, *words(line, server_url), *more.get(command, [])],
        cwd=place, env=environment(**named), capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    if command in OF_A_JOB_AT_WORK:
        assert (ended.returncode, "nobody works on this job now" in ended.stderr) == (1, True), ended.stderr
    elif command == "drain":
        assert "no worker HOST" in ended.stderr or "HOST" in ended.stderr
    elif command != "doctor":  # whose exit code is about this machine
        assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "line"), [each for each in EVERY if each[0] in ENDED_BY_ITS_READER], ids=lambda each: each
)
def test_an_example_that_serves_comes_up_and_ends_in_order(
    place: Path, server_url: str, monkeypatch: pytest.MonkeyPatch, command: str, line: str
) -> None:
    monkeypatch.chdir(place)
    said = place / "said"
    with said.open("w") as file, running(*words(line, server_url), output=file.fileno()) as process:
        up = "http://" if command == "dashboard" else "ready."
        wait_for(lambda: up in said.read_text(), f"{line} to come up")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) in (0, 130)
