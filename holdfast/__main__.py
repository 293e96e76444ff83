"""`python -m holdfast`: the command, for where no script of that name is on the path."""

from runpy import run_module

if __name__ == "__main__":
    run_module("queue_app.cli.main", run_name="__main__", alter_sys=True)
