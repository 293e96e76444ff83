"""What others wrote, as people get to see it: one function for each place where it is shown.

Ids, columns, names of files and models, and whatever a server holds are somebody else's text. A terminal
obeys an escape character in it, a table ends its row at a line break, a spreadsheet computes what begins with
`=`, and Markdown runs HTML. JSON, the page (which sets text alone) and html.escape need none of these.
"""

import os
import re
import shlex
import unicodedata

JOINERS = "\u200c\u200d"
"""Within words of some scripts, and within emoji: nothing moves by them."""
VISIBLE_MOST = 200
"""Characters of a text from elsewhere, such as an id, in a line of ours."""
LINES_MOST = 4_000
"""Characters of a whole text of ours, such as an error."""
CUT_LEAST = 100
"""Characters: for fewer nothing is cut out, as what says so has nearly as many."""
_OURS = str.maketrans("", "", "\n\t" + JOINERS)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_FORMULA = tuple("=+-@\t\r\uff1d\uff0b\uff0d\uff20")
_MARKUP = re.compile(
    r"[`*<>\[\]|~$]|\\(?=[!-/:-@\[-`{-~])|&(?=#?\w+;)|(?<!\w)_|_(?!\w)|(?<=\w):(?=//)|(?<=www)\.",
    re.IGNORECASE,
)


# ---- a terminal and a log


def visible(text: str, most: int = VISIBLE_MOST) -> str:
    """Text that somebody else wrote, as a line of ours may show it: `\\x1b` for an escape character, and of a
    long one the beginning and how long it is."""
    shown = _escaped(text[:most], "")
    return shown if len(text) <= most else f"{shown}… ({len(text):,} characters)"


def visible_lines(text: str, most: int = LINES_MOST) -> str:
    """A text of ours that others' may stand in: its line breaks and tabs stay. What is too long for a screen
    loses its middle, for what is to be done is said last."""
    told = f"({len(text):,} characters)"
    return _without_middle(_escaped(_without_middle(text, most, told), "\n\t"), most, told)


def _without_middle(text: str, most: int, told: str) -> str:
    if len(text) <= most + CUT_LEAST:
        return text
    end = most // 4
    return f"{text[: most - end]} … {told} … {text[-end:]}"


def _escaped(text: str, kept: str) -> str:
    if text.translate(_OURS).isprintable() and (kept or not ("\n" in text or "\t" in text)):
        return text
    return "".join(
        letter if letter in kept or not _is_hidden(letter) else _code_of(letter) for letter in text
    )


def _is_hidden(letter: str) -> bool:
    """Whether it moves a cursor, turns the direction, or shows nothing."""
    return not (letter.isprintable() or letter in JOINERS or unicodedata.category(letter) == "Zs")


def _code_of(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def shell_word(word: str) -> str:
    """A word of a command as one can paste it into a shell; with `$'…'` where it has what cannot be seen."""
    if not any(map(_is_hidden, word)):
        return shlex.quote(word)
    return "$'" + "".join(map(_in_dollar_quotes, word)) + "'"


def _in_dollar_quotes(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    if not _is_hidden(letter):
        return letter
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))


# ---- tables


def tsv_cell(text: str) -> str:
    """A cell of a TSV of ours: a line stays a line, no spreadsheet computes it, and it can be undone.

    A backslash is doubled, and `\\t`, `\\n`, `\\x1b`, `\\u202e` stand for what cannot be seen, as does
    `\\x3d` for an `=` in front. `undone` is how a reader gets the text back.
    """
    shown = _escaped(text.replace("\\", "\\\\"), "")
    return f"\\x{ord(shown[0]):02x}{shown[1:]}" if shown[:1] in set("=+-@") else shown


def undone(cell: str) -> str:
    """The text that `tsv_cell` made a cell of."""
    return cell.encode("latin-1", "backslashreplace").decode("unicode_escape")


def spreadsheet_cell(value: object) -> object:
    """A cell of a table that is opened in a spreadsheet: an apostrophe before what would be a formula."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value) or not value.lstrip(" ").startswith(_FORMULA):
        return value
    return f"'{value}"


# ---- Markdown


def markdown_text(text: str, most: int = LINES_MOST) -> str:
    """A text within a line or a cell of Markdown: no table, code, HTML, link or image comes of it."""
    return _MARKUP.sub(r"\\\g<0>", visible(" ".join(text.split()), most))
