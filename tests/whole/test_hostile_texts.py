"""A job whose ids, columns, files and model are written to drive a terminal, a table, Markdown or a page.

It is told of by every command, and nothing that is said has more in it than letters.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from queue_app.dashboard.serve import find_place
from queue_app.shown import undone
from tests.support.chromium import browser, needs_chromium
from tests.support.command_runs import HOLDFAST, environment
from tests.support.dashboard_pages import TOKEN, serving
from tests.support.inline_job import embedded
from tests.support.small_models import save_small_bert

OBEYED = re.compile(r"[^\n\t -~\u00a0-\U0010ffff]|[\u202a-\u202e\u2066-\u2069\u2028\u2029]")
"""All below a blank but line break and tab, C1, and what turns the direction."""
IMAGE = "<img src=x onerror=window.evil=1>"
READABLE = "蛋白質 é 👨\u200d👩\u200d👧"
IDS = [
    "\x1b]0;owned\x07\x1b[2J", "\x9b31m\x85", "\u202egnp.exe\u2066", "two\nlines\tand\\a tab\u2028", IMAGE,
    READABLE,
    '=HYPERLINK("http://x")', "a|b`c`![d](http://e)", "nul\x00", "x" * 1_000_000,
]  # fmt: skip
COLUMN = f"te\x1b[31mxt|{IMAGE}"
NAME = f"a|`b`{IMAGE}"
CPU = ["--device", "cpu", "--workers", "1"]


def said_by(*arguments: str | Path, expect: int = 0) -> str:
    """What a command says to both streams, of which a terminal obeys nothing."""
    command = [*HOLDFAST, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, env=environment(), timeout=170)
    said = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == expect, said[:4000]
    assert "Traceback" not in said
    assert_nothing_obeyed(said)
    return said


def assert_nothing_obeyed(text: str) -> None:
    found = OBEYED.search(text)
    assert found is None, repr(text[max(0, found.start() - 80) : found.end() + 20])


@dataclass(frozen=True)
class Made:
    output: Path
    source: Path
    model: Path
    said: str

    def beside(self, ending: str) -> str:
        return self.output.with_name(self.output.name + ending).read_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Each id twice: once with a text, once with what cannot be embedded."""
    home = tmp_path_factory.mktemp("hostile")
    source, model, output = home / f"{NAME}.jsonl", home / NAME, home / f"{NAME}.npy"
    texts = [" ".join(["the protein kinase"] * (place + 1)) for place in range(len(IDS))]
    rows = [{"id": each, COLUMN: text} for each, good in zip(IDS, texts, strict=True) for text in (good, "")]
    source.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    save_small_bert(model)
    options = ["-m", model, "--alphabet", "text", "--id-column", "id", "--sequence-column", COLUMN, *CPU]
    options += ["--limit", f"id={max(map(len, IDS))}"]
    said = said_by("embed", source, *options, "-o", output, expect=3)
    return Made(output, source, model, said)


def test_every_command_says_it_in_letters_alone(made: Made) -> None:
    assert READABLE in said_by("quarantine", made.output)
    said_by("status", made.output)
    said_by("verify", made.output)
    options = ["-m", made.model, "--alphabet", "text", "--id-column", "id", "--sequence-column", COLUMN, *CPU]
    options += ["--limit", f"id={max(map(len, IDS))}"]
    said_by("plan", made.source, *options, "--seconds", "0")
    again = made.output.with_name(f"{NAME}.parquet")
    said_by("export", made.output, "-o", again, expect=3)
    said_by("map", made.output, "-o", made.output.with_name("map.html"))


def test_errors_are_bounded_and_in_letters_alone(made: Made) -> None:
    (made.output.parent / "long.jsonl").write_text(
        json.dumps({"id": "a", "\x1b" + "k" * 3_000_000: "b"}) + "\n"
    )
    embed = ["-m", "mock:8", "-o", made.output.parent / "never.npy", *CPU]
    for source in (made.output.parent / f"{NAME}.fasta", made.output.parent / "long.jsonl"):
        said = said_by("embed", source, *embed, expect=2)
        assert 0 < len(said) < 5_000
    assert len(said_by("embed", made.source, *embed, "--sequence-column", "\x1b[2J", expect=2)) < 5_000


def test_logs_have_letters_alone(made: Made) -> None:
    logs = list(made.output.with_name(f"{made.output.name}.holdfast").glob("logs/*.log"))
    assert [log for log in logs if log.name == "cpu0.log"]
    for log in logs:
        assert_nothing_obeyed(log.read_text())


def test_the_quarantine_is_a_table_whose_ids_can_be_had_again(made: Made) -> None:
    table = made.beside(".quarantine.tsv")
    assert_nothing_obeyed(table)
    head, *rows = (line.split("\t") for line in table.splitlines())
    assert {len(row) for row in rows} == {len(head)} == {4}
    # A record whose id has a NUL is in quarantine also with a text.
    ids = [each.replace("\x00", "\\u0000") for each in IDS for _ in range(1 + ("\x00" in each))]
    assert [undone(row[1]) for row in rows] == ids
    assert not [row for row in rows if row[1].startswith(tuple("=+-@"))]


def test_the_card_is_markdown_of_our_own_alone(made: Made) -> None:
    card = made.beside(".card.md")
    assert_nothing_obeyed(card)
    assert len(card) < 50_000
    outside_code = re.sub(r"^```.*?^```$", "", card, flags=re.DOTALL | re.MULTILINE)
    assert not re.search(r"(?<!\\)<img", outside_code)
    assert not re.search(r"(?<!\\)\]\(", outside_code)
    assert {
        line.count("|") - line.count("\\|") for line in card.splitlines() if line.startswith("| 1 |")
    } == {5}
    assert json.loads(made.beside(".card.json"))["quarantine"]["first"][0]["id"] == IDS[0]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    with browser(tmp_path / "profile") as window:
        yield window.new_page()


@needs_chromium
def test_no_script_of_a_text_runs_in_the_page_or_in_its_card(tmp_path: Path, page: Any) -> None:
    (source := tmp_path / f"{NAME}.fasta").write_text(f">{IMAGE}\u202e {IMAGE}\nMKV\n>{IDS[7]}{IMAGE}\n\n")
    made = embedded(tmp_path / f"{NAME}.npy", [source], num_shards=1)
    with serving(find_place(made.job.output, None)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        page.locator("#card").click()
        page.locator("#card-text table").first.wait_for()
        assert page.locator("img").count() == 0
        assert page.evaluate("typeof window.evil") == "undefined"
        shown = page.inner_text("#card-text")
        assert f"a|`b`{IMAGE}.npy: embeddings" in shown
        assert IDS[7] in shown
