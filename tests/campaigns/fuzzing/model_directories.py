"""Model directories with one thing changed at random: the reference's vectors or a refusal, nothing else.

    python -m tests.campaigns.fuzzing.model_directories [--first SEED] [--seeds N] [--command] [--structures]

A seed chooses a model of the zoo and the change; with --structures one that is meant to break its reader.
Each is judged by a process of its own, so that a death or a hang is a verdict like any other. Each
disagreement is named with its seed, which makes the same directory again; with one seed alone the directory
stays, and is named.
"""

import argparse
import multiprocessing
import random
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gpu_tasks import load_model
from gpu_tasks.errors import ModelLoadError, first_line
from queue_app.errors import ModelError
from queue_app.host.child_processes.confined_child import confine
from tests.campaigns.fuzzing.changes import Change, change_directory
from tests.campaigns.fuzzing.structures import break_directory
from tests.support.command_runs import HOLDFAST, environment
from tests.support.model_directories import embed
from tests.zoo import bases, proteins, texts, unusable
from tests.zoo.inputs import watched
from tests.zoo.records import ANTIBODIES, PLAIN_DNA, TEXTS
from tests.zoo.reference import (
    ANKH,
    PLAIN,
    PROTBERT,
    PROTT5,
    Reading,
    Vectors,
    differences,
    dnabert,
    sentence_vectors,
    transformers_vectors,
)
from tests.zoo.sentences import Make, sentences

MOST = 1e-5
SEEDS = 200
SECONDS_MOST = 240
MEMORY_MOST = 8 << 30
LINE_MOST = 2_000
BY_COMMAND = 20
"""One seed of so many also goes through the command."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is changed, and how its sequences are to be read."""

    make: Make
    records: tuple[str, ...] = TEXTS
    reading: Reading = PLAIN


