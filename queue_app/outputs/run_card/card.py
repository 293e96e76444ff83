"""The run card: where an output comes from, as data; card_json.py and markdown.py write it.

But for who wrote it and when, it is made from the job directory alone: it says the same whoever exports, and
after whatever crashes. Nothing of it goes into the output itself: times, hosts and faults differ by run.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from checkpoint.records import QuarantineEntry
from queue_app.choices import H5Layout, Precision
from queue_app.host.devices import cpu_workers_of
from queue_app.ingest.readers.keep import written_keep
from queue_app.job.directory import JobDir
from queue_app.job.history import read_history
from queue_app.job.quarantine_reasons import OF_HOW_MANY, PLACE_IN_FILE
from queue_app.job.readouts import is_contacts, is_ragged
from queue_app.job.spec import EmbedOptions, Job
from queue_app.model.spec import CONCATENATED, NormalizeSpec, TruncateSpec
from queue_app.outputs.content import Content
from queue_app.outputs.kinds import KindShare, mixed_text
from queue_app.outputs.run_card.citations import Citation, citations_of, software_of
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
from queue_app.shown import shell_word
from queue_app.wording import count

QUARANTINE_SHOWN = 10
SETTLED_OTHERWISE = ("device_class", "window_overlap", "layers", "dedup", "pool", "keep", "kernels", "exact")
"""Options that the command has no flag of that name and form for."""
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


def command_of(job: Job, output: Path) -> str:
    """The command that gives the same vectors: every option is named, also those that were `auto`."""
    model = job.model.name if "/" in job.model.name else job.model.path
    words = ["holdfast", "embed", *(file.path for file in job.inputs), "-m", model, "-o", str(output)]
    for field in fields(EmbedOptions):
        value = getattr(job.options, field.name)
        if value is not None and field.name not in SETTLED_OTHERWISE:
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    words += ["--layers", ",".join(map(str, job.options.layers))]
    words += ["--keep", written_keep(job.options.keep)] if job.options.keep else []
    words += model_flags(job)
    words += [] if job.options.dedup else ["--no-dedup"]
    words += ["--kernels", "plain"] if job.options.kernels == "plain" else []
    words += exact_flags(job)
    words += ["--reuse", job.reuse.path] if job.reuse else []
    words += ["--num-shards", str(len(job.shards.costs_to_compute))]
    if job.options.device_class == "cpu":
        # As many as give each the job's number of threads: another one would change the last bits.
        words += ["--device", "cpu", "--workers", str(cpu_workers_of(job.threads))]
    return " ".join(map(shell_word, words))


def exact_flags(job: Job) -> list[str]:
    """None, where the choice was left to us."""
    if job.run.must_be_exact:
        return ["--exact"]
    return [] if job.options.exact or job.model.family == "mock" else ["--no-exact"]


def model_flags(job: Job) -> Iterator[str]:
    """What was asked of the model, or what it is by itself: the same either way.

    Several pools in one vector are its own, and are left to it.
    """
    model, pool = job.model, job.options.pool
    if CONCATENATED not in pool:
        yield from ("--pool", pool)
    if model.family == "mock":
        return
    if model.revision:
        yield f"--revision={model.revision}"
    yield f"--rules={model.tokens.rules.name}"
    if model.prompt or model.prompts:
        yield f"--prompt={model.prompt.text if model.prompt else ''}"
    if is_ragged(job.options):
        return
    yield from (f"--truncate-dim={each.dim}" for each in model.head if isinstance(each, TruncateSpec))
    if not model.normalize:
        yield "--no-normalize"
    elif isinstance(model.head[-1], NormalizeSpec):
        yield "--normalize"
