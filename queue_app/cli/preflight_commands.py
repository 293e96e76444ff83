"""The commands before a job is made: `holdfast plan`, `doctor` and `convert`."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from queue_app.cli import options as options
from queue_app.cli.option_groups import flattened, parameters_of
from queue_app.cli.printing import print_answer, say
from queue_app.errors import HoldfastError
from queue_app.ingest.request import EmbedRequest

PLANNED_OUTPUT = parameters_of(EmbedRequest)["output"].replace(
    annotation=Annotated[
        Path,
        options.option(
            "--output", "-o", metavar="OUTPUT", help="As of embed; where there must be room.", group="Output"
        ),
    ],
    default=Path("embeddings.h5"),
)
Seconds = Annotated[
    float,
    options.option(
        min=0,
        help="Compute a sample for so long at most, for the time. 0: no time.",
        group="Devices and speed",
    ),
]
DoctorModel = Annotated[
    str | None, typer.Option("--model", "-m", help="Read it as embed would, and say what it is.")
]
PIPED_WIDTH = 100
"""In columns, where no terminal says how wide it is."""
GpuHourCost = Annotated[
    float | None,
    options.option(
        min=0, help="What an hour of one GPU costs (of the machine, on a CPU).", group="Devices and speed"
    ),
]


@partial(flattened, output=PLANNED_OUTPUT)
def plan(
    request: EmbedRequest,
    machine: options.Machine,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    seconds: Seconds = 20.0,
    gpu_hour_cost: GpuHourCost = None,
) -> None:
    """What embed would do: records, disk, time. Nothing is written."""
    from queue_app.host.devices import cpu_threads
    from queue_app.ingest.settle import choose_workers, start_settling
    from queue_app.preflight.plan import make_plan
    from queue_app.preflight.plan_json import plan_as_json
    from queue_app.preflight.plan_text import describe_plan
    from queue_app.settings import runtime_config

    config = runtime_config()
    settled = start_settling(request, to_write=False)
    with _steps(quiet=quiet or as_json) as step:
        step("reading the model's files")
        model = settled()
        queues = choose_workers(request, model, machine.device, machine.workers, config)
        made = make_plan(
            request, model, queues=queues, threads=cpu_threads(len(queues)), config=config, seconds=seconds,
            say=step,
        )  # fmt: skip
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns
    lines = describe_plan(made, gpu_hour_cost=gpu_hour_cost, width=width, unicode=_is_unicode())
    print_answer(as_json, plan_as_json(made, gpu_hour_cost=gpu_hour_cost), lines)
    if made.problems:
        raise typer.Exit(HoldfastError.exit_code)


def doctor(
    job_dir: Annotated[Path, typer.Option(help="Where a job is to lie. Default: here.")] = Path(),
    model: DoctorModel = None,
    revision: options.Revision = None,
    broker_url: options.BrokerUrl = None,
    as_json: options.Json = False,
) -> None:
    """What is missing on this machine, and how to mend it.

    Looks at devices, server, disk, limits and versions, and at a model where one is named. Ends with 1 where
    a problem is found, with 0 where there are warnings alone, with 2 where embed would refuse the model.
    """
    from queue_app.preflight.check_model import examine_model
    from queue_app.preflight.doctor import examine
    from queue_app.preflight.findings import Finding, describe_findings, findings_as_json, is_well
    from queue_app.settings import runtime_config

    with _steps(quiet=as_json) as step:
        found: list[Finding] = []
        if model is not None:
            step("reading the model's files")
            found += examine_model(model, revision)
        step("looking at devices, server and disk")
        found += examine(options.named_broker(broker_url), job_dir, runtime_config())
    print_answer(as_json, findings_as_json(found), describe_findings(found), coloured=True)
    if not is_well(found):
        raise typer.Exit(HoldfastError.exit_code)


def convert(
    model: Annotated[Path, typer.Argument(help="A model directory whose weights are pickled (.bin).")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A new directory. Default: beside the pickles.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make anew what is there.")] = False,
    as_json: options.Json = False,
) -> None:
    """Turn a model's pickled weights into safetensors. Runs nothing of them, renames nothing."""
    from queue_app.model.convert import convert as run_convert

    written = [str(path) for path in run_convert(model, output, overwrite=overwrite)]
    print_answer(as_json, {"written": written}, written)


@contextmanager
def _steps(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Shows what is being done: one changing line on a terminal, plain lines elsewhere."""
    if quiet:
        yield lambda step: None
    elif sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status("") as status:
            yield status.update
    else:
        yield say


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().startswith("utf")
