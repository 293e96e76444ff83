"""The check of devices: what a job would compute on, in which dtype, with which attention, and why.

Torch is asked in a child process, as nothing here may import it.
"""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from rich.filesize import decimal

from queue_app.host.child_processes.json_child import ChildFailed, JsonChild
from queue_app.host.devices import BUS_ORDER, count_gpus, default_cpu_workers, is_emulated, num_cores
from queue_app.host.processes import PYTHON
from queue_app.host.surroundings import child_environment
from queue_app.preflight.findings import Finding
from queue_app.settings import RuntimeConfig

CHILD = [*PYTHON, "-m", "gpu_tasks.probes.device_facts"]
CHILD_SECONDS = 75.0
DRIVER_SECONDS = 10.0
BFLOAT16_SINCE = [8, 0]
"""Compute capability (Ampere); below it bfloat16 is emulated, and FlashAttention has no kernel."""
INSTALL_CUDA = "pip install --force-reinstall torch, without an index of CPU builds (PIP_EXTRA_INDEX_URL)"


def examine_devices(config: RuntimeConfig) -> Iterator[Finding]:
    """Torch, the driver and every device."""
    num_gpus = count_gpus(config)
    yield from _driver()
    try:
        facts = torch_facts()
    except (OSError, ChildFailed, subprocess.SubprocessError) as error:
        yield Finding("torch", "problem", f"cannot be imported: {error}", "pip install torch")
        return
    yield from describe_devices(facts, num_gpus)


def torch_facts() -> dict[str, Any]:
    """What gpu_tasks.probes.device_facts.TorchFacts holds. Raises ChildFailed, in torch's words."""
    child = JsonChild(CHILD, env=child_environment(CUDA_DEVICE_ORDER=BUS_ORDER))
    facts: dict[str, Any] = child.answer(timeout_seconds=CHILD_SECONDS, must_succeed=True)
    return facts


def _driver() -> Iterator[Finding]:
    if not shutil.which("nvidia-smi"):
        return
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, timeout=DRIVER_SECONDS, check=True)
        yield Finding("driver", "ok", f"NVIDIA {asked.stdout.splitlines()[0].strip()}")
    except (OSError, subprocess.SubprocessError, IndexError):
        remedy = "look at nvidia-smi and dmesg; a driver that was updated wants a restart"
        yield Finding("driver", "problem", "nvidia-smi does not answer as it should", remedy)


def describe_devices(facts: Mapping[str, Any], num_gpus: int) -> Iterator[Finding]:
    """What torch's facts mean for a job; `num_gpus` is how many GPUs this host has."""
    build = f"for CUDA {facts['cuda']}" if facts["cuda"] else "without CUDA"
    yield Finding(
        "torch", "ok", f"{facts['version']}, {build}; {facts['cpu_kernels']} kernels on the processor"
    )
    seen = facts["devices"]
    if num_gpus and not seen:
        yield _unseen(facts, num_gpus)
    elif num_gpus > len(seen):
        text = f"torch sees {len(seen)} of {num_gpus} GPUs"
        yield Finding("devices", "warning", text, "look at CUDA_VISIBLE_DEVICES and nvidia-smi")
    for index, device in enumerate(seen):
        yield _gpu(f"gpu{index}", device)
    if not num_gpus and not seen:
        yield _processor()
        yield Finding("attention", "ok", "a call for all rows of one length, as FlashAttention needs CUDA")


def _unseen(facts: Mapping[str, Any], num_gpus: int) -> Finding:
    gpus = f"{num_gpus} GPU{'s'[: num_gpus > 1]}"
    if not facts["cuda"]:
        return Finding("devices", "problem", f"{gpus}, but this torch is built without CUDA", INSTALL_CUDA)
    text = f"{gpus}, but CUDA does not start: {facts['error'] or 'torch sees no device'}"
    remedy = f"a driver that knows CUDA {facts['cuda']}, or a torch built for an older one"
    return Finding("devices", "problem", text, remedy)


def _gpu(queue: str, device: Mapping[str, Any]) -> Finding:
    text = f"{device['name']}, {decimal(device['memory_bytes'])}"
    if device["error"]:
        return Finding(
            queue, "problem", f"{text}: {device['error']}", "choose others with --device, restart the driver"
        )
    capability = ".".join(map(str, device["capability"]))
    if device["capability"] < BFLOAT16_SINCE:
        text += f", capability {capability}: bfloat16 is emulated, and attention takes a call for each length"
        return Finding(queue, "warning", text, "--dtype float16")
    if "bfloat16" in device["flash"]:
        return Finding(
            queue, "ok", f"{text}: bfloat16 and FlashAttention over whole batches, native since 8.0"
        )
    text += ": bfloat16; attention takes a call for each length, as this torch has no varlen kernel"
    return Finding(queue, "warning", text, "pip install 'torch>=2.10'")


def _processor() -> Finding:
    """A host without GPUs is a host like others."""
    workers = default_cpu_workers(0)
    text = f"no GPU: {workers} worker{'s'[: workers > 1]} on {num_cores()} cores (fewer for a large model)"
    if is_emulated("bfloat16"):
        return Finding("devices", "ok", f"{text}; float32, as this processor only emulates bfloat16")
    return Finding("devices", "ok", f"{text}; float32 by default, --dtype bfloat16 may be faster here")
