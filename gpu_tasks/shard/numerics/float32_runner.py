"""Computes in float32 what fewer bits do not hold: on the job's device, and else on the processor."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from gpu_tasks.errors import RecordTooLarge
from gpu_tasks.inference.batch_plan import TokenBatch
from gpu_tasks.inference.device_errors import Fault, fault_of
from gpu_tasks.inference.model import EmbeddingModel, StoreDtype
from gpu_tasks.inference.runner import AsyncInferenceRunner, InferenceResult

log = logging.getLogger(__name__)

PROCESSOR = "cpu"


@dataclass(slots=True)
class Float32Runner:
    """`load` gives the model in float32 on a device, the same one each time; `device` is the job's."""

    load: Callable[[str], EmbeddingModel]
    device: str
    store_dtype: StoreDtype = "float32"
    _has_room: bool = field(default=True, init=False)
    """False once the device was seen not to hold a second model."""

    def compute(self, batch: TokenBatch) -> InferenceResult:
        """Raises RecordTooLarge where the host's memory does not hold the batch either."""
        if self.device != PROCESSOR and (runner := self._on_device()):
            try:
                return runner.compute(batch)
            except RecordTooLarge as error:
                log.info("%s: %s; computed on the processor", self.device, error)
        return self._runner(PROCESSOR).compute(batch)

    def _on_device(self) -> AsyncInferenceRunner | None:
        try:
            return self._runner(self.device) if self._has_room else None
        except Exception as error:
            if fault_of(error) is not Fault.NO_ROOM:
                raise
            self._has_room = False
        log.info(
            "%s has no room for the model in float32: the processor computes what it is for", self.device
        )
        return None

    def _runner(self, device: str) -> AsyncInferenceRunner:
        return AsyncInferenceRunner(self.load(device), store_dtype=self.store_dtype)
