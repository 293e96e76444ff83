"""`holdfast embed`: one job, run to its end on this machine.

It owns no state of the job: whatever it was doing when it died, the next run finds the job directory as it
is and goes on.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from queue_app.api.local_watch import watch
from queue_app.api.local_workers import LocalSetup, LocalWorkers, local_workers, process_file, worker_settings
from queue_app.api.wording import what_is_to_do, what_was_read
from queue_app.choices import H5Layout, Precision
from queue_app.errors import HoldfastError
from queue_app.host.devices import cpu_threads
from queue_app.host.memory import give_memory_back
from queue_app.host.queues import device_class
from queue_app.host.torch_missing import require_torch
from queue_app.ingest.prepare import Prepared, prepare
from queue_app.ingest.request import EmbedRequest
from queue_app.job.directory import JobDir, locked_job_directory
from queue_app.job.done_records import finished_shards
from queue_app.job.output_place import forget_other_place, take_place
from queue_app.model.spec import FoundModel
from queue_app.outputs.export import ExportReport, export
from queue_app.status.directory_snapshot import snapshot_of_directory
from queue_app.status.known_jobs import remember_job


def embed(request: EmbedRequest, model: FoundModel, setup: LocalSetup) -> ExportReport:
    """The whole job of a settled request: server, workers, producer, watching, export.

    Run again it goes on where it was.

    Raises:
        UsageError: bad input, or checkpoints would lie on a network file system; a job directory made for it
            is gone again.
        JobFailed: shards were given up; what is done stays, and the same command tries them again.
        KeyboardInterrupt: after the workers committed what they had.
    """
    kind, threads = device_class(setup.queues), cpu_threads(len(setup.queues))
    return LocalRun(
        job_dir=request.directory,
        prepare=lambda forget_keys: prepare(
            request, model, device_class=kind, threads=threads, forget_keys=forget_keys
        ),
        output=request.output,
        setup=setup,
        settings=worker_settings(request.model, request.run),
        overwrite=request.overwrite,
        h5_layout=request.h5_layout,
        precision=request.precision,
    ).run()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRun:
    """One job to be run on this machine.

    `prepare` finds or makes the job; once there is a server it gets what forgets the keys of a replaced one.
    `h5_layout` and `precision` None mean those that the job was submitted with.
    """

    job_dir: JobDir
    prepare: Callable[[Callable[[str], None] | None], Prepared]
    output: Path
    setup: LocalSetup
    settings: Mapping[str, str]
    overwrite: bool = False
    h5_layout: H5Layout | None = None
    precision: Precision | None = None

    def run(self) -> ExportReport:
        """To its end, while nobody else works on it."""
        say = self.setup.view.say
        with locked_job_directory(self.job_dir):
            forget_other_place(self.job_dir)
            for name in process_file(self.job_dir).end_leftovers():
                say(f"ended {name}, left over from an earlier run")
            gave_way: list[str] = []  # the id of a job that another one replaces
            known = self.job_dir.job_json.exists() and not self.overwrite
            there = self.prepare(gave_way.append) if known else None
            if there and _is_finished(there):
                say(f"job {there.job.job_id}: all {len(there.job.shards)} shards are done already")
                take_place(self.job_dir, self.output)
                return self._export(there)
            require_torch()
            with local_workers(self.job_dir, self.setup, self.settings) as workers:
                for job_id in gave_way:
                    workers.forget_keys(job_id)
                return self._run_with(workers, there)

    def _run_with(self, workers: LocalWorkers, there: Prepared | None) -> ExportReport:
        prepared = there
        try:
            prepared = prepared or self.prepare(workers.forget_keys)  # the workers come up meanwhile
            remember_job(self.job_dir)
            job = prepared.job
            take_place(self.job_dir, self.output)
            self._say(what_was_read(job))
            give_memory_back()  # what reading took; for hours nothing here needs as much
            sent = workers.send(job)
            self._say(
                what_is_to_do(job, created=prepared.created, num_messages=sent, queues=self.setup.queues)
            )
            watch(job, workers, self.setup.view)
            # The export comes after the workers, so that it need not find room in memory beside them.
            workers.stop_idle()
            return self._export(prepared)
        except KeyboardInterrupt:
            self.setup.view.say(
                "stopping: each worker ends its batch and commits; Ctrl-C again leaves at once"
            )
            workers.stop()
            if prepared is not None:
                with contextlib.suppress(HoldfastError, OSError):  # the last picture is no reason to fail
                    scratch = self.setup.config.scratch
                    self.setup.view.update(snapshot_of_directory(prepared.job, self.job_dir, scratch))
            raise

    def _say(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.setup.view.say(line)

    def _export(self, prepared: Prepared) -> ExportReport:
        return export(
            prepared.job,
            self.job_dir,
            self.output,
            h5_layout=self.h5_layout,
            precision=self.precision,
            overwrite=self.overwrite,
        )


def _is_finished(there: Prepared) -> bool:
    """Here a damaged result is seen that is to be computed again."""
    found = finished_shards(there.job, there.job_dir, remove_damaged=True)
    return len(found) == len(there.job.shards)
