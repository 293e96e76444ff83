"""Find a model and have its directory read: by a child process, as transformers has no place in this one."""

import re
import subprocess
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

import xxhash

from queue_app.errors import ModelError
from queue_app.host.child_processes.json_child import ChildFailed, JsonChild
from queue_app.host.processes import PYTHON, how_it_ended
from queue_app.model.cache import find_reading, keep_reading, reading_key
from queue_app.model.short_names import HUB_IDS, hub_id_of
from queue_app.model.spec import (
    MOCK,
    MOCK_LAYERS,
    MOCK_MAX_LENGTH,
    EncoderSpec,
    FoundModel,
    ModelSpec,
    TokensSpec,
    parse_spec,
)
from queue_app.shown import visible

MODULE = "gpu_tasks.model_directory"
MEMORY_MOST = 8 << 30
"""Bytes that the child may have: it imports torch, and runs what has up to 200 million parameters."""
STANDSTILL_SECONDS = 120.0
"""So long it may compute without reading a byte."""
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PICKLES_WANTED = "no model.safetensors"
"""What the reader says of a directory without weights, as pickled ones are not fetched."""
ONLY_PICKLES_ON_HUB = (
    "{}: the hub has no *.safetensors of it: --revision refs/pr/N takes a conversion that was "
    "proposed there; or download it, and run holdfast convert on the directory"
)
HUB_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.tiktoken", "*.codes", "*.spm", "*.bpe"]


def find_model(ref: str, *, rules: str = "auto", revision: str | None = None) -> FoundModel:
    """Look at `mock:DIM`, a model directory, a hub id, or a short name (short_names.py) of one.

    Args:
        rules: how sequences are written for the model: auto, or a name of the table in
            gpu_tasks.model_directory.token_rules.
        revision: branch, tag or commit of a hub model.

    Raises:
        ModelError: there is no such model, or its directory cannot be used; says what to do.
    """
    return start_finding(ref, rules=rules, revision=revision)()


def start_finding(ref: str, *, rules: str = "auto", revision: str | None = None) -> Callable[[], FoundModel]:
    """Begin to look at once: what is returned waits for the model. Both raise ModelError."""
    if ref.startswith("mock:"):
        found = FoundModel(_mock(ref))
        return lambda: found
    path, name, commit = locate(ref, revision)
    key = reading_key(path, rules)
    if key and (kept := find_reading(key, path, name, commit)):
        return lambda: kept
    child = JsonChild([*PYTHON, "-m", MODULE, str(path), name, rules, commit], memory_most=MEMORY_MOST)

    def result() -> FoundModel:
        try:
            answer = child.answer(standstill_seconds=STANDSTILL_SECONDS)
        except subprocess.TimeoutExpired:
            raise ModelError(
                f"{path}: not readable: its reader came no further in {STANDSTILL_SECONDS:.0f} s"
            ) from None
        except ChildFailed as error:
            said = visible(error.last_line) or f"its reader {how_it_ended(error.exit_status)}"
            raise ModelError(f"{path}: not readable: {said}") from None
        if "error" in answer:
            pickled = commit and PICKLES_WANTED in answer["error"]
            raise ModelError(ONLY_PICKLES_ON_HUB.format(name) if pickled else answer["error"])
        found = FoundModel(parse_spec(answer["spec"]), answer["tokenizer"])
        if key and key == reading_key(path, rules):  # nothing came meanwhile
            keep_reading(key, answer)
        return found

    return result


def _mock(ref: str) -> ModelSpec:
    match = MOCK.fullmatch(ref)
    dim = int(match["dim"]) if match else 0
    if not dim:
        raise ModelError(f"{ref}: write mock:DIM or mock:DIM,delay_ms=N, as in mock:16")
    name = f"mock:{dim}"
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
    hub_id = hub_id_of(ref) or ref
    if HUB_ID.fullmatch(hub_id) and not hub_id.startswith("."):
        snapshot = _from_hub(hub_id, revision)
        return snapshot, hub_id, snapshot.name
    raise ModelError(f"{ref}: no such model: {_meant(ref)}")


def _meant(ref: str) -> str:
    near = get_close_matches(ref.lower().replace("_", "-"), HUB_IDS, n=1, cutoff=0.75)
    if near:
        return f"is {HUB_IDS[near[0]]} meant?"
    return "give a directory, a hub id such as facebook/esm2_t6_8M_UR50D, or mock:DIM"


def _from_hub(ref: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(ref, revision=revision, allow_patterns=HUB_PATTERNS))
    except Exception as error:  # the hub client's errors have no common class below Exception
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{ref}: no such directory, and the hub does not give it: {reason}") from None
