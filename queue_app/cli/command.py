"""What a command of ours is to typer: its help, and what it answers to words that it does not know."""

import re
from collections import defaultdict
from difflib import get_close_matches
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn, cast

import typer
from typer.core import TyperCommand, TyperGroup

from queue_app.choices import ALLOW_QUARANTINE, ANY
from queue_app.cli.command_words import EXAMPLES
from queue_app.cli.command_words import SAME as SAME_COMMAND
from queue_app.cli.help_pages import (
    HELP_FLAGS,
    SHOW_THIS,
    argument_name,
    row_of,
    write_examples,
    write_options,
)
from queue_app.errors import UsageError
from queue_app.option_words import NEAR, SAME, VALUES, in_shell, key_of, options_in

WRONG_USE: type[Exception] = typer.BadParameter.__mro__[1]
"""Click's UsageError, which typer gives no public name."""
_LAYER = re.compile(r"-?\d+")
_ALL = "holdfast.help_all"


class Command(TyperCommand):
    """A command whose options may be spelled with - or _, and as other programs call them."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.context_settings.update(help_option_names=HELP_FLAGS, token_normalize_func=self.in_our_words)

    @cached_property
    def flags(self) -> frozenset[str]:
        """Its options as they are written, without the dashes before."""
        every = [flag for each in self.params for flag in (*each.opts, *each.secondary_opts)]
        return frozenset(flag.lstrip("-") for flag in (*every, *HELP_FLAGS))

    def in_our_words(self, word: str) -> str:
        """A flag without its dashes, or one of a few values, as we call it. Click asks this of each."""
        ours = word.replace("_", "-")
        if ours in self.flags:
            return ours
        same = SAME.get(key_of(word), "").replace("_", "-")
        return same if same in self.flags else VALUES.get(word.lower(), word)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[_ALL] = "--help-all" in args
        given = [f"{word}={ANY}" if word.replace("_", "-") == ALLOW_QUARANTINE else word for word in args]
        self._refuse_list(args)
        try:
            return super().parse_args(ctx, list(given))
        except WRONG_USE as error:
            raise UsageError(f"{self.name}: {self._answer(error, given)}") from None

    def _refuse_list(self, args: list[str]) -> None:
        """`--layers 0 32 33`, as extract.py takes them: the second one would be an input."""
        for place, word in enumerate(args[:-2]):
            if self.in_our_words(word.lstrip("-")) == "layers" and word.startswith("--"):
                layers = list(takewhile(_LAYER.fullmatch, args[place + 1 :]))
                if len(layers) > 1:
                    raise UsageError(f"{self.name}: {word}: use --layers {','.join(layers)}")

    def _answer(self, error: Any, given: list[str]) -> str:
        """One line about what was wrong: by its meaning first, by its letters second."""
        told = vars(error)
        if "possibilities" in told:
            return self._unknown(told["option_name"], told["possibilities"] or [], given)
        if "param_type" in told:
            return f"{_hint(told['param'])} is missing, as in: {EXAMPLES[self.name or ''][0]}"
        text: str = error.format_message()
        return f"{text[:1].lower()}{text[1:]}".rstrip(".").replace("Value error, ", "")

    def _unknown(self, option: str, alike: list[str], given: list[str]) -> str:
        ours = option.lstrip("-")
        flags = (word.partition("=")[0] for word in given)
        typed = next((flag for flag in flags if self.in_our_words(flag.lstrip("-")) == ours), option)
        near = NEAR.get(key_of(typed))
        if near is not None and self._takes(near):
            return f"{typed}: {in_shell(near)}"
        begun = sorted(flag for flag in self.flags if len(ours) > 1 and flag.startswith(ours))
        if alike := [f"--{flag}" for flag in begun] or alike:
            return f"no option {typed}: is {' or '.join(alike)} meant?"
        return f"no option {typed}; holdfast {self.name} --help-all shows every option"

    def _takes(self, sentence: str) -> bool:
        """True when it has every option that the sentence names; one without any is about a job."""
        names = options_in(sentence) or {"toks_per_batch"}
        return names <= {each.name for each in self.params}

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = (each for each in self.params if each.param_type_name == "argument")
        return [_usage(each) for each in arguments] + ["[OPTIONS]"]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        write_options(self, ctx, formatter, every=ctx.meta.get(_ALL, False))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        write_examples(self, formatter)


class Commands(TyperGroup):
    """All commands, in groups."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.context_settings.update(help_option_names=HELP_FLAGS)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args or ["--help"])
        except WRONG_USE as error:
            option = vars(error).get("option_name", "")
            if option.lstrip("-") in {"V", "v"}:
                raise UsageError(f"{option}: use --version") from None
            raise UsageError(f"{option}: an option stands behind its command, as in: {_FIRST}") from None

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            self._refuse(args[0])
        return super().resolve_command(ctx, args)

    def _refuse(self, word: str) -> NoReturn:
        if meant := SAME_COMMAND.get(word.lower()):
            raise UsageError(f"no command {word}: use holdfast {meant}")
        if Path(word).exists():
            raise UsageError(f"{word} is a file and no command, as in: {_FIRST}")
        alike = get_close_matches(word, self.commands)
        if alike:
            raise UsageError(f"no command {word}: is {' or '.join(alike)} meant?")
        raise UsageError(f"no command {word}; holdfast --help shows every command")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        self.format_commands(ctx, formatter)
        rows = [row_of(each, ctx) for each in self.params]
        with formatter.section("Options"):
            formatter.write_dl([*rows, SHOW_THIS])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        longest = max(map(len, self.commands))
        headings: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name, command in cast("dict[str, Command]", self.commands).items():
            meaning = command.get_short_help_str(formatter.width - longest - 6)
            headings[command.rich_help_panel or ""].append((name.ljust(longest), meaning))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Example"):
            formatter.write(f"{'':>{formatter.current_indent}}{_FIRST}\n")


_FIRST = EXAMPLES["embed"][0]


def _hint(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return argument_name(parameter)
    return "/".join(sorted(parameter.opts, key=len))


def _usage(argument: Any) -> str:
    name = argument_name(argument)
    return name if argument.required else f"[{name}]"
