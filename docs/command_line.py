"""Writes the reference of the command line from the commands themselves, where the page asks for it."""

import html
from typing import Any

import typer

from queue_app.cli.main import app

MARK = "<!-- every command -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return markdown.replace(MARK, reference()) if MARK in markdown else markdown


def reference() -> str:
    """Every command: its help, its arguments and its options."""
    group: Any = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=f"holdfast {name}")
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    rows = [_row(parameter, context) for parameter in command.params]
    table = "\n".join(["| | |", "|---|---|", *rows]) if rows else ""
    return f"## holdfast {name}\n\n{command.help}\n\n```text\n{usage}\n```\n\n{table}"


def _row(parameter: Any, context: Any) -> str:
    names, meaning = parameter.get_help_record(context) or (parameter.human_readable_name, "")
    return f"| `{_one_line(names)}` | {html.escape(_one_line(meaning)).replace('|', '&#124;')} |"


def _one_line(text: str) -> str:
    return " ".join(text.split())
