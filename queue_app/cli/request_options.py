"""The options of a job on the command line, which `embed`, `plan` and `enqueue` have in common.

They are made of the fields of EmbedRequest, and imported for every `holdfast --help`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field
from functools import wraps
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from queue_app.host.limits import require_limits
from queue_app.ingest.request import DECLARED, EmbedRequest

Command = Callable[..., None]


def written(name: str) -> Any:
    """How an option of this name in Python is written, for typer: its flags, and what its help says."""
    kind, option = get_args(DECLARED[name].type)
    if option.is_argument:
        return typer.Argument(help=option.help)
    flags = option.flags or ([f"--{name.replace('_', '-')}"] if kind is bool else [])
    return typer.Option(*flags, help=option.help, metavar=option.metavar, min=option.least)


def _parameter(field: "Field[Any]") -> inspect.Parameter:
    kind, _ = get_args(field.type)
    default = inspect.Parameter.empty if field.default is MISSING else field.default
    if isinstance(default, tuple):
        kind, default = str, ",".join(map(str, default))
    elif kind is bool:
        default = False
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[_taken(kind), written(field.name)],
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
    return kind


PARAMETERS = {name: _parameter(field) for name, field in DECLARED.items()}


def request_of(**given: Any) -> EmbedRequest:
    """The request that these options make; a flag turns its option to what is not the default.

    Raises:
        UsageError: a pool, layer or delimiter is none.
    """
    flags = {name for name in given if get_args(DECLARED[name].type)[0] is bool}
    turned = {name: given[name] != DECLARED[name].default for name in flags}
    return EmbedRequest(**{**given, **turned})


def takes_request(command: Command, **instead: inspect.Parameter) -> Command:
    """Give a command the options of a job before its own, and what they make as its `request`.

    `instead` are those that differ for this command.
    """
    own = {name: each for name, each in inspect.signature(command).parameters.items() if name != "request"}

    @wraps(command)
    def called(**given: Any) -> None:
        require_limits(given["model"])
        request = request_of(**{name: given.pop(name) for name in PARAMETERS})
        command(request, **given)

    parameters = {**PARAMETERS, **instead, **own}
    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters.values()]
    called.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in keyword}
    return called
