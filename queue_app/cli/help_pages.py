"""What the help of a command shows: what a first user needs, or with --help-all every option in groups."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from queue_app.choices import OptionGroup
from queue_app.cli.command_words import EXAMPLES

HELP_FLAGS = ["-h", "--help", "--help-all"]
IN_FRONT = frozenset({
    "model", "output", "pool", "layers", "max_length", "device", "dtype", "reuse", "overwrite", "quiet",
})  # fmt: skip
"""The options, by their names in Python, that help shows of a command with many."""
ALSO_IN_FRONT = {"enqueue": {"queues", "broker_url"}, "plan": {"gpu_hour_cost"}}
MANY = 16
"""A command with so many options has most of them behind --help-all."""
NAMES_MOST = 24
"""In columns: what is longer has a line of its own above what it means."""
KINDS = {"int range": "N", "int": "N", "float range": "X", "float": "X", "str": "TEXT", "path": "PATH"}
Row = tuple[str, str]
SHOW_THIS = ("-h, --help", "Show this.")


def write_options(command: Any, context: Any, formatter: Any, *, every: bool) -> None:
    """The arguments and options of a command, into click's formatter."""
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option"]
    if arguments:
        _write(formatter, "Arguments", [row_of(each, context) for each in arguments])
    has_many = len(options) >= MANY
    if has_many and every:
        for heading, members in grouped(options).items():
            _write(formatter, heading, [row_of(each, context) for each in members])
        return
    needed = IN_FRONT | ALSO_IN_FRONT.get(command.name, set())
    front = [each for each in options if not has_many or each.name in needed]
    rows = [row_of(each, context) for each in front]
    _write(formatter, "Options", [*rows, SHOW_THIS])
    if has_many:
        formatter.write_paragraph()
        formatter.write_text(f"{len(options) - len(front)} more options: {context.command_path} --help-all")


def grouped(options: Sequence[Any]) -> Mapping[str, list[Any]]:
    """The options under their headings, in the order of these."""
    groups: dict[str, list[Any]] = defaultdict(list)
    for each in sorted(options, key=lambda option: get_args(OptionGroup).index(option.rich_help_panel)):
        groups[each.rich_help_panel].append(each)
    return groups


def row_of(parameter: Any, context: Any) -> Row:
    """How an argument or an option is written, and what it means."""
    return " / ".join(_names(parameter, context)), " ".join(_meaning(parameter))


def write_examples(command: Any, formatter: Any) -> None:
    """Commands to copy, never broken in the middle."""
    examples = EXAMPLES.get(command.name, ())
    if examples:
        with formatter.section("Example" if len(examples) == 1 else "Examples"):
            for line in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _write(formatter: Any, heading: str, rows: Sequence[Row]) -> None:
    with formatter.section(heading):
        formatter.write_dl(rows, col_max=NAMES_MOST)


def _names(parameter: Any, context: Any) -> Iterator[str]:
    if parameter.param_type_name == "argument":
        yield argument_name(parameter)
        return
    flags = ", ".join(sorted(parameter.opts, key=len))
    yield flags if parameter.is_flag else f"{flags} {_value(parameter, context)}"
    if parameter.secondary_opts:
        yield ", ".join(parameter.secondary_opts)


def argument_name(parameter: Any) -> str:
    """`JOB`, `INPUT...`."""
    name = str(parameter.metavar or parameter.name.upper())
    return name if parameter.nargs == 1 else f"{name}..."


def _value(parameter: Any, context: Any) -> str:
    if parameter.metavar is not None:
        return str(parameter.metavar)
    kind: str = parameter.display_type(context).strip("<>")
    return KINDS.get(kind, kind)


def _meaning(parameter: Any) -> Iterator[str]:
    yield parameter.help or ""
    if parameter.required and parameter.param_type_name == "option":
        yield "[required]"
    elif (
        parameter.show_default and isinstance(parameter.default, str | float | int) and not parameter.is_flag
    ):
        yield f"[default: {parameter.default}]"
