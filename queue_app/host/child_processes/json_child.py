"""A child process that dies with this one and answers in JSON: what needs torch or transformers, of which the
process that asks knows neither."""

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from queue_app.host.child_processes.confined_child import Standstill, confine
from queue_app.host.processes import dying_with_us, kill_session
from queue_app.host.surroundings import child_environment
from queue_app.host.torch_missing import in_words

LOOK_SECONDS = 1.0


class ChildFailed(Exception):
    """Raised when a child gave no answer. `last_line` is the last that it wrote to stderr, or empty."""

    def __init__(self, last_line: str, exit_status: int) -> None:
        super().__init__(last_line or f"exit status {exit_status}")
        self.last_line = last_line
        self.exit_status = exit_status


class JsonChild:
    """A command that was started. One that `listens` is asked line by line, in a session of its own.

    With `memory_most` it gets no more bytes than that.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str] | None = None, listens: bool = False,
        memory_most: int | None = None,
    ) -> None:  # fmt: skip
        self._command = command
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self._process = subprocess.Popen(
            dying_with_us(command),
            stdin=subprocess.PIPE if listens else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=child_environment() if env is None else env,
            text=True,
            start_new_session=listens,
        )
        self.pid = self._process.pid
        if memory_most is not None:
            confine(memory_most, self.pid)

    def answer(
        self,
        *,
        timeout_seconds: float | None = None,
        must_succeed: bool = False,
        standstill_seconds: float | None = None,
    ) -> Any:
        """What its last line says, once it has ended. See Standstill for `standstill_seconds`.

        Raises:
            ChildFailed: that is no JSON, or its exit status is another than 0 where it `must_succeed`.
            subprocess.TimeoutExpired: it took too long, and was killed.
        """
        try:
            said = self._said(timeout_seconds, standstill_seconds)
            if must_succeed and self._process.returncode:
                raise self._failure()
            return json.loads(said.strip().rpartition("\n")[2])
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            self._process.communicate()
            raise subprocess.TimeoutExpired(self._command, error.timeout) from None
        except ValueError:
            raise self._failure() from None
        finally:
            self._stderr.close()

    def _said(self, timeout_seconds: float | None, standstill_seconds: float | None) -> str:
        if standstill_seconds is None:
            return self._process.communicate(timeout=timeout_seconds)[0]
        standstill = Standstill(self.pid)
        while True:
            try:
                return self._process.communicate(timeout=LOOK_SECONDS)[0]
            except subprocess.TimeoutExpired:
                if standstill.seconds() > standstill_seconds:
                    raise

    def ask(self, line: str) -> Any:
        """What it says to this line. Raises ChildFailed when that is no JSON; it is dead then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, ValueError):
            self.kill()
            raise self._failure() from None

    def kill(self) -> None:
        """End one that listens, with all that it started; what waits for its answer goes on."""
        kill_session(self.pid)

    def close(self) -> None:
        """Kill one that listens, and wait for its end."""
        self.kill()
        self._process.communicate()
        self._stderr.close()

    def _failure(self) -> ChildFailed:
        exit_status = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return ChildFailed(in_words(lines[-1]) if lines else "", exit_status)
