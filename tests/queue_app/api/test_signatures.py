"""`help` and `inspect.signature` name every option, in the words and with the defaults of the command."""

import inspect
import pydoc
import re
from typing import Any, get_args

import pytest
import typer

import holdfast
from queue_app.cli.main import app
from queue_app.ingest.request import DECLARED

CALLS = [holdfast.embed, holdfast.start, holdfast.embed_async, holdfast.submit]
OPTIONS = DECLARED.keys() - {"inputs", "model", "output"}
each_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)


def entries(call: Any) -> dict[str, str]:
    """What help says of each argument, on one line."""
    (section,) = re.findall(r"^    Args:\n(.*?)(?:\n    \n|\Z)", pydoc.plaintext.document(call), re.S | re.M)
    named = re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", section, re.M)
    return {name: " ".join(text.split()) for name, text in named}


@each_call
def test_help_explains_every_argument(call: Any) -> None:
    assert entries(call).keys() == inspect.signature(call).parameters.keys()
    assert entries(call).keys() >= OPTIONS


@each_call
def test_the_signature_has_every_option_with_its_default(call: Any) -> None:
    parameters = inspect.signature(call).parameters
    assert {name: parameters[name].default for name in OPTIONS} == {
        name: DECLARED[name].default for name in OPTIONS
    }
    assert "options" not in parameters
    assert "queue_app.api.job_handle.JobHandle" in str(inspect.signature(call))


@each_call
def test_type_default_and_words_are_those_of_the_command_line(call: Any) -> None:
    command = typer.main.get_command(app).commands["embed"]  # type: ignore[attr-defined]
    flags = {flag: each.name for each in command.params for flag in each.opts}
    for name, text in entries(call).items():
        if name in OPTIONS:
            about = get_args(DECLARED[name].type)[1].help
            for flag in re.findall(r"--[a-z][\w-]*", about):
                about = re.sub(rf"'?{flag}(=?)'?", flags[flag] + r"\1", about)
            assert about.replace("prompt=", "prompt=''").removesuffix(".") in text.replace("`", "")
            assert text.endswith(f"= {DECLARED[name].default!r})")
            assert text.startswith("False: ") == (DECLARED[name].default is True)
    assert "'float32' | 'bfloat16' | 'float16' | 'int8' | 'auto' = 'auto')" in entries(call)["dtype"]


@each_call
def test_no_option_of_the_command_is_named_where_it_has_another_name_here(call: Any) -> None:
    assert [text for text in entries(call).values() if re.search(r"(?<!\w)--\w", text)] == []
