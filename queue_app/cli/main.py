"""The command `holdfast`: its parts in their order, and the exit codes of what goes wrong."""

import logging
import os
import sys

import typer

from queue_app.cli import options as options
from queue_app.cli.command import Command, Commands
from queue_app.cli.job_commands import cancel, dashboard, pause, quarantine, status, unpause
from queue_app.cli.output_commands import clean, export, index, map_file, verify
from queue_app.cli.preflight_commands import convert, doctor, plan
from queue_app.cli.printing import INTERRUPTED, say
from queue_app.cli.run_commands import embed, enqueue, resume
from queue_app.cli.worker_command import drain, key_file, worker
from queue_app.errors import HoldfastError, UsageError
from queue_app.host.limits import is_thread_refused, out_of_memory, thread_refused
from queue_app.host.surroundings import settle
from queue_app.shown_log import ShownLog

app = typer.Typer(
    name="holdfast",
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def holdfast(version: options.Version = False) -> None:
    """Crash-safe batch embedding inference. A job that was killed goes on where it was: run it again."""


COMMANDS = {
    "Run a job": (embed, resume),
    "Before a job": (plan, doctor, convert),
    "Watch a job": (status, dashboard, quarantine),
    "Pause or stop a job": (pause, unpause, cancel),
    "Check, rewrite or clear what it left": (verify, export, map_file, index, clean),
    "Jobs on several machines": (enqueue, worker, drain, key_file),
}
NAMES = {map_file: "map", key_file: "key-file"}
for heading, members in COMMANDS.items():
    for command in members:
        app.command(NAMES.get(command, command.__name__), cls=Command, rich_help_panel=heading)(command)


def main() -> None:
    """The console command. Errors that the user can answer are one line and a documented exit code."""
    settle()
    if logging.lastResort is not None:  # which writes what no handler was set for
        logging.lastResort.addFilter(ShownLog(_server))
    try:
        if "" in sys.argv[1:]:  # as a path it would be the directory that we are in
            raise UsageError("an argument is empty: is a variable of the shell not set?")
        sys.exit(app(args=sys.argv[1:], prog_name="holdfast", standalone_mode=False))
    except HoldfastError as error:
        _fail(error, error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except MemoryError:
        _fail(out_of_memory())
    except OSError as error:
        # The machine's no, not ours: permissions, limits, a disk that went away.
        _fail(f"{error.filename or 'system'}: {error.strerror or error}")
    except Exception as error:
        if is_thread_refused(error):
            _fail(thread_refused())
        if refused := _refused_by_server(error):
            _fail(refused)
        raise


def _refused_by_server(error: Exception) -> str | None:
    """What the server does not let its user do, and which user may; None: it was something else."""
    if "redis" not in sys.modules:  # nobody was asked
        return None
    from queue_app.coordination.trust.server_rights import explain_refusal, remedy

    said = explain_refusal(error)
    command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    return f"the server refuses: {said}; {remedy(command)}" if said else None


def _server() -> str:
    from queue_app.settings import runtime_config

    return runtime_config().broker_url


def _fail(why: object, exit_code: int = HoldfastError.exit_code) -> None:
    say(f"holdfast: {why}")
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
