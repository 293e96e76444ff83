"""Is every acknowledged commit in the store that a crash left, and can its new owner go on?"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import xxhash

import checkpoint.store
from checkpoint import Block, CheckpointStore
from checkpoint.verify import StoreReport, verify_store
from tests.campaigns.power_loss import forks
from tests.campaigns.power_loss.operations import Recording
from tests.campaigns.power_loss.shapes import SHAPES, State
from tests.campaigns.power_loss.verdict import Verdict
from tests.campaigns.power_loss.writers import TOKEN, blocks_of
from tests.support.blocks_and_stores import make_block, open_store, scan

STORE = "00000.lmdb"
ONE_MORE = 1_000_000
Verify = Callable[[Path], StoreReport]

IN_NEW_PROCESS = 25
"""The first of so many images is verified as the product does it, in a new process; the others in a fork."""


class StoreJudge:
    def __init__(self, recording: Recording, shape: str) -> None:
        self.recording = recording
        states = [State.from_json(json.loads(text)) for text in recording.marks()]
        self.states = [State(), *states]
        every = sorted(frozenset[int]().union(*(state.batches for state in states)))
        self.digests = {block.batch_idx: digest(block) for block in blocks_of(SHAPES[shape], every)}
        self.num_judged = 0

    def judge(self, home: Path, moment: int) -> Verdict:
        """The store was opened when its first mark was told; before that it only has to open."""
        told = len(self.recording.marks(moment))
        before, after = self.states[told], self.states[min(told + 1, len(self.states) - 1)]
        verify = forks.verify_store if self.num_judged % IN_NEW_PROCESS else verify_store
        self.num_judged += 1
        try:
            # A fork, as the image may kill whoever opens it; what is patched there stays there.
            return forks.in_fork(partial(self._judge, home / STORE, before, after, told > 0, verify))
        except forks.Died as died:
            return Verdict(len(before.batches), lost=tuple(before.batches), broken=f"opening: {died}")

    def _judge(self, path: Path, before: State, after: State, opened: bool, verify: Verify) -> Verdict:
        setattr(checkpoint.store, "verify_store", verify)  # noqa: B010 - in this fork alone
        kept = before.batches & after.batches
        report = verify(path)
        if opened and not report.readable:
            return Verdict(len(kept), lost=tuple(kept), broken=f"verify: {report.error}")
        if opened and report.token != TOKEN:
            return Verdict(len(kept), broken=f"the fencing token is {report.token}")
        with open_store(path, token=TOKEN + 1) as store:
            found = State(store.committed(), frozenset(entry.ordinal for entry in store.quarantine()))
            wrong = tuple(self._wrong(store))
            store.commit([make_block(ONE_MORE)], token=TOKEN + 1)
        return Verdict(
            checked=len(kept),
            lost=tuple(sorted(kept - found.batches)),
            damaged=tuple(sorted({*report.damaged, *wrong})),
            broken=" and ".join(_broken(path, found, before, after)),
        )

    def _wrong(self, store: CheckpointStore) -> Iterator[int]:
        """Batches whose vectors are not those that were committed."""
        for index, block in scan(store):
            if block is None or digest(block) != self.digests.get(index):
                yield index


def _broken(path: Path, found: State, before: State, after: State) -> Iterator[str]:
    if found not in (before, after):
        yield f"half a commit: {len(found.batches)} batches, {len(found.quarantined)} quarantined"
    with CheckpointStore.open_readonly(path) as store:
        if ONE_MORE not in store.committed():
            yield "the new owner's commit is gone"


def digest(block: Block) -> str:
    """Of all that a block holds."""
    state = xxhash.xxh3_128(block.ordinals.tobytes())
    state.update(block.embeddings.tobytes())
    return f"{state.hexdigest()} {block.embeddings.shape} {block.split}"
