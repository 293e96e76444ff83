"""What the machine is."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict

import torch

from benchmarks.gpu.check import Check, Found
from gpu_tasks.inference.torch_device import hardware_id
from gpu_tasks.probes.device_facts import look
from queue_app.host.gpu_load import gpu_load

QUERY = (
    "nvidia-smi",
    "--query-gpu=index,name,driver_version,clocks.sm,power.limit,mig.mode.current",
    "--format=csv,noheader",
)


def run(check: Check) -> Iterator[Found]:
    facts = asdict(look())
    devices = facts.pop("devices")
    yield Found(
        "versions", {"python": sys.version.split()[0], **{name: str(value) for name, value in facts.items()}}
    )
    for device in devices:
        yield Found("device", {name: str(value) for name, value in device.items()})
    yield Found(
        "by NVML", {"load": str(gpu_load(hardware_id(check.device)) if check.device != "cpu" else None)}
    )
    yield Found("fused kernels", {"by": check.compiler or f"none on {check.device}"})
    yield Found("threads", {"torch": torch.get_num_threads()})
    with contextlib.suppress(OSError):
        for line in subprocess.run(QUERY, capture_output=True, text=True, check=False).stdout.splitlines():
            yield Found(f"nvidia-smi {line.strip()}")