_PROMPTS = {"prompts": {"query": "query: "}, "default_prompt_name": "query", "truncate_dim": None}
MODELS: dict[str, Model] = {
    "esm2": Model(proteins.esm2, ANTIBODIES),
    "esm1v": Model(proteins.esm1v, ANTIBODIES),
    "esmc": Model(proteins.esmc, ANTIBODIES),
    "protbert": Model(proteins.igbert, ANTIBODIES, PROTBERT),
    "prott5": Model(proteins.prott5, ANTIBODIES, PROTT5),
    "ankh": Model(proteins.ankh, ANTIBODIES, ANKH),
    "dnabert3": Model(partial(bases.dnabert, length=3), PLAIN_DNA, dnabert(3)),
    "nucleotides": Model(bases.nucleotide_transformer, PLAIN_DNA),
    "bert": Model(texts.bert),
    "bert_in_parts": Model(unusable.changed(texts.bert, unusable.in_parts)),
    "bert_vocabulary": Model(texts.bert_of(lower=True, files=("vocab.txt",))),
    "roberta": Model(texts.roberta_of(("vocab.json", "merges.txt", "tokenizer.json"))),
    "mpnet": Model(texts.other("mpnet")),
    "qwen3": Model(texts.other("qwen3")),
    "modernbert": Model(texts.other("modernbert")),
    "sentences": Model(sentences(modules=("Pooling", "Normalize"))),
    "sentences_dense": Model(sentences(modules=("Pooling", "Dense", "Normalize"))),
    "sentences_prompt": Model(sentences(settings=_PROMPTS, flags=False)),
    "sentences_roberta": Model(sentences(texts.other("roberta"), folder="0_Transformer")),
    "sentences_qwen3": Model(sentences(texts.other("qwen3"), ("Pooling", "Normalize"), pool="lasttoken")),
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a changed directory. `wrong` says what must not be; None: nothing."""

    seed: int
    model: str
    change: str
    outcome: str
    wrong: str | None = None

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.model}: {self.change}: {self.wrong or self.outcome}"


Verdicts = Callable[..., Verdict]
"""Makes one of an outcome, and of what is wrong with it."""


def judge(seed: int, home: Path, *, by_command: bool = False, structures: bool = False) -> Verdict:
    """Change a model as the seed says, in a folder of `home`, and compare what is made of it."""
    name, directory, change = changed(seed, home, structures=structures)
    verdict = partial(Verdict, seed, name, change.words)
    try:
        ours = embed(load_model(str(directory)), MODELS[name].records, long="truncate")
    except (ModelError, ModelLoadError) as error:
        if "\n" in str(error) or len(str(error)) > LINE_MOST:
            return verdict("refused", f"refused by no line: {str(error)[:LINE_MOST]!r}")
        return command_refuses(verdict, directory, home) if by_command else verdict("refused")
    except Exception as error:
        return verdict("failed", f"fails with {type(error).__name__}: {first_line(error)}")
    wrong = disagreement(directory, MODELS[name], change, ours)
    if wrong or not by_command:
        return verdict("vectors", wrong)
    return command_gives(verdict, directory, home, MODELS[name], ours)


def judge_apart(seed: int, home: Path, *, by_command: bool = False, structures: bool = False) -> Verdict:
    """The same by a child, which may die of it, take too much memory, or not end."""
    for name in (*random.Random(seed).sample(sorted(MODELS), 2),):
        made(name, home)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_tell, args=(theirs, seed, home, by_command, structures))
    child.start()
    theirs.close()
    lost = partial(Verdict, seed, "?", "?", "lost")
    try:
        if not ours.poll(SECONDS_MOST):
            return lost(f"does not end within {SECONDS_MOST} s")
        verdict: Verdict = ours.recv()
        return verdict
    except EOFError:
        child.join()
        return lost(f"its reader died with {child.exitcode}")
    finally:
        child.kill()
        child.join()


def _tell(channel: Any, seed: int, home: Path, by_command: bool, structures: bool) -> None:
    confine(MEMORY_MOST)
    channel.send(judge(seed, home, by_command=by_command, structures=structures))


def changed(seed: int, home: Path, *, structures: bool = False) -> tuple[str, Path, Change]:
    """The model's name, its changed directory, and what was changed."""
    rng = random.Random(seed)
    name, other = rng.sample(sorted(MODELS), 2)
    directory = home / f"{seed}_{name}{'_broken' if structures else ''}"
    shutil.copytree(made(name, home), directory)
    if structures:
        return name, directory, break_directory(directory, rng)
    return name, directory, change_directory(directory, made(other, home), rng)


def made(name: str, home: Path) -> Path:
    """The model as it should be, made once."""
    path = home / name
    if not path.exists():
        path.mkdir()
        MODELS[name].make(path)
    return path


# ---- the reference


def disagreement(directory: Path, model: Model, change: Change, ours: Vectors) -> str | None:
    """Why these vectors are not what the directory means."""
    reasons = []
    for theirs in references(directory, model, change):
        if isinstance(theirs, Exception):
            reasons.append(
                f"vectors where the reference raises {type(theirs).__name__}: {first_line(theirs)}"
            )
        elif not np.isfinite(theirs).all() or (distance := differences(ours, theirs)) <= MOST:
            return None
        else:
            reasons.append(f"other vectors than the reference's, by {distance:.2g}")
    return reasons[0]


def references(directory: Path, model: Model, change: Change) -> Iterator[Vectors | Exception]:
    """What the directory may mean: it says not always whether transformers is to cut off, or how to read."""
    if (directory / "modules.json").exists():
        yield _tried(sentence_vectors, directory, model.records)
        return
    for reading in (model.reading, PLAIN) if change.swapped else (model.reading,):
        for truncation in (False, True):
            yield _tried(transformers_vectors, directory, model.records, reading, truncation=truncation)


def _tried(compute: Any, *arguments: Any, **options: Any) -> Vectors | Exception:
    try:
        vectors: Vectors = compute(*arguments, **options)
    except Exception as error:  # of any class
        return error
    return vectors


# ---- the command


def command_refuses(verdict: Verdicts, directory: Path, home: Path) -> Verdict:
    """`holdfast embed` must do so before it opens its input, with exit code 2, and leave nothing behind."""
    place = Path(tempfile.mkdtemp(dir=home))
    with watched(place / "input.fasta") as fifo:
        code, said = _embed(fifo.path, directory, place / "out.npy")
    left = sorted(path.name for path in place.iterdir() if path != fifo.path)
    if code != 2 or fifo.opened or left or "Traceback" in said:
        return verdict("refused", f"exit {code}, input read: {fifo.opened}, left: {left}: {said[-300:]}")
    return verdict("refused by the command")


def command_gives(verdict: Verdicts, directory: Path, home: Path, model: Model, ours: Vectors) -> Verdict:
    """The same vectors as in this process, or a refusal."""
    place = Path(tempfile.mkdtemp(dir=home))
    source = place / "input.csv"
    rows = "".join(f'{index},"{record}"\n' for index, record in enumerate(model.records))
    source.write_text("id,sequence\n" + rows)
    code, said = _embed(source, directory, place / "out.npy")
    if code == 2:
        return verdict("refused by the command")
    if code != 0:
        return verdict("vectors", f"exit {code}: {said[-300:]}")
    distance = differences(np.load(place / "out.npy"), ours)
    return verdict(
        "vectors by the command", f"the command's differ by {distance:.2g}" if distance > MOST else None
    )


def _embed(source: Path, directory: Path, output: Path) -> tuple[int, str]:
    command = [*HOLDFAST, "embed", source, "-m", directory, "-o", output, "--device", "cpu", "--workers", "1"]
    ended = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, env=environment(), timeout=170, check=False
    )
    return ended.returncode, ended.stderr


# ---- the campaign


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--command", action="store_true", help="each seed through the command too")
    parser.add_argument("--structures", action="store_true", help="changes that are meant to break a reader")
    chosen = parser.parse_args()
    torch.set_num_threads(1)  # before the first fork: threads do not come along
    warnings.simplefilter("ignore")
    home = Path(tempfile.mkdtemp(prefix="holdfast-models-"))
    outcomes: Counter[str] = Counter()
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        verdict = judge_apart(
            seed, home, structures=chosen.structures, by_command=chosen.command or seed % BY_COMMAND == 0
        )
        outcomes[f"WRONG: {verdict.outcome}" if verdict.wrong else verdict.outcome] += 1
        if verdict.wrong or chosen.seeds == 1:
            print(verdict, flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    if chosen.seeds == 1:
        print(home)
    else:
        with suppress(OSError):
            shutil.rmtree(home)
    return int(any(outcome.startswith("WRONG") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
