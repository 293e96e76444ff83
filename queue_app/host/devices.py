"""Which devices this host has, asked without torch: the parent of a worker must never touch CUDA."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from queue_app.errors import UsageError
from queue_app.settings import RuntimeConfig

SMALL_MODEL = 100_000_000
"""In parameters."""
CPU_WORKERS_MOST = 16
EVERY_GPU = ("cuda", "gpu")
BUS_ORDER = "PCI_BUS_ID"
"""Of CUDA_DEVICE_ORDER: devices are numbered as nvidia-smi, NVML and our queues number them."""
_LISTED = re.compile(r"^ *(?:GPU|MIG) .*\(UUID: ((?:GPU|MIG)-[^)]+)\)$")
_NUMBER = re.compile(r"(?:(?:cuda|gpu):?)?(\d+)")
CPUINFO = Path("/proc/cpuinfo")
NATIVE = {
    "bfloat16": {"avx512_bf16", "amx_bf16", "bf16"},
    "float16": {"avx512_fp16", "amx_fp16", "asimdhp"},
    "int8": {"avx512_vnni", "avx_vnni", "amx_int8"},
}
"""What Linux calls a processor's arithmetic in a dtype, on x86 and Arm."""


def count_gpus(config: RuntimeConfig) -> int:
    """The CUDA devices this process is granted; the parts of a partitioned GPU count each."""
    if (granted := granted_devices(config)) is not None:
        return len([device for device in granted.split(",") if device.strip()])
    if shutil.which("nvidia-smi"):
        return sum(line.startswith("GPU ") for line in _list_gpus())
    return sum(bool(re.fullmatch(r"nvidia\d+", path.name)) for path in Path("/dev").glob("nvidia*"))


def granted_devices(config: RuntimeConfig) -> str | None:
    """What CUDA_VISIBLE_DEVICES grants; None: all GPUs, by their numbers.

    Where it says nothing and a GPU is partitioned (MIG), every part and every whole GPU by its UUID: by
    numbers a process would get the first part of a GPU and none of the others.
    """
    if config.visible_devices is not None or not shutil.which("nvidia-smi"):
        return config.visible_devices
    listed = _list_gpus()
    if not any(line.lstrip().startswith("MIG ") for line in listed):
        return None
    return ",".join(_unpartitioned([found[1] for line in listed if (found := _LISTED.match(line))]))


def require_bus_order(config: RuntimeConfig) -> None:
    """Raises UsageError where CUDA was told to number devices otherwise than nvidia-smi and we do."""
    if config.device_order not in (None, "", BUS_ORDER):
        raise UsageError(
            f"CUDA_DEVICE_ORDER={config.device_order}: gpu0 is the first device of nvidia-smi; unset it, and "
            "name those that CUDA_VISIBLE_DEVICES grants by their UUIDs (nvidia-smi -L)"
        )


def _list_gpus() -> list[str]:
    listed = subprocess.run(  # nosec B607 # the driver's, wherever it lies: the PATH is the caller's own
        ["nvidia-smi", "-L"], capture_output=True, text=True, check=False
    )
    return listed.stdout.splitlines()


def _unpartitioned(uuids: Sequence[str]) -> list[str]:
    """Without the GPUs that are followed by their parts."""
    following = [*uuids[1:], ""]
    return [
        uuid for uuid, behind in zip(uuids, following, strict=True)
        if uuid.startswith("MIG-") or not behind.startswith("MIG-")
    ]  # fmt: skip


def choose_queues(
    device: str, num_workers: int | None, config: RuntimeConfig, *, cpu_workers: int
) -> list[str]:
    """One queue per device: `auto`, `cpu`, `cuda` (every GPU), or device numbers such as `0,1`, which may be
    written `cuda:0,cuda:1`; on the CPU `cpu_workers`, unless a number was asked for.

    Raises:
        UsageError: the device is none of these or is not there; `--workers` was given for GPUs, or is 0.
    """
    gpus = _gpus(device, config)
    if num_workers is not None and num_workers < 1:
        raise UsageError(f"--workers {num_workers}: one at least")
    if not gpus:
        return [f"cpu{index}" for index in range(num_workers or cpu_workers)]
    if num_workers is not None and num_workers != len(gpus):
        raise UsageError("--workers is for the CPU; a GPU has one worker, choose them with --device 0,1")
    return [f"gpu{index}" for index in gpus]


def _gpus(device: str, config: RuntimeConfig) -> Sequence[int]:
    if device == "cpu":
        return []
    num_gpus = count_gpus(config)
    if num_gpus:
        require_bus_order(config)
    if device in EVERY_GPU and not num_gpus:
        raise UsageError(f"--device {device}: this host has no GPU; --device cpu does without")
    if device == "auto" or device in EVERY_GPU:
        return range(num_gpus)
    named = [_NUMBER.fullmatch(each) for each in device.split(",")]
    if not all(named):
        raise UsageError(f"--device {device}: write auto, cpu, or device numbers such as 0,1; cuda is all")
    numbers = sorted({int(each[1]) for each in named if each})
    if numbers[-1] >= num_gpus:
        raise UsageError(
            f"--device {device}: no GPU {numbers[-1]} among the {num_gpus} of this host; "
            "--device cpu does without"
        )
    return numbers


def is_emulated(dtype: str, cpuinfo: Path = CPUINFO) -> bool:
    """True when this processor is known to have no arithmetic of its own for the dtype."""
    named = _named(cpuinfo, "flags", "Features")
    return dtype in NATIVE and named is not None and not NATIVE[dtype] & set(named.split())


def processor_name(cpuinfo: Path = CPUINFO) -> str:
    """What the maker calls this host's processor; its architecture where Linux does not know."""
    named = _named(cpuinfo, "model name")
    return f"{platform.machine()} processor" if named is None else named


def _named(cpuinfo: Path, *names: str) -> str | None:
    """What Linux says of the first processor under one of these names."""
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    told = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in told if name.strip() in names), None)


def num_cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_cpu_workers(num_parameters: int) -> int:
    """For a small model one worker per core: the threads of one would wait for each other at every layer.

    Each worker keeps a copy of the model and of torch in memory, so of a large model there is one for every
    four cores. Measured by benchmarks/by_hand and the part `processes` of benchmarks/throughput.
    """
    if num_parameters < SMALL_MODEL:
        return min(num_cores(), CPU_WORKERS_MOST)
    return max(1, num_cores() // 4)


def cpu_workers_of(threads: int) -> int:
    """As many workers as have room with so many threads each."""
    return max(1, num_cores() // threads)


def cpu_threads(num_workers: int) -> int:
    """Threads of each CPU worker. Fixed in the job: another number would change the last bits."""
    return max(1, num_cores() // num_workers)
