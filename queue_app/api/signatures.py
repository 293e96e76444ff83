"""The calls name every option to `help`, notebooks and `inspect.signature`: from the table that the command
line is made of. Type checkers read `Options`."""

import inspect
import re
import textwrap
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from queue_app.api.options import Options
from queue_app.ingest.request import DECLARED

WIDTH = 100
_ARGS = re.compile(r"^Args:\n(?: .*\n?)+", re.MULTILINE)
_NO_VALUE = re.compile(r"'--([\w-]+)='")
_PLACE = re.compile(r"<\w+>[\w.]*")
_FLAG = re.compile(r"--([a-z][\w-]*)")
_MODULE = re.compile(r"\b(?:\w+\.)+(?=\w)")


def name_every_option(call: Callable[..., Any]) -> None:
    """Put all of `Options` in the place of `**options`, and behind the arguments that are explained."""
    own = inspect.signature(call)
    kept = [each for each in own.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=_default(name), annotation=kind)
        for name, kind in Options.__annotations__.items()
    ]
    _set_signature(call, own.replace(parameters=[*kept, *options]))
    explained = "".join(f"{_explained(name)}\n" for name in Options.__annotations__)
    document = inspect.cleandoc(call.__doc__ or "")
    call.__doc__ = _ARGS.sub(lambda found: f"{found[0].rstrip()}\n{explained}", document)


def take_after(call: Callable[..., Any], other: Callable[..., Any]) -> None:
    """Have a call say that it takes what the other one takes, in the same words."""
    taken, answer = inspect.signature(other), inspect.signature(call).return_annotation
    _set_signature(call, taken.replace(return_annotation=answer))
    found = _ARGS.search(other.__doc__ or "")
    call.__doc__ = f"{inspect.cleandoc(call.__doc__ or '')}\n\n{found[0] if found else ''}"


def _set_signature(call: Any, signature: inspect.Signature) -> None:
    call.__signature__ = signature


def _default(name: str) -> Any:
    return DECLARED[name].default


def _explained(name: str) -> str:
    """`name: What it is. (type = default)`, in lines."""
    about = get_args(DECLARED[name].type)[1].help
    # Where the default is yes, the command's flag says no, and so does what it is explained by.
    about = f"False: {about}" if _default(name) is True else about
    kind = _kind(Options.__annotations__[name])
    text = f"{name}: {_in_python(about)} ({kind} = {_default(name)!r})"
    return textwrap.fill(text, WIDTH, initial_indent=" " * 4, subsequent_indent=" " * 8)


def _in_python(about: str) -> str:
    """Options of the command under their names here; what stands in <…> would be taken for HTML."""
    about = _PLACE.sub(r"`\g<0>`", about)
    about = _NO_VALUE.sub(lambda found: f"{_name(found[1])}=''", about)
    return _FLAG.sub(lambda found: _name(found[1]), about)


def _name(flag: str) -> str:
    flags = {flag: name for name, each in DECLARED.items() for flag in get_args(each.type)[1].flags}
    return flags.get(f"--{flag}", flag.replace("-", "_"))


def _kind(annotation: Any) -> str:
    """A type as one writes it, its words one after another."""
    if get_origin(annotation) is Literal:
        return " | ".join(map(repr, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(_kind, get_args(annotation)))
    return "None" if annotation is NoneType else _MODULE.sub("", inspect.formatannotation(annotation))
