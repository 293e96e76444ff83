"""What the parts of the check share: the device, its clock, and models whose weights are made on it."""

import os
import tomllib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.common.esm2_shapes import SHAPES
from benchmarks.common.hollow_models import hollow_esm2
from gpu_tasks import load_model
from gpu_tasks.inference.batch_plan import BatchPlan
from gpu_tasks.inference.model import Dtype, KernelChoice
from gpu_tasks.inference.plan_batches import plan_batches
from gpu_tasks.models.kernels.choose import fused_by
from gpu_tasks.models.packed import PackedModel
from gpu_tasks.models.weights import Weights
from queue_app.ingest.open_dataset import token_budget
from tests.support import ROOT

Value = float | int | str | bool


@dataclass(frozen=True, slots=True)
class Found:
    """A line of the result: what was looked at, and what was found, by name and with its unit."""

    what: str
    values: dict[str, Value] = field(default_factory=dict)

    def __str__(self) -> str:
        told = (
            f"{name} {value:,.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.values.items()
        )
        return f"{self.what}: {', '.join(told)}" if self.values else self.what


@dataclass(frozen=True, slots=True)
class Check:
    """`device` is cuda or cpu; a rehearsal computes the same at tiny sizes. Models lie in `home`."""

    device: str
    home: Path
    is_rehearsal: bool

    @property
    def shapes(self) -> tuple[str, ...]:
        return ("tiny",) if self.is_rehearsal else ("8M", "35M", "150M", "650M", "3B")

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16

    @property
    def kernels(self) -> tuple[KernelChoice, ...]:
        """Those of our own first, where this device can have them."""
        return ("fused", "plain") if self.compiler else ("plain",)

    @property
    def compiler(self) -> str | None:
        """Of our own kernels; None where there are none."""
        return fused_by(torch.device(self.device, 0) if self.device == "cuda" else torch.device("cpu"))

    def size(self, number: int, rehearsed: int) -> int:
        return rehearsed if self.is_rehearsal else number

    @property
    def seconds(self) -> float:
        """How long something is watched."""
        return 0.2 if self.is_rehearsal else 3.0

    def budget(self, shape: str) -> int:
        """The tokens of a batch, as a job has them."""
        of = SHAPES[shape]
        parameters = of.num_layers * (4 * of.dim**2 + 2 * of.dim * of.inner)
        return 1024 if self.is_rehearsal else token_budget("cuda", "bfloat16", parameters)

    def load(
        self,
        shape: str,
        *,
        dtype: Dtype = "bfloat16",
        num_layers: int | None = None,
        device: str | None = None,
        kernels: KernelChoice = "fused",
    ) -> PackedModel:
        """Weights of chance, the same on every device up to their last bits."""
        directory = hollow_esm2(self.home, shape, num_layers=num_layers)
        with random_weights():
            model = load_model(str(directory), device=device or self.device, dtype=dtype, kernels=kernels)
        assert isinstance(model, PackedModel)
        return model

    def settle(self) -> None:
        if self.device != "cpu":
            torch.cuda.synchronize()

    def milliseconds(self, call: Callable[[], object], times: int = 20) -> float:
        """The median of so many calls, by the device's own clock where it has one."""
        for _ in range(3):
            call()
        self.settle()
        return median(self._once(call) for _ in range(self.size(times, 3)))

    def _once(self, call: Callable[[], object]) -> float:
        if self.device == "cpu":
            started = perf_counter()
            call()
            return 1000 * (perf_counter() - started)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    def randn(self, *shape: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.randn(*shape, device=self.device, dtype=dtype or self.dtype)

    def plan(self, model: PackedModel, budget: int, num_tokens: int) -> BatchPlan:
        """Of proteins as long as those of UniProt are, about so many tokens in all."""
        rng = np.random.default_rng(1)
        tokens = [
            rng.integers(4, 24, length, dtype=np.int32) for length in lengths(max(num_tokens // 250, 40))
        ]
        return plan_batches(
            tokens, range(len(tokens)), prefix=model.prefix, suffix=model.suffix, toks_per_batch=budget,
            max_length=model.max_length, long="window", window_overlap=0,
        )  # fmt: skip


def of_checkout(home: Path) -> dict[str, str]:
    """The environment of a command of the checkout, with a version where it is not installed."""
    try:
        version("holdfast")
    except PackageNotFoundError:
        said = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
        metadata = home / "metadata" / f"holdfast-{said}.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True, exist_ok=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: holdfast\nVersion: {said}\n")
    path = [str(ROOT), str(home / "metadata"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))}


def lengths(number: int) -> list[int]:
    """Log-normal about 250 residues."""
    drawn = np.random.default_rng(0).lognormal(np.log(250) - 0.18, 0.6, number)
    return [int(each) for each in np.clip(drawn, 4, 1022)]


@contextmanager
def random_weights() -> Iterator[None]:
    """Weights are made where they are wanted: the files of the models that load here are all zeros."""
    read = Weights.tensor

    def tensor(self: Weights, name: str, *shape: int, scale: float = 1.0) -> torch.Tensor:
        stored = read(self, name, *shape, scale=scale)
        generator = torch.Generator(device=stored.device).manual_seed(zlib.crc32(name.encode()))
        made = torch.randn(stored.shape, generator=generator, device=stored.device)
        if len(shape) > 1:
            made *= shape[-1] ** -0.5
        else:
            made = 1 + 0.1 * made if name.endswith("weight") else 0.02 * made
        return (made * scale).to(stored.dtype)

    with patch.object(Weights, "tensor", tensor):
        yield
