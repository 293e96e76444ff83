"""What others wrote, for a terminal, a table, a spreadsheet and Markdown."""

import ast
import os
import subprocess
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_app.shown import (
    LINES_MOST,
    markdown_text,
    shell_word,
    spreadsheet_cell,
    tsv_cell,
    undone,
    visible,
    visible_lines,
)
from tests.support import ROOT
from tests.support.house import House

HOUSE = House(ROOT)
HOSTILE = ["\x1b[2J", "\x9b31m", "\u202egpj.exe", "a\u2028b", "\ufeffa", "\x07\x00", "\udc80", "\U000e0041"]
HARMLESS = [
    "蛋白質",
    "Ångström é",
    "👨\u200d👩\u200d👧 ❤️",
    "\u0645\u06cc\u200c\u062e",
    "שלום",
    "a b",
    "R&D 5 % ~x~",
]
TEXTS = st.text(st.characters(), max_size=30)


def is_seen(text: str) -> bool:
    return text.translate({0x200C: None, 0x200D: None, 0xA0: " ", 0x3000: " "}).isprintable()


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_a_terminal_obeys_or_hides_is_shown(text: str) -> None:
    assert is_seen(visible(text))
    assert is_seen(visible_lines(text))
    assert "\\" in visible(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_words_of_every_script_and_emoji_stay_as_they_are(text: str) -> None:
    assert visible(text) == visible_lines(text) == tsv_cell(text) == text


def test_a_text_of_others_is_one_line_and_a_text_of_ours_keeps_its_lines() -> None:
    assert visible("a\nb\tc\r") == "a\\nb\\tc\\r"
    assert visible_lines("a\nb\tc\r") == "a\nb\tc\\r"


def test_a_long_text_is_shown_by_its_ends_and_its_length() -> None:
    assert visible("x" * 1_000_000).endswith("x… (1,000,000 characters)")
    long = f"input: {'x' * 126_000_000}: cut the ids"
    shown = visible_lines(long)
    assert len(shown) < LINES_MOST + 100
    assert shown.startswith("input: xx")
    assert shown.endswith("xx: cut the ids")
    assert len(visible_lines("\x00" * 1_000_000)) < LINES_MOST + 100


def test_what_was_made_visible_stays_as_it_is() -> None:
    shown = visible_lines(f"a.fasta: record 7: \x1b]0;evil\x07{'x' * 1_000_000}: split it")
    assert is_seen(shown)
    assert visible_lines(shown) == shown


@given(TEXTS)
def test_a_cell_of_a_table_is_one_line_and_can_be_undone(text: str) -> None:
    cell = tsv_cell(text)
    assert len(f"a\t{cell}\tb".splitlines()) == 1
    assert all(letter.isprintable() or unicodedata.category(letter) in ("Zs", "Cf") for letter in cell)
    assert cell.count("\t") == 0
    assert not cell.startswith(("=", "+", "-", "@"))
    assert undone(cell) == text


def test_a_spreadsheet_computes_nothing_and_numbers_stay_numbers() -> None:
    for formula in ('=HYPERLINK("http://x")', "+1+cmd", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", " =1"):
        assert spreadsheet_cell(formula) == f"'{formula}"
    for value in ("-5", "+1.5e3", "-.5", "sp|P1", "", None, 7, -0.5):
        assert spreadsheet_cell(value) == value


def test_markdown_makes_neither_code_nor_table_nor_html_nor_link_of_a_text() -> None:
    shown = markdown_text(
        "<img src=x> | `a` [b](http://c) ![d](e)\n\n# f *g* _h_ esm2_t6 \\* &lt; R&D www.i.j"
    )
    assert shown == (
        r"\<img src=x\> \| \`a\` \[b\](http\://c) !\[d\](e) # f \*g\* \_h\_ esm2_t6 \\\* \&lt; R&D www\.i.j"
    )


@pytest.mark.parametrize("word", ["a b", "it's", "\x1b[2J", "a\nb", "é\u202ex'\\", "-o", "\udcff"])
def test_a_word_of_a_command_is_what_a_shell_reads(word: str) -> None:
    shown = shell_word(word)
    assert is_seen(shown)
    ran = subprocess.run(["bash", "-c", f"printf %s {shown}"], capture_output=True, check=True)
    assert os.fsdecode(ran.stdout) == word


# ---- who prints


SHOWS = {"visible", "visible_lines", "tsv_line", "json.dumps", "version", "print_json"}
OF_OURS = {
    "queue_app.dashboard.serve",  # the page's address, and two sentences
    "queue_app.host.physical_device", "queue_app.cli.main",
    "queue_app.status.summary",  # its lines are made visible as they come
    "queue_app.status.live", "queue_app.status.notebook", "queue_app.cli.printing",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in HOUSE.modules if name.startswith("queue_app.")])
def test_nothing_is_printed_that_was_not_made_visible(name: str) -> None:
    """`say` and `tell` of the command line do so; the modules that are named here say how they do."""
    calls = [node for node in ast.walk(HOUSE.modules[name].tree) if isinstance(node, ast.Call)]
    prints = [call for call in calls if ast.unparse(call.func) in ("print", "typer.echo", "sys.stderr.write")]
    for call in prints if name not in OF_OURS else []:
        within = {ast.unparse(part.func) for part in ast.walk(call.args[0]) if isinstance(part, ast.Call)}
        assert within & SHOWS, ast.unparse(call)
