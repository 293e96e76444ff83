"""How long the page of a finished job takes with many records, in a real Chromium.

    python -m benchmarks.page [--records N] [--rounds N] [--dim N] [--report FILE.md]

A job of made-up proteins with descriptions is embedded by a mock model, and `holdfast dashboard` shows it.
Timed is what a user waits for: from the key to the answer on the screen. Everything is checked as well: what
is found is what was looked for, and the FASTA of a lasso has the sequences of the ids that are in it.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common.checkout import command_line
from benchmarks.common.tables import as_markdown, spread, table_with
from tests.support.chromium import EXECUTABLE, SOON, browser
from tests.support.command_runs import holdfast
from tests.support.dashboard_pages import dashboard, lasso_all

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"
SHARE_OF_RARE = 1000
"""One record in so many has the word in its description that is looked for."""
Times = dict[str, list[float]]


def main() -> None:
    chosen = arguments().parse_args()
    if EXECUTABLE is None:
        sys.exit("no Chromium here (apt-get install chromium)")
    with tempfile.TemporaryDirectory(prefix="holdfast-page-") as scratch:
        home = Path(scratch)
        proteins = write_proteins(home / "proteins.fasta", chosen.records)
        output = home / "out.npy"
        job = ["-m", f"mock:{chosen.dim}", "-o", output, "--device", "cpu", "--workers", "2", "--quiet"]
        holdfast("embed", home / "proteins.fasta", *job)
        with dashboard(output) as url, browser(home / "profile") as window:
            times = measured(window, url, proteins, chosen.rounds)
    table = as_table(times, chosen.records)
    Console(highlight=False, width=None if sys.stdout.isatty() else 150).print(table)
    if chosen.report:
        chosen.report.write_text(f"# The page\n\n`{command_line()}`\n\n{as_markdown(table)}")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dim", type=int, default=320, help="numbers of a vector")
    parser.add_argument("--report", type=Path, help="write the table there as markdown")
    return parser


def write_proteins(path: Path, num_records: int) -> dict[str, str]:
    """Some hundred residues each; answers their sequences by id."""
    chance = random.Random(5)
    found = {}
    with path.open("w") as file:
        for number in range(num_records):
            sequence = "".join(chance.choices(RESIDUES, k=chance.randint(60, 300)))
            found[f"P{number:07d}"] = sequence
            word = "rhodopsin" if number % SHARE_OF_RARE == 7 else "kinase"
            file.write(f">P{number:07d} putative {word} {number}\n{sequence}\n")
    return found


# ---- what is timed


def measured(window: Any, url: str, proteins: dict[str, str], rounds: int) -> Times:
    """Seconds of each round, by what was waited for."""
    chance, ids = random.Random(6), list(proteins)
    times: Times = {}
    page = window.new_page()
    page.set_default_timeout(2 * SOON)

    def timed(what: str, act: Callable[..., Any], *of: str) -> Any:
        started = time.monotonic()
        answer = act(page, *of)
        times.setdefault(what, []).append(time.monotonic() - started)
        return answer

    timed("the map is drawn, first time", open_map, url)
    for _ in range(rounds):
        timed("the map is drawn again", reload_map)
        assert timed("an id is found", find, chance.choice(ids)) == "1 found"
        part = proteins[chance.choice(ids)][20:40]
        assert timed("a piece of a sequence is found", find, part) == "1 found"
        count = timed("a word of a description is found", find, "RHODOPSIN")
        assert count == f"{len(range(7, len(ids), SHARE_OF_RARE)):,} found", count
        find(page, "")
        drawn = timed("a lasso around all selects", select_all)
        check_fasta(timed("its FASTA is there", fasta), proteins, drawn)
    return times


def open_map(page: Any, url: str) -> None:
    page.goto(url)
    wait_for_map(page)


def wait_for_map(page: Any) -> None:
    page.locator("#caption").filter(has_text="records").first.wait_for()
    page.locator("#colours .scale").wait_for()


def reload_map(page: Any) -> None:
    page.reload()
    wait_for_map(page)


def find(page: Any, text: str) -> str:
    """What the page says of how many it has found when it has looked at all records."""
    page.get_by_label("Search").fill("")
    page.wait_for_function("() => !document.getElementById('hits').textContent.includes('found')")
    if not text:
        return ""
    page.get_by_label("Search").fill(text)
    page.wait_for_function("() => /^[0-9,]+ found/.test(document.getElementById('hits').textContent)")
    return f"{page.inner_text('#hits').partition(' found')[0]} found"


def select_all(page: Any) -> int:
    """How many are selected."""
    lasso_all(page)
    page.locator("#selected").filter(has_text="selected").wait_for()
    return int(page.inner_text("#selected").split()[0].replace(",", ""))


def fasta(page: Any) -> str:
    with page.expect_download() as waiting:
        page.get_by_role("button", name="FASTA", exact=True).click()
    return Path(waiting.value.path()).read_text()


def check_fasta(text: str, proteins: dict[str, str], num_records: int) -> None:
    records = text.removeprefix(">").split("\n>")
    assert len(records) == num_records
    for record in records:
        head, *lines = record.split("\n")
        assert "".join(lines) == proteins[head.split()[0]], head


def as_table(times: Times, num_records: int) -> Table:
    table = table_with(f"The page of {num_records:,} records", "seconds until", "median", "least", "most")
    for what, seconds in times.items():
        table.add_row(what, *spread(seconds))
    return table


if __name__ == "__main__":
    main()
