"""Options that commands have in common, as one parameter of theirs: a dataclass, whose fields they are.

Those of a job are the fields of EmbedRequest.
"""

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache, wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from queue_app.host.limits import require_limits
from queue_app.ingest.request import DECLARED, EmbedRequest, Option
from queue_app.model.short_names import hub_id_of
from queue_app.option_words import flag_of
from queue_app.shown import visible_lines

Command = Callable[..., None]


def flattened(command: Command, **instead: inspect.Parameter) -> Command:
    """The command with its groups' options in their place; `instead` are those that differ for it."""
    own = inspect.signature(command).parameters
    groups: dict[str, Any] = {
        name: each.annotation for name, each in own.items() if is_dataclass(each.annotation)
    }
    flat: dict[str, inspect.Parameter] = {}
    for name, parameter in own.items():
        flat |= parameters_of(groups[name]) if name in groups else {name: parameter}

    @wraps(command)
    def called(**given: Any) -> None:
        if EmbedRequest in groups.values():
            require_limits(given["model"])
            if hub_id := hub_id_of(given["model"]):
                _tell_model(given, hub_id)
        for name, group in groups.items():
            asked = {each.name: given.pop(each.name) for each in fields(group)}
            given[name] = group(**asked)
        command(**given)

    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (flat | instead).values()]
    called.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in keyword}
    return called


def _tell_model(given: Mapping[str, Any], hub_id: str) -> None:
    """A short name is not in the job, which has the hub's."""
    if not (given.get("quiet") or given["as_json"]):
        print(visible_lines(f"{given['model']}: the hub's {hub_id}"), file=sys.stderr)


@cache
def parameters_of(group: Any) -> dict[str, inspect.Parameter]:
    """The options of a group, by name. Several commands have the same: `holdfast --help` waits for them."""
    return {field.name: _parameter(field) for field in fields(group)}


def written(name: str) -> Any:
    """How an option of a job is written, for typer: its flags, and what its help says."""
    kind, option = get_args(DECLARED[name].type)
    if option.is_argument:
        return typer.Argument(help=option.help, metavar=option.metavar)
    is_flag = kind is bool and not DECLARED[name].default
    flags = option.flags or ([flag_of(name)] if is_flag else [])
    return typer.Option(
        *flags, help=option.help, metavar=option.metavar, min=option.least, rich_help_panel=option.group
    )


def _parameter(field: "Field[Any]") -> inspect.Parameter:
    kind, how = get_args(field.type)
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    if isinstance(how, Option):
        how = written(field.name)
        if isinstance(default, tuple):
            kind, default = str, ",".join(map(str, default))
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[_taken(kind), how],
        default=default,
    )


def _taken(kind: Any) -> Any:
    """What typer takes for a type: a list for any sequence, one set of words, `auto` first, for several."""
    members = get_args(kind)
    if get_origin(kind) is Sequence:
        return list[members]  # type: ignore[valid-type]
    if members and all(get_origin(each) is Literal for each in members):
        words = [word for each in members for word in get_args(each)]
        return Literal[tuple(sorted(words, key=lambda word: word != "auto"))]
    return str | None if tuple[str, ...] in members else kind
