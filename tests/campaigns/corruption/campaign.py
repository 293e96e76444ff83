"""Judge many damages, and as many sound stores as there are states of the shapes.

    python -m tests.campaigns.corruption.campaign DAMAGES SEED    prints the summary as JSON

Judging forks, so it has a process of its own. Kinds and shapes take turns; the seed decides the places.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tests.campaigns.corruption.damages import DAMAGES
from tests.campaigns.corruption.judge import Outcome, Verdict, judge
from tests.campaigns.corruption.stores import SHAPES, SoundStore, make_store
from tests.campaigns.power_loss import forks
from tests.support import ROOT

IN_NEW_PROCESS = 25
"""The first of so many stores is verified as the product does it, in a new process, as well as in a fork."""
SECONDS_FOR_A_LOOK = 20
CLOSED = 0.25
"""So many of the stores were closed by their last owner, and are damaged after that."""
MEMORY = Path("/dev/shm")  # nothing here is about power: an fsync would only cost time


@dataclass(frozen=True, slots=True)
class Summary:
    """`outcomes` by kind of damage, as values of Outcome; `findings` are all that should not be."""

    damages: int
    outcomes: dict[str, dict[str, int]]
    broken: dict[str, int]
    sound_stores: int
    false_alarms: int
    seconds: float
    findings: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.findings

    def count(self, outcome: Outcome) -> int:
        return sum(counts.get(outcome.value, 0) for counts in self.outcomes.values())


def run(damages: int, seed: int) -> Summary:
    """In a process of its own. The same seed gives the same damages."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.campaigns.corruption.campaign", str(damages), str(seed)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    # Whoever asks must live: a signal here would be a store's.
    assert ended.returncode == 0, f"the judge ended with {ended.returncode}: {ended.stderr}"
    fields = json.loads(ended.stdout)
    return Summary(**{**fields, "findings": tuple(fields["findings"])})


# ---- in the process that judges


def judge_all(damages: int, seed: int) -> Summary:
    started = time.monotonic()
    forks.SECONDS_AT_MOST = SECONDS_FOR_A_LOOK
    outcomes: dict[str, Counter[str]] = {kind: Counter() for kind in DAMAGES}
    broken: Counter[str] = Counter()
    findings: list[str] = []
    with tempfile.TemporaryDirectory(prefix="holdfast-corruption-", dir=_home()) as home:
        stores = {
            name: make_store(Path(home) / f"{n}", shape) for n, (name, shape) in enumerate(SHAPES.items())
        }
        for number in range(damages):
            name, kind = _turn(number)
            verdict = _judge_damage(stores[name], kind, seed, number, Path(home))
            outcomes[kind][verdict.outcome.value] += 1
            broken[kind] += bool(verdict.broken)
            if not verdict.good:
                findings.append(
                    f"{kind} {seed}:{number} of {name}: {verdict.outcome.value}: {verdict.broken}"
                )
        sound = list(_judge_sound(stores, Path(home)))
    alarms = [f"false alarm on {name}: {verdict}" for name, verdict in sound if not verdict.good]
    return Summary(
        damages=damages,
        outcomes={kind: dict(counts) for kind, counts in outcomes.items()},
        broken=dict(broken),
        sound_stores=len(sound),
        false_alarms=len(alarms),
        seconds=time.monotonic() - started,
        findings=(*alarms, *findings),
    )


def _turn(number: int) -> tuple[str, str]:
    """Every kind meets every shape."""
    kinds, names = list(DAMAGES), list(SHAPES)
    turn, kind = divmod(number, len(kinds))
    return names[(turn + kind) % len(names)], kinds[kind]


def _judge_damage(sound: SoundStore, kind: str, seed: int, number: int, home: Path) -> Verdict:
    rng = random.Random(f"{seed}:{number}")
    closed = rng.random() < CLOSED
    data = DAMAGES[kind](sound, rng)
    with tempfile.TemporaryDirectory(dir=home) as directory:
        return judge(sound, data, Path(directory), closed=closed, in_new_process=number % IN_NEW_PROCESS == 0)


def _judge_sound(stores: dict[str, SoundStore], home: Path) -> Iterator[tuple[str, Verdict]]:
    """Every state that a store went through is sound, and can be gone on from."""
    for name, store in stores.items():
        for data in store.files:
            with tempfile.TemporaryDirectory(dir=home) as directory:
                verdict = judge(store, data, Path(directory), in_new_process=data is store.data)
            if verdict.outcome not in (Outcome.HARMLESS, Outcome.EARLIER):
                verdict = replace(verdict, broken=f"called {verdict.outcome.value} {verdict.broken}")
            yield name, verdict


def _home() -> str | None:
    return str(MEMORY) if os.access(MEMORY, os.W_OK) else None


if __name__ == "__main__":
    print(json.dumps(asdict(judge_all(int(sys.argv[1]), int(sys.argv[2])))))
