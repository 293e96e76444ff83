"""Which piece of hardware a grant means: two tasks of one machine may each call another GPU their device 0.

The driver is asked by a child process: the parent of a worker forks, and its children would get the driver's
library with its locks as they are.
"""

import json
import subprocess
import sys

from queue_app.host.child_processes.json_child import ChildFailed, JsonChild
from queue_app.host.gpu_load import gpu_uuid
from queue_app.host.processes import PYTHON

DRIVER_SECONDS = 30.0


def physical_device(granted: str) -> str:
    """The UUID of the GPU, or of the part of one, that an entry of CUDA_VISIBLE_DEVICES means.

    The entry itself where no driver says more, or none answers.
    """
    child = JsonChild([*PYTHON, "-m", __name__, granted])
    try:
        return str(child.answer(timeout_seconds=DRIVER_SECONDS) or granted)
    except (ChildFailed, subprocess.TimeoutExpired):
        return granted


def short_name(device: str) -> str:
    """As it stands in a worker's name: `1` of device 1, `8f6d9a1c` of GPU-8f6d9a1c-… or MIG-8f6d9a1c-…

    An old name of a part of a GPU says which part: `8f6d9a1c.1.0` of MIG-GPU-8f6d9a1c-…/1/0.
    """
    uuid, *part = device.split("/")
    return ".".join([uuid.removeprefix("MIG-").removeprefix("GPU-").partition("-")[0], *part])


if __name__ == "__main__":
    print(json.dumps(gpu_uuid(sys.argv[1])))
