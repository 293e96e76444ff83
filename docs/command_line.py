"""Writes the reference of the command line from the commands themselves, where the page asks for it."""

import html
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from queue_app.cli.command_words import EXAMPLES
from queue_app.cli.help_pages import MANY, grouped, row_of
from queue_app.cli.main import app

MARK = "<!-- every command -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return markdown.replace(MARK, reference()) if MARK in markdown else markdown


def reference() -> str:
    """Every command in the groups of `holdfast --help`: its help, its examples, its arguments and options."""
    group: Any = typer.main.get_command(app)
    parts, heading = [], None
    for name, command in group.commands.items():
        if command.rich_help_panel != heading:
            heading = command.rich_help_panel
            parts.append(f"## {heading}")
        parts.extend(_command(name, command))
    return "\n\n".join(parts)


def _command(name: str, command: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=f"holdfast {name}")
    yield f"### holdfast {name}\n\n{command.help}"
    yield "```sh\n" + "\n".join(EXAMPLES[name]) + "\n```"
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    tables = grouped(options) if len(options) >= MANY else {"Options": options}
    for title, members in {"Arguments": arguments, **tables}.items():
        if members:
            yield _table(title, members, context)


def _table(title: str, parameters: Sequence[Any], context: Any) -> str:
    rows = [
        f"| `{names}` | {html.escape(meaning).replace('|', '&#124;')} |"
        for names, meaning in (row_of(each, context) for each in parameters)
    ]
    return "\n".join([f"| {title} | |", "|---|---|", *rows])
