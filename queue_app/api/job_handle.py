"""JobHandle, exported as `holdfast.Job`: one job in the hands of a Python program, wherever it runs.

It holds nothing of the job but where it is: every answer is read anew, so any number of handles, in any
number of processes, say the same.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from queue_app.api.background_run import BackgroundRun
from queue_app.coordination import job_control
from queue_app.coordination.find_job import JOB_ID, manifest_of
from queue_app.coordination.fleet import job_places
from queue_app.coordination.states import JobState
from queue_app.errors import HoldfastError, JobFailed, JobNotFound
from queue_app.job.directory import JobDir, find_job_directory
from queue_app.job.output_place import exported, output_of
from queue_app.job.spec import Job
from queue_app.outputs.arrays import open_result
from queue_app.outputs.export import export
from queue_app.outputs.html_table import html_table
from queue_app.outputs.result import Result
from queue_app.status.job_snapshot import JobSnapshot
from queue_app.status.snapshot import snapshots

POLL_SECONDS = 0.25
OUTPUT_PATIENCE_SECONDS = 60.0
"""A finished job whose output is not there for so long has nobody left to write it."""

OUT_OF_SIGHT = Path(os.devnull, "out of sight")
"""Where nothing lies: the directory of a job that this host does not see."""


class JobHandle:
    """A job: how far it is, how to hold it, what came out of it. Safe to use from several threads."""

    def __init__(
        self,
        job_dir: JobDir,
        *,
        broker_url: str | None = None,
        created: bool = False,
        run: BackgroundRun | None = None,
        name: str | None = None,
    ) -> None:
        self.job_dir = job_dir
        self.created = created
        """False when the job was there already."""
        self._broker_url = broker_url
        self._run = run
        self._name = name or str(job_dir.path)
        self._output_due: float | None = None

    @classmethod
    def open(cls, job: str | Path, *, broker_url: str | None = None) -> "JobHandle":
        """A job that is there: by its output, its directory, or its id.

        Args:
            job: as for `holdfast status`.
            broker_url: the server that knows the id; default: HOLDFAST_BROKER_URL.

        Raises:
            JobNotFound: nobody knows it.
            BrokerUnreachable: it is an id, and no server answers.
        """
        try:
            return cls(find_job_directory(Path(job)), broker_url=broker_url)
        except JobNotFound:
            if not JOB_ID.fullmatch(str(job)):
                raise
        manifest = manifest_of(str(job), broker_url)[0]
        status = manifest.job_status()
        seen = job_places(manifest.client).find_or_none(str(job), status.job_dir) if status else None
        return cls(seen or JobDir(OUT_OF_SIGHT), broker_url=broker_url, name=str(job))

    def __getstate__(self) -> dict[str, Any]:
        """To another process goes where the job is; a run that `start` began here stays here."""
        return {**self.__dict__, "_run": None}

    def __repr__(self) -> str:
        return f"Job({self._name!r})"

    def _repr_html_(self) -> str | None:
        """How far it is: what a notebook shows. None, so that it shows the name, where nobody can tell."""
        try:
            now, output = self.status(), self.output
        except HoldfastError:
            return None
        rows = [("state", str(now.state)), ("sequences", f"{now.done:,} of {now.total:,} embedded")]
        rows += [("quarantined", f"{now.quarantined:,}")] if now.quarantined else []
        return html_table(f"Job {now.job}", [*rows, ("output", str(output))])

    @property
    def id(self) -> str:
        """The job's id, as in `holdfast status`."""
        return self.job.job_id

    @property
    def job(self) -> Job:
        """What was asked for: all of job.json. Raises JobNotFound where its directory is out of sight."""
        return self.job_dir.load()

    @property
    def output(self) -> Path:
        """Where the vectors are, or will be."""
        return output_of(self.job, self.job_dir)

    # ---- how far it is

    def status(self) -> JobSnapshot:
        """The job as it stands: `state`, `total`, `done`, `quarantined` (records), `rate` (records a second
        over the last minute), `eta_seconds` (None while unknown or paused), `shards`, `workers`, `trouble`.

        From the server, or from the job directory where none answers.

        Raises:
            JobNotFound: nobody knows the job any more.
            BrokerUnreachable: it was opened by its id, and no server answers.
        """
        (found,) = snapshots(self._name, self._broker_url)
        return found

    def wait(self, timeout: float | None = None) -> JobSnapshot:
        """Until the job is done and its output written; answers how it ended.

        Records may have been quarantined: see `quarantined` of the answer. A paused job, or one whose
        `embed` was interrupted elsewhere, is waited for until somebody lets it go on. Ctrl-C while
        waiting for a run that `start` began here stops that run, resumable; others run on.

        Args:
            timeout: in seconds; None waits without end.

        Raises:
            TimeoutError: it still runs, and goes on.
            JobFailed: it was cancelled, or shards were given up; what is done stays.
            HoldfastError: whatever else ended a run that `start` began.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while (ended := self._ended()) is None:
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"job {self.id} has not ended within {timeout} s")
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            self.stop()
            raise
        return ended

    def result(self, timeout: float | None = None) -> Result:
        """The vectors, memory-mapped, with their ids; waits for the end as `wait` does.

        Raises:
            Damage: a result is not the one that was published.
            DiskFull: the output is no .npy, and there is no room for an array in the job directory.
            PermissionError: likewise, and the job directory cannot be written.
            HoldfastError: as `wait`.
        """
        self.wait(timeout)
        return open_result(self.job, self.job_dir)

    def _ended(self) -> JobSnapshot | None:
        """None while it runs. Raises JobFailed, or what ended its run."""
        if self._run is not None:
            return self.status() if self._run.has_ended() else None
        now = self.status()
        if now.state in (JobState.FAILED, JobState.CANCELLED):
            why = f" ({now.reason})" if now.reason else ""
            raise JobFailed(
                f"job {now.job} is {now.state}{why}; the same call goes on, "
                f"or holdfast resume {self.job_dir.path}"
            )
        return now if now.state is JobState.DONE and self._output_is_written() else None

    def _output_is_written(self) -> bool:
        """Workers write it after the last shard. Where the process that was to do so is gone, we do it."""
        if not self.job_dir.job_json.is_file():
            return True  # on another host's disk
        job = self.job
        if exported(job, self.job_dir) is None:
            self._output_due = self._output_due or time.monotonic() + OUTPUT_PATIENCE_SECONDS
            if time.monotonic() < self._output_due:
                return False
            export(job, self.job_dir, self.output)
        return True

    # ---- the same for asyncio

    async def status_async(self) -> JobSnapshot:
        """`status`, without holding up the event loop."""
        return await asyncio.to_thread(self.status)

    async def wait_async(self, timeout: float | None = None) -> JobSnapshot:
        """`wait`, without holding up the event loop. Cancelling it leaves the job running."""
        async with asyncio.timeout(timeout):
            while (ended := await asyncio.to_thread(self._ended)) is None:
                await asyncio.sleep(POLL_SECONDS)
        return ended

    async def result_async(self, timeout: float | None = None) -> Result:
        """`result`, without holding up the event loop."""
        await self.wait_async(timeout)
        return await asyncio.to_thread(open_result, self.job, self.job_dir)

    # ---- holding it

    def pause(self) -> JobState:
        """Stop the job at the next batch boundary until `unpause`; answers its state.

        Raises:
            BrokerUnreachable: no server answers, so it does not run.
        """
        return job_control.pause(self._name, self._broker_url)[1]

    def unpause(self) -> JobState:
        """Let a paused job go on. Raises as `pause` does."""
        return job_control.unpause(self._name, self._broker_url)[1]

    def cancel(self) -> JobState:
        """Stop the job at the next batch boundary; `wait` then raises JobFailed. What is committed stays,
        and the same call goes on. A finished job stays finished. Raises as `pause` does.
        """
        return job_control.cancel(self._name, self._broker_url)[1]

    def stop(self) -> None:
        """End a run that `start` began here, as Ctrl-C would; a job that runs elsewhere runs on.

        Comes back when each worker has committed and all processes are down. The same call goes on.
        """
        if self._run is not None:
            self._run.stop()
