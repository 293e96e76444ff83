"""`python -m benchmarks.exact`: what `--exact` costs on the processor, as the ratio of two times.

The same texts, planned as a job plans them, with and without, in turn; of several rounds the best of each.
"""

import argparse
import random
import tempfile
from pathlib import Path
from time import perf_counter

from gpu_tasks.inference.runner import AsyncInferenceRunner
from tests.campaigns.companies.campaign import BUDGET, load_exact_model
from tests.campaigns.companies.models import FAMILIES
from tests.support.model_directories import plan_for


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exact", description=__doc__)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    print("| family | without, s | with, s | with / without |", "|---|---|---|---|", sep="\n")
    with tempfile.TemporaryDirectory(prefix="exact-") as folder:
        for name, kind in FAMILIES.items():
            path = kind.save(Path(folder) / name)
            chosen = random.Random(1)
            texts = [
                kind.between.join(chosen.choices(kind.letters, k=chosen.randint(5, 300)))
                for _ in range(asked.texts)
            ]
            best = {False: float("inf"), True: float("inf")}
            models = {
                exact: load_exact_model(path, "float32", asked.threads, "mean", (-1,), exact=exact)
                for exact in best
            }
            for _ in range(asked.rounds):
                for exact, model in models.items():
                    plan, began = plan_for(model, texts, toks_per_batch=BUDGET), perf_counter()
                    for _ in AsyncInferenceRunner(model).run(plan):
                        pass
                    best[exact] = min(best[exact], perf_counter() - began)
            print(
                f"| {name} | {best[False]:.2f} | {best[True]:.2f} | {best[True] / best[False]:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
