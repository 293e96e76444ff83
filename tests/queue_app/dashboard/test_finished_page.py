"""A finished job's page in a real browser: found, walked to, selected, taken away."""

import csv
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from queue_app.dashboard.job_source import ManyJobs
from queue_app.dashboard.serve import find_place
from queue_app.outputs.clean import clean
from tests.support.chromium import needs_chromium, wait_for_text
from tests.support.command_runs import holdfast
from tests.support.dashboard_pages import TOKEN, drag, lasso_all, serving
from tests.support.inline_job import InlineJob, embedded, write_numbered
from tests.support.jobs_and_inputs import protein

pytestmark = needs_chromium

EVIL = "<img/src=x/onerror=document.title='evil'></script><script>document.title='evil'</script>"
NUM_PROTEINS = 60


def write_proteins(path: Path) -> Path:
    """As UniProt names them; then one with the sequence of the first, and one that cannot be embedded."""
    records = [f">sp|P{n:05d}|N{n}_HUMAN\n{protein(n)}\n" for n in range(NUM_PROTEINS)]
    path.write_text("".join(records) + f">twice\n{protein(0)}\n>bad\nMK1V\n")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> InlineJob:
    home = tmp_path_factory.mktemp("finished-page")
    return embedded(home / "out.npy", [write_proteins(home / "a.fasta")])


@pytest.fixture
def shown(made: InlineJob, page: Any) -> Iterator[Any]:
    """The page of the job, its map drawn."""
    with serving(find_place(made.job.output, None)) as url:
        open_page(page, url)
        yield page


def open_page(page: Any, url: str) -> None:
    page.goto(f"{url}/?token={TOKEN}")
    wait_for_text(page, "#caption", "records")
    page.locator("#colours .scale").wait_for()


def find(page: Any, text: str) -> None:
    page.get_by_label("Search").fill(text)
    page.wait_for_function(
        "text => !text || document.getElementById('hits').textContent.includes('found')", arg=text
    )


def taken(page: Any, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("button", name=button, exact=True).click()
    return Path(waiting.value.path()).read_bytes()


def fasta_records(text: str) -> dict[str, str]:
    records = (record.split("\n") for record in text.split(">")[1:])
    return {head: "".join(lines) for head, *lines in records}


# ---- what it leads with


def test_a_finished_job_leads_with_vectors_map_card_and_quarantined_inside_the_window(
    shown: Any, made: InlineJob
) -> None:
    assert shown.inner_text("#vectors-path") == made.job.output
    assert shown.inner_text("#vectors-shape") == "61 × 8, float32"  # noqa: RUF001
    vectors = eval(shown.inner_text("#vectors-read"), {"numpy": np})
    assert vectors.shape == (61, 8)
    assert shown.inner_text("#aside-count").startswith("1 of 62")
    map_box = shown.locator("#points").bounding_box()
    assert map_box["y"] + map_box["height"] < 800
    legend = shown.locator("#colours").bounding_box()
    assert legend["x"] > map_box["x"] + map_box["width"]
    assert "redis" not in shown.inner_text("body")
    assert not shown.locator("#map").is_visible()

    shown.get_by_role("button", name="Show", exact=True).first.click()
    wait_for_text(shown, "#card-text h3", "out.npy: embeddings by")
    assert shown.locator("#card-text table").count() > 3
    shown.keyboard.press("Escape")
    shown.locator("#aside-show").click()
    wait_for_text(shown, "#quarantine td", "illegal letter '1'")
    assert shown.locator("#map").is_visible()


@pytest.mark.parametrize("size", [(390, 844), (640, 400)], ids=["phone", "200 %"])
def test_a_narrow_page_is_never_scrolled_sideways(shown: Any, size: tuple[int, int]) -> None:
    shown.set_viewport_size({"width": size[0], "height": size[1]})
    find(shown, "P00007")
    shown.get_by_label("Search").press("Enter")
    shown.locator("#near li").nth(9).wait_for()
    assert shown.evaluate("document.documentElement.scrollWidth") == size[0]


# ---- search


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("n42_human", "sp|P00042|N42_HUMAN"),
        ("P00042", "sp|P00042|N42_HUMAN"),
        ("tr|P00042|OTHER", "sp|P00042|N42_HUMAN"),
        (protein(42)[3:15].lower(), "sp|P00042|N42_HUMAN"),
        ("twice", "twice"),
    ],
    ids=["a part of an id", "an accession", "another id of it", "a part of a sequence", "a duplicate"],
)
def test_a_record_is_found_and_its_neighbours_told(shown: Any, text: str, first: str) -> None:
    find(shown, text)
    assert shown.inner_text("#hits") == "1 found"
    shown.get_by_label("Search").press("Enter")
    wait_for_text(shown, "#chosen-id", f"^{re.escape(first)}$")
    shown.locator("#near li").nth(9).wait_for()


