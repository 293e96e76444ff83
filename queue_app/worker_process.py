"""A worker process as `celery -A queue_app worker -Q gpu0` starts it, and with the same options.

Celery's own command line imports all of its commands and every plugin that is installed, a shell and Flower
among them: that costs each worker a third of its start, and memory for as long as it lives.
"""

from celery.bin.base import CLIContext
from celery.bin.worker import worker

from queue_app.celery_app import app


def main() -> None:
    """Run `celery worker` with the options of this process. Never returns."""
    worker.main(prog_name="celery worker", obj=CLIContext(app=app, no_color=False, workdir=None))


if __name__ == "__main__":
    main()
