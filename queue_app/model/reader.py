"""Find a model and have its directory read: by a child process, as transformers has no place in this one."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import xxhash

from queue_app.errors import ModelError
from queue_app.host import die_with_parent
from queue_app.host.processes import PYTHON
from queue_app.host.surroundings import child_environment
from queue_app.model.cache import find_reading, keep_reading, reading_key
from queue_app.model.spec import EncoderSpec, ModelSpec, TokensSpec, parse_spec

MODULE = "gpu_tasks.model_directory"
MOCK = re.compile(r"mock:(\d{1,5})(,delay_ms=\d{1,6}|,(kill|hang|raise|lost|nan)=[A-Za-z]{1,32})*")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
MOCK_MAX_LENGTH = 1022
MOCK_LAYERS = 3
PICKLES_WANTED = "no model.safetensors"
"""What the reader says of a directory without weights, as pickled ones are not fetched."""
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.tiktoken", "*.codes", "*.spm", "*.bpe"]


@dataclass(frozen=True, slots=True)
class FoundModel:
    """What a model computes, and the text of its tokenizer where the job is to keep one."""

    spec: ModelSpec
    tokenizer: str | None = None


def find_model(ref: str, *, rules: str = "auto", revision: str | None = None) -> FoundModel:
    """Look at `mock:DIM`, a model directory, or a hub id.

    Args:
        rules: how sequences are written for the model: auto, or a name of the table in
            gpu_tasks.model_directory.token_rules.
        revision: branch, tag or commit of a hub model.

    Raises:
        ModelError: there is no such model, or its directory cannot be used; says what to do.
    """
    return start_finding(ref, rules=rules, revision=revision)()


def start_finding(ref: str, *, rules: str = "auto", revision: str | None = None) -> Callable[[], FoundModel]:
    """The same, begun at once: what is returned waits for it. Raises ModelError, as what is returned does."""
    if ref.startswith("mock:"):
        found = FoundModel(_mock(ref))
        return lambda: found
    path, name, commit = locate(ref, revision)
    key = reading_key(path, rules)
    if key and (kept := find_reading(key, path, name, commit)):
        return lambda: FoundModel(*kept)
    reading = _Reading([str(path), name, rules, commit], key)
    return reading.result if not commit else lambda: _of_hub(ref, reading)


def _of_hub(ref: str, reading: "_Reading") -> FoundModel:
    try:
        return reading.result()
    except ModelError as error:
        if PICKLES_WANTED not in str(error):
            raise
        raise ModelError(
            f"{ref}: the hub has no *.safetensors of it: --revision refs/pr/N takes a conversion that was "
            "proposed there; or download it, and run holdfast convert on the directory"
        ) from None


class _Reading:
    """The child process that reads the directory; what it answers is kept under `key`."""

    def __init__(self, arguments: list[str], key: str | None) -> None:
        self._directory, _, self._rules, _ = arguments
        self._key = key
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        launcher = [sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid())]
        self._process = subprocess.Popen(
            [*launcher, *PYTHON, "-m", MODULE, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=child_environment(),
        )

    def result(self) -> FoundModel:
        """Raises ModelError."""
        answered, _ = self._process.communicate()
        try:
            answer = json.loads(answered)
        except ValueError:
            raise ModelError(f"{self._directory}: not readable: {self._last_words()}") from None
        finally:
            self._said.close()
        if "error" in answer:
            raise ModelError(answer["error"])
        found = FoundModel(parse_spec(answer["spec"]), answer["tokenizer"])
        if self._key and self._key == reading_key(
            Path(self._directory), self._rules
        ):  # nothing came meanwhile
            keep_reading(self._key, answer)
        return found

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"its reader ended with {self._process.returncode}"


def _mock(ref: str) -> ModelSpec:
    match = MOCK.fullmatch(ref)
    if match is None or int(match[1]) < 1:
        raise ModelError(f"{ref}: write mock:DIM or mock:DIM,delay_ms=N, as in mock:16")
    name, dim = f"mock:{int(match[1])}", int(match[1])
    return ModelSpec(
        name=name,
        path=ref,
        family="mock",
        digest=xxhash.xxh3_128_hexdigest(name.encode()),
        num_parameters=0,
        alphabet="text",
        max_length=MOCK_MAX_LENGTH,
        pool="mean",
        encoder=EncoderSpec("", "mock", (), dim, MOCK_LAYERS, vocab_size=0, max_positions=None),
        tokens=TokensSpec("letters", (), ()),
    )


def locate(ref: str, revision: str | None) -> tuple[Path, str, str]:
    """The directory, the model's name, and the commit of a hub model."""
    path = Path(ref).expanduser()
    if path.is_dir():
        if revision is not None:
            raise ModelError(f"--revision {revision}: {ref} is a directory, which has no revisions")
        return path.absolute(), path.absolute().name, ""
    if path.exists():
        raise ModelError(f"{ref}: a file; -m takes the directory with config.json and *.safetensors")
    if HUB_ID.fullmatch(ref) and not ref.startswith("."):
        snapshot = _from_hub(ref, revision)
        return snapshot, ref, snapshot.name
    raise ModelError(
        f"{ref}: no such model: give a directory, a hub id such as facebook/esm2_t6_8M_UR50D, or mock:DIM"
    )


def _from_hub(ref: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=HUB_PATTERNS))
    except Exception as error:  # the hub client's errors have no common class below Exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{ref}: no such directory, and the hub does not give it: {reason}") from None
