"""`holdfast doctor`: looks at everything on this machine that a job would need, and says what is missing.

It never hangs: what does not answer in time (a dead network disk, a stuck driver) is a finding like others.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Thread

from queue_app.preflight.check_devices import examine_devices
from queue_app.preflight.check_disk import examine_disks
from queue_app.preflight.check_host import examine_host
from queue_app.preflight.check_server import examine_server
from queue_app.preflight.findings import Finding
from queue_app.settings import RuntimeConfig

Check = Callable[[], Iterable[Finding]]

HOST_SECONDS = 15.0
DISK_SECONDS = 15.0
SERVER_SECONDS = 45.0
DEVICES_SECONDS = 90.0
"""Torch alone takes this long to import from a cold network disk."""


def examine(broker_url: str | None, job_dir: Path, config: RuntimeConfig) -> list[Finding]:
    """All findings, one check after the other, so that none slows what another measures.

    `broker_url` None means the embedded server. Nothing is left behind.
    """
    return [
        *within(HOST_SECONDS, "versions", examine_host),
        *within(DISK_SECONDS, "disk", lambda: examine_disks(job_dir, config.scratch)),
        *within(SERVER_SECONDS, "server", lambda: examine_server(broker_url, config)),
        *within(DEVICES_SECONDS, "devices", lambda: examine_devices(config)),
    ]


def within(seconds: float, topic: str, check: Check) -> list[Finding]:
    """What the check finds, or that it does not end. Its thread is left behind then, and dies with us.

    Raises:
        Exception: whatever the check raised.
    """
    found: list[Finding] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.extend(check())
        except BaseException as error:
            raised.append(error)

    thread = Thread(target=run, name=f"doctor-{topic}", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    if thread.is_alive():
        late = Finding(topic, "problem", f"no answer within {seconds:g} s", REMEDIES[topic])
        return [*found, late]
    return found


REMEDIES = {
    "versions": "reinstall: pip install -c constraints.txt .",
    "disk": "a network disk whose server is away hangs so: choose another --job-dir",
    "server": "look at the server's log, or leave out --broker-url to use the embedded one",
    "devices": "a hanging driver: look at nvidia-smi and dmesg, and restart the machine",
}
