"""The run card: where an output comes from, as data; card_json.py and markdown.py write it.

But for who wrote it and when, it is made from the job directory alone: it says the same whoever exports, and
after whatever crashes. Nothing of it goes into the output itself: times, hosts and faults differ by run.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from checkpoint.records import QuarantineEntry
from queue_app.choices import H5Layout, Precision
from queue_app.job.directory import JobDir
from queue_app.job.history import read_history
from queue_app.job.quarantine_reasons import OF_HOW_MANY, PLACE_IN_FILE
from queue_app.job.readouts import is_contacts
from queue_app.job.spec import Job
from queue_app.outputs.content import Content
from queue_app.outputs.kinds import KindShare, mixed_text
from queue_app.outputs.run_card.certificate import read_certificate
from queue_app.outputs.run_card.citations import Citation, citations_of, software_of
from queue_app.outputs.run_card.command import command_of
from queue_app.outputs.run_card.faults_and_speed import (
    Device,
    Faults,
    Throughput,
    devices_of,
    faults_of,
    independence_of,
    throughput_of,
    total_of,
)
from queue_app.outputs.run_card.methods_section import Counted, methods
from queue_app.outputs.run_card.model_name import ModelName, name_of
from queue_app.wording import count

QUARANTINE_SHOWN = 10
_PLACE = re.compile(rf" at position \d+|^\d+ (?=tokens do not fit)|{PLACE_IN_FILE}|{OF_HOW_MANY}")


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote the output, when (UTC), and with what. `files` are its files, by names beside it, and the
    xxh3-128 (hex) of each."""

    host: str
    at: str
    versions: Mapping[str, str]
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RunCard:
    """Everything that a reader of the output may ask. `quarantine` has the first records of it."""

    job: Job
    output: str
    columns: Sequence[str]
    content_digest: str
    results_digest: str
    written: Written
    model_name: ModelName
    counted: Counted
    quarantine: Sequence[QuarantineEntry]
    devices: Sequence[Device]
    kinds: Sequence[KindShare]
    versions: Mapping[str, str]
    throughput: Throughput
    faults: Faults
    command: str
    independence: str = ""
    """What a vector depends on, where more is known than that it may be anything beside it."""
    precision: Precision = "float32"
    h5_layout: H5Layout = "flat"

    @property
    def num_quarantined(self) -> int:
        return self.job.counts.num_records - self.counted.num_embedded

    @property
    def num_duplicates(self) -> int:
        return self.job.twins.num_twins if self.job.twins else 0

    @property
    def num_reused(self) -> int:
        return self.job.reuse.num_vectors if self.job.reuse else 0

    @property
    def mixed_kinds(self) -> str:
        """One line, where several kinds of device computed it; else empty."""
        return mixed_text(self.kinds)

    @property
    def methods(self) -> str:
        return methods(self.job, self.model_name, self.counted)

    @property
    def citations(self) -> Sequence[Citation]:
        has_contacts = is_contacts(self.job.options)
        return citations_of(self.job.model, self.model_name, self.versions, has_contacts=has_contacts)


def make_card(job: Job, job_dir: JobDir, output: Path, content: Content, written: Written) -> RunCard:
    """The card of a finished job's output, made of this content. It names the first of the quarantine."""
    history = read_history(job_dir, job.job_id)
    # What computed counts, not what is installed where the output is written.
    torch = " and ".join(sorted({attempt.torch for attempt in history.attempts}))
    versions = {**written.versions, "torch": torch or written.versions.get("torch", "unknown")}
    reasons = Counter(" ".join(_PLACE.sub("", entry.reason).split()) for entry in content.quarantine)
    devices = devices_of(history)
    counted = Counted(
        num_embedded=content.num_rows,
        reasons=dict(reasons.most_common()),
        num_long=total_of(job, history, "num_long"),
        hardware=[_device_text(job, device) for device in devices],
        software=software_of(job.model, versions),
        certificate=read_certificate(job_dir),
    )
    return RunCard(
        job=job,
        output=output.name,
        columns=content.columns,
        content_digest=content.digest,
        results_digest=content.results_digest,
        written=written,
        model_name=name_of(job.model),
        counted=counted,
        quarantine=content.quarantine[:QUARANTINE_SHOWN],
        devices=devices,
        kinds=content.kinds,
        versions=versions,
        throughput=throughput_of(job, history, content.num_rows),
        faults=faults_of(history),
        command=command_of(job, output),
        independence=independence_of(job, history),
        precision=content.coding.precision,
        h5_layout=content.h5_layout,
    )


def _device_text(job: Job, device: Device) -> str:
    """`2 GPUs (NVIDIA H200)`, or `the processor (AMD EPYC, 2 workers with 1 thread each)`."""
    on_hosts = f" of {count(device.num_hosts, 'host')}" if device.num_hosts > 1 else ""
    if job.options.device_class == "cuda" and job.model.family != "mock":
        return f"{count(device.num_workers, 'GPU')} ({device.name}){on_hosts}"
    each = " each" if device.num_workers > 1 else ""
    workers = f"{count(device.num_workers, 'worker')} with {count(job.threads, 'thread')}{each}"
    return f"the processor{'s' if on_hosts else ''}{on_hosts} ({device.name}, {workers})"
