"""What the help shows, and what a command answers to words that are not its own."""

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

import queue_app
from queue_app.api.options import Options
from queue_app.choices import OptionGroup
from queue_app.cli.command_words import EXAMPLES
from queue_app.cli.command_words import SAME as SAME_COMMAND
from queue_app.cli.help_pages import ALSO_IN_FRONT, IN_FRONT, MANY
from queue_app.cli.main import app
from queue_app.cli.printing import COMMAND_MOST, how_to_go_on
from queue_app.errors import UsageError
from queue_app.ingest.request import DECLARED
from queue_app.option_words import NEAR, SAME, VALUES, flag_of, options_in

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
EMBED = COMMANDS["embed"]
JOB = ["a.fasta", "-m", "mock:8", "-o", "out.h5"]
Printed = Callable[..., list[str]]


def call(*arguments: str) -> None:
    app(list(arguments), prog_name="holdfast", standalone_mode=False)


def refused(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    return str(caught.value)


def given(*arguments: str) -> dict[str, Any]:
    params: dict[str, Any] = EMBED.make_context("embed", [*JOB, *arguments]).params
    return params


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """Calls the command on a terminal of 80 columns; answers its lines."""
    monkeypatch.setattr(shutil, "get_terminal_size", lambda fallback=None: type("Size", (), {"columns": 80}))

    def lines(*arguments: str) -> list[str]:
        call(*arguments)
        return capsys.readouterr().out.splitlines()

    return lines


# ---- help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_h_is_help_that_fits_a_terminal_and_ends_with_an_example(printed: Printed, command: str) -> None:
    words = command.split()
    lines = printed(*words, "-h")
    assert lines == printed(*words, "--help")
    examples = EXAMPLES[command] if command else EXAMPLES["embed"][:1]
    assert [line.strip() for line in lines[-len(examples) :]] == list(examples)
    assert max(len(line) for line in lines[: -len(examples)]) <= 80


@pytest.mark.parametrize("command", ["embed", "enqueue", "plan"])
def test_about_ten_options_stand_in_front_and_every_one_behind_help_all(
    printed: Printed, command: str
) -> None:
    short, whole = printed(command, "-h"), printed(command, "--help-all")
    options = [each for each in COMMANDS[command].params if each.param_type_name == "option"]

    def shown(lines: list[str]) -> set[str]:
        starts = [line.split() for line in lines if line.startswith("  -")]
        return {word.rstrip(",") for words in starts for word in words[:2] if word.startswith("--")}

    front = shown(short) - {"--help"}
    assert 8 <= len(front) <= 13
    assert f"{len(options) - len(front)} more options: holdfast {command} --help-all" in short
    assert shown(whole) >= {flag for each in options for flag in each.opts if flag.startswith("--")}


def test_every_option_of_a_command_with_many_has_its_group_and_what_is_in_front_exists() -> None:
    every: set[str] = set()
    for command in COMMANDS.values():
        options = [each for each in command.params if each.param_type_name == "option"]
        every |= {each.name for each in options}
        if len(options) >= MANY:
            assert {each.rich_help_panel for each in options} <= set(get_args(OptionGroup))
    assert IN_FRONT | {name for names in ALSO_IN_FRONT.values() for name in names} <= every
    assert EXAMPLES.keys() == COMMANDS.keys()


# ---- one name an option, and the words of other programs


def test_an_option_has_one_name_in_the_shell_and_in_python() -> None:
    in_python = {**inspect.signature(queue_app.embed).parameters, **Options.__annotations__}
    for each in EMBED.params:
        if each.param_type_name == "option":
            assert flag_of(each.name) in each.opts or each.name == "as_json"
    shell_only = {"as_json", "quiet", "allow_quarantine", "metrics_port", "metrics_address"}
    assert {each.name for each in EMBED.params} - in_python.keys() == shell_only
    assert in_python.keys() - {each.name for each in EMBED.params} == {"sequences", "progress"}


@pytest.mark.parametrize(("word", "name"), SAME.items())
def test_a_word_that_means_the_same_is_taken(word: str, name: str) -> None:
    flags = {"normalize", "no_normalize", "quiet"}
    value = {"num_shards": "3", "toks_per_batch": "3", "truncate_dim": "3"}.get(name, "float16")
    values = [] if name in flags else [value]
    assert given(flag_of(word), *values) == given(flag_of(name), *values) != given()


@pytest.mark.parametrize(("word", "ours"), VALUES.items())
def test_a_dtype_may_be_said_in_other_words(word: str, ours: str) -> None:
    assert given("--dtype", word)["dtype"] == given(f"--dtype={ours}")["dtype"] == ours


def test_values_that_look_like_words_are_left_alone() -> None:
    for name in ("rules", "input_format", "alphabet", "long", "h5_layout"):
        for value in _words(get_args(DECLARED[name].type)[0]):
            assert given(flag_of(name), value)[name] == value
    assert given("--prompt", "--out_dir")["prompt"] == "--out_dir"


def _words(kind: Any) -> list[str]:
    members = get_args(kind)
    return [word for each in members for word in ([each] if isinstance(each, str) else _words(each))]


@pytest.mark.parametrize("word", sorted(NEAR.keys() - {"quiet", "no_dedup"}))
def test_a_word_that_means_something_near_is_answered_by_what_to_use(word: str) -> None:
    flag = f"-{word}" if len(word) == 1 else flag_of(word)
    line = refused("embed", *JOB, flag, "1")
    assert line.startswith(f"embed: {flag}: ")
    assert "[" not in line
    assert options_in(NEAR[word]) <= {each.name for each in EMBED.params}


REFUSED = {
    "batch_size": (
        ["embed", *JOB, "--batch_size=32"],
        "embed: --batch_size: batches are filled to a number ",
    ),
    "begun": (["embed", *JOB, "--seq", "x"], "embed: no option --seq: is --sequence-column meant?"),
    "letters": (["embed", *JOB, "--shard", "1"], "embed: no option --shard: is --num-shards "),
    "nothing near": (
        ["clean", "a", "--qqq"],
        "clean: no option --qqq; holdfast clean --help-all shows every",
    ),
    "no option of this one": (["worker", "gpu0", "--gpus", "1"], "worker: no option --gpus; holdfast worker"),
    "several layers": (["embed", *JOB, "--repr_layers", "0", "33"], "--repr_layers: use --layers 0,33"),
    "a negative layer": (["embed", *JOB, "--layers", "6", "-1"], "--layers: use --layers 6,-1"),
    "no input": (["embed"], "embed: INPUT... is missing, as in: holdfast embed proteins.fasta -m "),
    "no model": (["embed", "a.fasta"], "embed: -m/--model is missing, as in: holdfast embed "),
    "no value": (["embed", *JOB, "--out"], "embed: option '--output' requires an argument"),
    "too many": (["status", "a", "b"], "status: got unexpected extra argument(s) (b)"),
    "a bad choice": (["embed", *JOB, "--long", "x"], "embed: invalid value for '--long': 'x' is not one of"),
    "an option alone": (["--foo", "embed"], "--foo: an option stands behind its command, as in: holdfast em"),
    "the version": (["-V"], "-V: use --version"),
    "by meaning": (["run", "x.fasta"], "no command run: use holdfast embed"),
    "by letters": (["enqeue"], "no command enqeue: is enqueue meant?"),
    "no command": (["zzz"], "no command zzz; holdfast --help shows every command"),
    "a file": ([__file__], f"{__file__} is a file and no command, as in: holdfast embed "),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_command_is_answered_in_one_line_that_says_what_to_do(
    arguments: list[str], message: str
) -> None:
    line = refused(*arguments)
    assert message in line
    assert len(line.splitlines()) == 1


def test_the_words_for_commands_name_commands_and_are_none_themselves() -> None:
    assert {command.split()[0] for command in SAME_COMMAND.values()} <= {*COMMANDS, "--help", "--version"}
    assert not SAME_COMMAND.keys() & COMMANDS.keys()


# ---- how to go on


def test_how_to_go_on_is_a_command_to_copy_without_a_password() -> None:
    assert how_to_go_on(["embed", "a b.fasta", "-o", "x.h5"], None) == "holdfast embed 'a b.fasta' -o x.h5"
    piped = ["embed", "-", "-o", "x y.h5"]
    assert how_to_go_on(piped, Path("x y.h5")) == "holdfast resume 'x y.h5'"
    assert how_to_go_on(piped, None) == "holdfast embed - -o 'x y.h5'"
    many = ["embed", *(f"{n}.fasta" for n in range(COMMAND_MOST)), "-o", "x.h5"]
    assert how_to_go_on(many, Path("x.h5")) == "holdfast resume x.h5"
    assert how_to_go_on(["embed", "--broker-url", "redis://:secret@h"], None) == "the same command again"
