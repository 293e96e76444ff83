"""Tokens per second of 650M by the tokens of a batch: does this device want the budgets that jobs have?"""

from collections.abc import Iterator

from benchmarks.gpu.check import Check, Found
from benchmarks.gpu.parts.speed import watched


def run(check: Check) -> Iterator[Found]:
    model = check.load("tiny" if check.is_rehearsal else "650M")
    for budget in (512, 1024) if check.is_rehearsal else (4096, 8192, 16384, 32768, 65536, 131072):
        plan = check.plan(model, budget, max(8 * budget, check.size(1_000_000, 0)))
        yield Found(f"batches of {budget:,} tokens", watched(check, model, plan, check.seconds / 2))
