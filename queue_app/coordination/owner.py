"""Who holds a lease or a place among the workers: a process, named so that its death can be proved.

Written into Redis as `gpu0@host|<host key>|<pid>|<start time>`. The host key (boot id and pid
namespace) says whether a pid read elsewhere means anything here.
"""

import os
from dataclasses import dataclass

from checkpoint.process_identity import ProcessId, host_key, identify


@dataclass(frozen=True, slots=True)
class Owner:
    """One worker process."""

    worker: str
    host_key: str
    process: ProcessId

    def encode(self) -> str:
        return f"{self.worker}|{self.host_key}|{self.process.pid}|{self.process.start_time}"

    @classmethod
    def decode(cls, text: str) -> "Owner | None":
        """None for what is not an owner, such as the empty owner of a pending shard."""
        try:
            worker, host_key, pid, start_time = text.split("|")
            return cls(worker, host_key, ProcessId(int(pid), int(start_time)))
        except ValueError:
            return None

    @classmethod
    def current(cls, worker: str) -> "Owner":
        """This process, under the name of its worker."""
        return cls(worker, host_key(), identify(os.getpid()) or ProcessId(os.getpid(), 0))

    def is_provably_dead(self) -> bool:
        """True only when it ran on this very host and is gone; elsewhere nothing can be proved."""
        return self.host_key == host_key() and identify(self.process.pid) != self.process
