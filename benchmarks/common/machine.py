"""What was measured on, and with which versions."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("holdfast", "torch", "transformers", "sentence-transformers", "tokenizers", "numpy", "faesm")


def num_cores() -> int:
    return len(os.sched_getaffinity(0))


def describe_machine(device: str, threads: int) -> list[str]:
    lines = [
        f"processor: {processor()}, {num_cores()} cores; threads of every system: {threads}",
        f"torch's kernels on it: {torch.backends.cpu.get_cpu_capability()}",
        f"versions: {', '.join(versions())}",
    ]
    if device.startswith("cuda"):
        found = torch.cuda.get_device_properties(device)
        memory = found.total_memory / 2**30
        lines.append(f"device: {found.name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")
    return lines


def processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    match = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return match[1] if match else platform.processor() or platform.machine()


def versions() -> list[str]:
    found = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found
