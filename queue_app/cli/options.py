"""The options beside those of a job, as types, and what they say taken together."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from queue_app import choices
from queue_app.choices import OptionGroup
from queue_app.cli.completion import jobs_here
from queue_app.cli.option_groups import written
from queue_app.errors import UsageError

if TYPE_CHECKING:
    from queue_app.settings import RuntimeConfig


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("holdfast"))
        raise typer.Exit


def option(*flags: str, help: str, group: OptionGroup | None = None, **more: Any) -> Any:
    """An option for typer, under a heading of the help."""
    return typer.Option(*flags, help=help, rich_help_panel=group, **more)


Version = Annotated[
    bool, option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]
Output = Annotated[Path, written("output")]
H5Layout = Annotated[choices.H5Layout, written("h5_layout")]
Precision = Annotated[choices.Precision, written("precision")]
IndexKind = Annotated[
    str,
    typer.Option(
        metavar="flat|hnsw|ivf|FACTORY",
        help="flat: exact; hnsw: a graph; ivf: clusters; or what faiss.index_factory takes, as IVF4096,PQ64.",
    ),
]
Metric = Annotated[
    choices.Metric, typer.Option(help="cosine: vectors of unit length, by inner product; queries likewise.")
]
Revision = Annotated[str | None, written("revision")]
ResumedOutput = Annotated[
    Path | None, option("--output", "-o", help="Default: the one named, or that of the job directory.")
]
Replace = Annotated[bool, option("--overwrite", help="Replace whatever lies there.")]
Workers = Annotated[
    int | None, option(min=1, help="CPU workers. Default: by model size.", group="Devices and speed")
]
Device = Annotated[
    str,
    option(
        metavar="DEVICE",
        help="cpu, cuda, or GPU numbers such as 0,1. auto: every GPU, else the CPU.",
        group="Devices and speed",
    ),
]
BrokerUrl = Annotated[
    str | None,
    option(
        help="redis://… of your own server. Default: HOLDFAST_BROKER_URL. A password in it shows in lists of "
        "processes: HOLDFAST_BROKER_PASSWORD_FILE names a file with one.",
        group="Server and metrics",
    ),
]
MetricsPort = Annotated[
    int | None,
    option(
        min=1,
        max=65535,
        help="Serve Prometheus metrics: the worker of gpuN or cpuN at this port plus N. Default: "
        "HOLDFAST_METRICS_PORT, else not at all.",
        group="Server and metrics",
    ),
]
MetricsAddress = Annotated[
    str | None,
    option(
        help="Where metrics are served. Default: HOLDFAST_METRICS_ADDRESS, else 127.0.0.1.",
        group="Server and metrics",
    ),
]
Metadata = Annotated[
    Path | None,
    option(
        help="CSV or TSV with an id column (id, accession, name or the like, else the first): the map of a "
        "finished job can be coloured by its other columns."
    ),
]
Quiet = Annotated[bool, option("--quiet", "-q", help="No progress.", group="What is shown")]
Json = Annotated[bool, option("--json", help="One JSON object on standard output.", group="What is shown")]
Watch = Annotated[
    bool, option("--watch", help="Show it until it ends, or Ctrl-C; the job goes on either way.")
]
AllowQuarantine = Annotated[
    str | None,
    option(
        "--allow-quarantine",
        metavar="[=N|P%]",
        help="End with 0 also when records are quarantined: any number of them, or at most N, or P% of all "
        "(=0.1%). Beyond that with 3, as without it.",
        group="What is shown",
    ),
]
MovedModel = Annotated[
    str | None, option("--model", "-m", help="Where the job's model lies now. It must be the same one.")
]
JobArgument = Annotated[
    str, typer.Argument(help="Job id, job directory, or output.", autocompletion=jobs_here)
]
AnyJobArgument = Annotated[
    str | None,
    typer.Argument(help="Job id, job directory, or output. Default: every job.", autocompletion=jobs_here),
]
JobDirArgument = Annotated[
    Path,
    typer.Argument(
        metavar="JOB", help="The output, or the job directory beside it.", autocompletion=jobs_here
    ),
]


@dataclass(frozen=True, slots=True)
class Machine:
    """The devices, the server and the metrics of a run on this machine."""

    device: Device = "auto"
    workers: Workers = None
    broker_url: BrokerUrl = None
    metrics_port: MetricsPort = None
    metrics_address: MetricsAddress = None

    def config(self) -> "RuntimeConfig":
        return config_with_metrics(self.metrics_port, self.metrics_address)

    def own_broker(self) -> str | None:
        return named_broker(self.broker_url)


def config_with_metrics(port: int | None, address: str | None) -> "RuntimeConfig":
    """The settings; what the command says of metrics comes before the environment."""
    from queue_app.settings import runtime_config

    said = {"metrics_port": port, "metrics_address": address}
    config = runtime_config().model_copy(
        update={name: value for name, value in said.items() if value is not None}
    )
    if address is not None and config.metrics_port is None:
        raise UsageError(f"--metrics-address {address}: without --metrics-port nothing is served there")
    return config


def named_broker(broker: str | None) -> str | None:
    """The user's own server, where --broker-url or HOLDFAST_BROKER_URL names one; else None."""
    from queue_app.coordination.redis_client import own_broker

    return own_broker(broker)