def test_a_quarantined_record_is_found_and_cannot_be_chosen(shown: Any) -> None:
    find(shown, "bad")
    wait_for_text(shown, "#found button:disabled", "quarantined")


def test_a_record_that_is_not_drawn_is_put_in_its_place(
    made: InlineJob, page: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_app.dashboard.map.sampled_rows.DRAWN_MOST", 20)
    with serving(find_place(made.job.output, None)) as url:
        open_page(page, url)
        wait_for_text(page, "#caption", " of 61 records, chosen at random")
        drawn = page.evaluate(f"fetch('jobs/{made.job.job_id}/map').then((answer) => answer.json())")["ids"]
        missing = next(n for n in range(NUM_PROTEINS) if f"sp|P{n:05d}|N{n}_HUMAN" not in drawn)
        find(page, f"P{missing:05d}")
        assert page.inner_text("#hits") == "1 found, 0 of them on this map"
        page.get_by_label("Search").press("Enter")
        wait_for_text(page, "#chosen-place", "Not among the records drawn: the diamond marks its own place")
        page.locator("#near li").nth(9).wait_for()
        find(page, "")
        lasso_all(page)
        wait_for_text(
            page, "#selected", f"^{len(drawn)} selected, of the {len(drawn)} of 61 records that are drawn$"
        )


def test_after_clean_ids_are_still_found_and_it_is_said(tmp_path: Path, page: Any) -> None:
    made = embedded(tmp_path / "out.npy", [write_numbered(tmp_path / "a.fasta", range(12))])
    clean(made.job_dir)
    with serving(find_place(made.job.output, None)) as url:
        page.goto(f"{url}/?token={TOKEN}")
        wait_for_text(page, "#caption", "12 records")
        find(page, "r7")
        assert page.inner_text("#hits") == "1 found, by their ids alone: the sequences were cleaned away"
        lasso_all(page)
        page.get_by_role("button", name="FASTA").click()
        wait_for_text(page, "#map-note", "holdfast clean has removed the sequences")


# ---- the keyboard alone


def test_points_are_walked_chosen_and_selected_by_keys_alone(shown: Any, made: InlineJob) -> None:
    shown.locator("#points").focus()
    shown.keyboard.press("ArrowRight")
    first = shown.inner_text("#said")
    assert re.match(r"(sp\|P\d+\|N\d+_HUMAN|twice)\n[A-Z]+\nlength: \d+\nPoint \d+ of 61", first)
    where = [first]
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
        shown.keyboard.press(key)
        where.append(shown.inner_text("#said"))
    assert len(set(where)) > 2
    assert shown.inner_text("#tip") == where[-1].rpartition("\nPoint")[0]
    shown.keyboard.press("Enter")
    wait_for_text(shown, "#chosen-id", f"^{re.escape(where[-1].splitlines()[0])}$")
    shown.keyboard.press(" ")
    shown.keyboard.press("ArrowRight")
    shown.keyboard.press(" ")
    wait_for_text(shown, "#selected", "^2 selected$")
    shown.keyboard.press("Escape")
    shown.locator("#unchosen").wait_for()
    shown.keyboard.press("Escape")
    assert not shown.locator("#selection").is_visible()

    shown.get_by_label("Search").focus()
    shown.keyboard.type("P0004")
    wait_for_text(shown, "#hits", "^10 found$")
    shown.locator("#select-lit").focus()
    shown.keyboard.press("Enter")
    wait_for_text(shown, "#selected", "^10 selected$")


def test_a_walk_to_the_right_goes_to_points_at_the_right(shown: Any, made: InlineJob) -> None:
    drawn = shown.evaluate(f"fetch('jobs/{made.job.job_id}/map').then((answer) => answer.json())")
    shown.locator("#points").focus()
    seen = []
    for _ in range(6):
        shown.keyboard.press("ArrowRight")
        seen.append(drawn["x"][int(re.findall(r"Point (\d+)", shown.inner_text("#said"))[0]) - 1])
    assert seen == sorted(seen)


# ---- taking away


def test_a_lasso_gives_the_ids_the_table_and_the_sequences_of_the_input(shown: Any, made: InlineJob) -> None:
    lasso_all(shown)
    wait_for_text(shown, "#selected", "^61 selected$")
    expected = fasta_records((Path(made.job.output).parent / "a.fasta").read_text())
    del expected["bad"]
    assert fasta_records(taken(shown, "FASTA").decode()) == expected
    assert taken(shown, "ids.txt").decode().splitlines() == list(expected)
    rows = list(csv.DictReader(io.StringIO(taken(shown, "CSV").decode())))
    assert [row["id"] for row in rows] == list(expected)
    points = np.array([[float(row["x"]), float(row["y"])] for row in rows])
    vectors = np.load(made.job.output).astype(np.float64)
    centred = vectors - np.delete(vectors, 60, axis=0).mean(axis=0)  # the duplicate counts once
    assert np.square(points).sum() <= np.square(centred).sum() * 1.001
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    assert (apart <= np.linalg.norm(vectors[:, None] - vectors[None], axis=2) + 1e-3).all()


def test_a_rectangle_with_shift_selects_only_what_is_lit_in_it(shown: Any) -> None:
    find(shown, "P0001")
    shown.keyboard.down("Shift")
    drag(shown, [(0.01, 0.01), (0.99, 0.99)])
    shown.keyboard.up("Shift")
    wait_for_text(shown, "#selected", "^10 selected$")
    assert len(taken(shown, "ids.txt").decode().splitlines()) == 10


def test_pictures_are_a_png_and_an_svg_with_every_point_and_a_legend(shown: Any) -> None:
    png = taken(shown, "Save as PNG")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    svg = ET.fromstring(taken(shown, "Save as SVG"))
    name = "{http://www.w3.org/2000/svg}"
    assert len(svg.findall(f".//{name}circle")) == 61
    assert next(text.text for text in svg.iter(f"{name}text")) == "length"


# ---- the file


def write_hostile(home: Path) -> InlineJob:
    """Texts and ids that would be markup and script."""
    table = home / "hostile.tsv"
    rows = [f'{EVIL}{n}\tthe {EVIL} text {n} of "all" `{{}}` ${{1}}' for n in range(20)]
    table.write_text("\n".join(["id\ttext", *rows, ""]))
    return embedded(home / "out.npy", [table], alphabet="text")


def test_a_map_in_a_file_needs_nothing_but_the_file(made: InlineJob, tmp_path: Path, page: Any) -> None:
    holdfast("map", made.job.output, "-o", tmp_path / "map.html")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{tmp_path / 'map.html'}")
    wait_for_text(page, "#caption", "61 records")
    page.locator("#colours .scale").wait_for()
    find(page, protein(42)[3:15])
    assert page.inner_text("#hits") == "1 found"
    page.get_by_label("Search").press("Enter")
    wait_for_text(page, "#chosen-id", r"^sp\|P00042\|N42_HUMAN$")
    wait_for_text(page, "#chosen-text", protein(42)[:20])
    find(page, "")
    lasso_all(page)
    wait_for_text(page, "#selected", "^61 selected$")
    assert len(taken(page, "ids.txt").decode().splitlines()) == 61
    assert taken(page, "FASTA").decode().count(">") == 61
    find(page, "P00042")
    page.locator("#select-lit").click()
    assert taken(page, "FASTA").decode().startswith(f">sp|P00042|N42_HUMAN\n{protein(42)[:60]}")
    find(page, "")
    page.get_by_label("Colour").select_option("place in the input")
    wait_for_text(page, "#colours", "or more")
    assert taken(page, "Save as PNG").startswith(b"\x89PNG")
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
    assert len([url for url in asked if url.startswith("file:")]) == 1


def test_whatever_an_id_or_a_text_says_is_text_in_the_page_and_in_the_file(tmp_path: Path, page: Any) -> None:
    made = write_hostile(tmp_path)
    holdfast("map", made.job.output, "-o", tmp_path / "map.html")
    with serving(find_place(made.job.output, None)) as url:
        for address in (f"{url}/?token={TOKEN}", f"file://{tmp_path / 'map.html'}"):
            page.goto(address)
            wait_for_text(page, "#caption", "20 records")
            page.locator("#colours .scale").wait_for()
            find(page, "text 7 of")
            page.get_by_label("Search").press("Enter")
            wait_for_text(page, "#chosen-id", re.escape(EVIL))
            wait_for_text(page, "#chosen-text", re.escape(f'the {EVIL} text 7 of "all" `{{}}` ${{1}}'))
            page.locator("#points").focus()
            page.keyboard.press("ArrowRight")
            wait_for_text(page, "#tip", re.escape(EVIL))
            svg = ET.fromstring(taken(page, "Save as SVG"))
            assert svg.tag.endswith("svg")
            assert page.locator("img").count() == 0
            assert "evil" not in page.title()


def test_what_the_input_said_is_told_searched_coloured_and_taken(tmp_path: Path, page: Any) -> None:
    made = embedded(tmp_path / "out.npy", [write_numbered(tmp_path / "a.fasta", range(30))])
    keep(made, [f"putative kinase {n}" if n % 3 else None for n in range(30)], list(range(30)))
    with serving(find_place(made.job.output, None)) as url:
        open_page(page, url)
        find(page, "KINASE 7")
        assert page.inner_text("#hits") == "1 found"
        page.get_by_label("Search").press("Enter")
        wait_for_text(page, "#chosen-text", "^putative kinase 7$")
        page.get_by_label("Colour").select_option("mass")
        wait_for_text(page, "#chosen-value", "^mass: 7$")
        page.locator("#select-lit").click()
        assert taken(page, "FASTA").decode().startswith(">r7 putative kinase 7\n")
        (row,) = csv.DictReader(io.StringIO(taken(page, "CSV").decode()))
        assert (row["description"], row["mass"]) == ("putative kinase 7", "7")


def keep(made: InlineJob, descriptions: list[str | None], masses: list[int]) -> None:
    """As if the job had kept these columns of its input."""
    from dataclasses import replace

    from queue_app.host.durable_files import file_digest
    from queue_app.job.spec import KeptFile

    pq.write_table(pa.table({"description": pa.array(descriptions), "mass": masses}), made.job_dir.kept)
    kept = KeptFile(file_digest(made.job_dir.kept), ("description", "mass"))
    made.job = replace(made.job, kept=kept)
    made.job_dir.write(made.job)


# ---- several jobs


def test_the_jobs_of_a_folder_are_listed_and_each_opens_its_page(tmp_path: Path, page: Any) -> None:
    for name, number in (("one", 12), ("two", 15)):
        fasta = write_numbered(tmp_path / f"{name}.fasta", range(number))
        embedded(tmp_path / f"{name}.npy", [fasta])
    with serving(ManyJobs(broker=None, folder=tmp_path)) as url:
        open_page(page, url)
        wait_for_text(page, "#title", r"two\.npy")
        wait_for_text(page, "#jobs", "done, 100%")
        page.get_by_role("button", name="one.npy").click()
        wait_for_text(page, "#title", r"one\.npy")
        wait_for_text(page, "#caption", "12 records")
