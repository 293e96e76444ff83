"""One system call of a traced process, and what /proc says of its arguments."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

_AT_FDCWD = -100
_PAGE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Call:
    """Its thread stands still at the call's entry or exit while this is looked at."""

    pid: int
    name: str
    arguments: tuple[int, ...]

    # ---- descriptors: looked up in /proc, so that nothing has to be remembered of what was opened before

    def path(self, index: int = 0) -> str:
        """Of the descriptor in an argument; empty when it is none."""
        try:
            return str(Path(f"/proc/{self.pid}/fd/{_as_int(self.arguments[index])}").readlink())
        except OSError:
            return ""

    def flags(self) -> int:
        """The open flags of the descriptor in the first argument."""
        return int(self._descriptor()["flags"], 8)

    def position(self) -> int:
        """Where the descriptor in the first argument stands."""
        return int(self._descriptor().get("pos", "0"))

    def _descriptor(self) -> dict[str, str]:
        """As in proc_pid_fdinfo(5)."""
        try:
            lines = Path(f"/proc/{self.pid}/fdinfo/{_as_int(self.arguments[0])}").read_text().splitlines()
        except OSError:
            return {}
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    # ---- names and buffers

    def named(self, index: int, *, beside: int | None = None) -> str:
        """A path argument, absolute; `beside` is the argument with the directory it is relative to."""
        directory = _AT_FDCWD if beside is None else _as_int(self.arguments[beside])
        link = f"/proc/{self.pid}/cwd" if directory == _AT_FDCWD else f"/proc/{self.pid}/fd/{directory}"
        path = self._text(self.arguments[index])
        return path if path.startswith("/") else str(Path(link).readlink() / path)

    def buffer(self, size: int) -> bytes:
        """The first bytes of the buffer in the second argument."""
        return self._memory(self.arguments[1], size)

    def gather(self, size: int) -> bytes:
        """The same of an array of buffers: struct iovec in the second argument, their count in the third."""
        buffers = struct.iter_unpack("QQ", self._memory(self.arguments[1], 16 * self.arguments[2]))
        return b"".join(self._memory(address, length) for address, length in buffers)[:size]

    def _memory(self, address: int, size: int) -> bytes:
        with Path(f"/proc/{self.pid}/mem").open("rb", buffering=0) as memory:
            data = os.pread(memory.fileno(), size, address)
        assert len(data) == size, f"{len(data)} of {size} bytes of process {self.pid}"
        return data

    def _text(self, address: int) -> str:
        """NUL-terminated; what follows its page need not be mapped."""
        text = b""
        with Path(f"/proc/{self.pid}/mem").open("rb", buffering=0) as memory:
            while b"\0" not in text:
                at = address + len(text)
                text += os.pread(memory.fileno(), _PAGE_BYTES - at % _PAGE_BYTES, at)
        return os.fsdecode(text.partition(b"\0")[0])


def _as_int(argument: int) -> int:
    """A C int: the upper half of its register means nothing."""
    return (argument & 0xFFFFFFFF) - ((argument & 0x80000000) << 1)
