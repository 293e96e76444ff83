"""`celery -A queue_app worker -Q gpu0` without Celery's other commands: `python -m queue_app.worker -A …`.

Celery's own command line imports all of its commands and every plugin that is installed, a shell and Flower
among them: that costs each worker a third of its start, and memory for as long as it lives.
"""

import sys

from celery.bin.base import CLIContext
from celery.bin.worker import worker

from queue_app.celery_app import app

COMMAND = ("-A", "queue_app", "worker")


def main() -> None:
    """Run the worker with the options behind the command. Never returns."""
    if tuple(sys.argv[1 : 1 + len(COMMAND)]) != COMMAND:
        raise SystemExit(f"usage: python -m queue_app.worker {' '.join(COMMAND)} [OPTIONS]")
    context = CLIContext(app=app, no_color=False, workdir=None)
    worker.main(sys.argv[1 + len(COMMAND) :], prog_name="celery worker", obj=context)


if __name__ == "__main__":
    main()
