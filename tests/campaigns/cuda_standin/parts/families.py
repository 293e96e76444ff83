"""Every family, dtype and pool goes through torch's CUDA code, with warnings as errors."""

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.common.hollow_models import hollow_esm2
from gpu_tasks import AsyncInferenceRunner, load_model
from gpu_tasks.inference.model import EmbeddingModel
from gpu_tasks.models.layers import biased_runs
from tests.campaigns.cuda_standin.standin import Finding, Standin
from tests.support.families import save_t5
from tests.support.jobs_and_inputs import protein
from tests.support.model_directories import plan_for, save_bert, save_mosaic, save_mpnet, save_roberta

DTYPES = ("bfloat16", "float16", "float32")
POOLS = ("mean", "mean,cls,max,last", "none")
TEXTS = [
    " ".join(["the", "cat", "red", "not"][number % 4] for number in range(length)) for length in (1, 3, 3, 50)
]
PROTEINS = [protein(number)[:length] for number, length in enumerate((1, 5, 5, 30, 30))] + [protein(7) * 12]
FAMILIES: dict[str, Callable[[Path], Path]] = {
    **{
        f"ESM-2 {shape}": lambda home, shape=shape: hollow_esm2(home, shape, num_layers=2)  # type: ignore[misc]
        for shape in ("8M", "35M", "150M", "650M", "3B")
    },
    "BERT": lambda home: save_bert(home / "bert"),
    "BERT, heads of 20": lambda home: save_bert(home / "bert20", hidden_size=80, num_attention_heads=4),
    "RoBERTa": lambda home: save_roberta(home / "roberta"),
    "MPNet": lambda home: save_mpnet(home / "mpnet"),
    "MosaicBERT": lambda home: save_mosaic(home / "mosaic"),
    "T5": lambda home: save_t5(home / "t5"),
}


def check(standin: Standin) -> Iterator[Finding]:
    warnings.simplefilter("error")
    # Of other packages, about themselves.
    warnings.filterwarnings("ignore", message=".*(pynvml|triton|Triton).*")
    with tempfile.TemporaryDirectory() as folder, standin.pretending(scale=0.0):
        for family, make in FAMILIES.items():
            directory = make(Path(folder))
            for dtype in DTYPES:
                yield _computed(family, directory, dtype)


def _computed(family: str, directory: Path, dtype: str) -> Finding:
    """With every pool, and stored in both dtypes."""
    attention = ""
    for pool in POOLS:
        for stored in ("float32", "float16"):
            layers = (0, -1) if "," in pool else (-1,)
            case = f"{family}, {dtype}, {pool}, stored as {stored}"
            try:
                model = load_model(str(directory), device="cuda", dtype=dtype, pool=pool, layers=layers)
                plan = plan_for(
                    model, PROTEINS if family.startswith(("ESM", "T5")) else TEXTS, toks_per_batch=700
                )
                results = list(AsyncInferenceRunner(model, store_dtype=stored).run(plan))  # type: ignore[arg-type]
            except Exception as error:  # whatever it is, it is the finding
                return Finding(False, f"{case}: {type(error).__name__}: {str(error)[:300]}")
            if sum(len(result.ordinals) for result in results) != sum(
                plan.batch(i).num_rows for i in range(plan.num_batches)
            ):
                return Finding(False, f"{case}: rows are missing")
            attention = _attention(model)
    return Finding(True, f"{family}, {dtype}: {attention}, {len(POOLS)} pools stored in two dtypes")


def _attention(model: EmbeddingModel) -> str:
    """What computes it: the function that is chosen for it; T5 and transformers have none to choose."""
    kernels = getattr(model.encoder, "kernels", None)  # type: ignore[attr-defined]
    if kernels is None:
        return "its own"
    chosen = kernels.attention if kernels.biased is biased_runs else kernels.biased
    return str(getattr(chosen, "func", chosen).__name__)
