"""The options beside those of a job, as types, and what they say taken together."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from queue_app import choices
from queue_app.choices import ALLOW_QUARANTINE, ANY
from queue_app.cli.option_groups import written
from queue_app.errors import UsageError

if TYPE_CHECKING:
    from queue_app.settings import RuntimeConfig


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("holdfast"))
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
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
    Path | None, typer.Option("--output", "-o", help="Default: the one named, or that of the job directory.")
]
Replace = Annotated[bool, typer.Option("--overwrite", help="Replace whatever lies there.")]
Workers = Annotated[int | None, typer.Option(min=1, help="CPU workers. Default: by model size.")]
Device = Annotated[str, typer.Option(help="auto, cpu, or GPU numbers such as 0,1.")]
Broker = Annotated[
    str | None, typer.Option(help="redis://… of your own server. Default: HOLDFAST_BROKER_URL.")
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=65535,
        help="Serve Prometheus metrics: the worker of gpuN or cpuN at this port plus N. Default: "
        "HOLDFAST_METRICS_PORT, else not at all.",
    ),
]
MetricsAddress = Annotated[
    str | None,
    typer.Option(help="Where metrics are served. Default: HOLDFAST_METRICS_ADDRESS, else 127.0.0.1."),
]
Metadata = Annotated[
    Path | None,
    typer.Option(
        help="CSV or TSV with an id column (id, accession, name or the like, else the first): the map of a "
        "finished job can be coloured by its other columns."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Watch = Annotated[
    bool, typer.Option("--watch", help="Show it until it ends, or Ctrl-C; the job goes on either way.")
]
AllowQuarantine = Annotated[
    str | None,
    typer.Option(
        "--allow-quarantine",
        metavar="[=N|P%]",
        help="End with 0 also when records were set aside: any number of them, or at most N, or P% of all "
        "(=0.1%). Beyond that with 3, as without it.",
    ),
]
JobArgument = Annotated[str, typer.Argument(help="Job id, job directory, or output.")]
MovedModel = Annotated[
    str | None,
    typer.Option("--model", "-m", help="Where the job's model lies now. It must be the same one."),
]
JobDirArgument = Annotated[Path, typer.Argument(help="The job directory, or the output it belongs to.")]


@dataclass(frozen=True, slots=True)
class Machine:
    """The devices, the server and the metrics of a run on this machine."""

    device: Device = "auto"
    workers: Workers = None
    broker: Broker = None
    metrics_port: MetricsPort = None
    metrics_address: MetricsAddress = None

    def config(self) -> "RuntimeConfig":
        return config_with_metrics(self.metrics_port, self.metrics_address)

    def own_broker(self) -> str | None:
        return named_broker(self.broker)


def with_dashes(arguments: Sequence[str]) -> list[str]:
    """`--store_dtype` means `--store-dtype`; values keep their underscores. `--allow-quarantine` alone, as no
    other option, has a value all the same."""
    flags = [_with_dashes(argument) if argument.startswith("--") else argument for argument in arguments]
    return [f"{flag}={ANY}" if flag == ALLOW_QUARANTINE else flag for flag in flags]


def _with_dashes(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


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
    """The user's own server, where --broker or HOLDFAST_BROKER_URL names one; else None."""
    from queue_app.coordination.redis_client import own_broker

    return own_broker(broker)
