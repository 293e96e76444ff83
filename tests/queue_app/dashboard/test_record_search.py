"""Search over all records of a job: what is found, in which order, and how it goes on."""

from collections.abc import Iterator
from pathlib import Path

import httpx2 as httpx
import pytest

from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.make_map import make_map
from queue_app.dashboard.map.projection import Method
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.map.record_search import HITS_MOST, Found, search
from queue_app.dashboard.serve import find_place
from tests.support.dashboard_pages import TOKEN, serving
from tests.support.inline_job import InlineJob, embedded
from tests.support.jobs_and_inputs import protein

IDS = ["P12345", "sp|P12345|A_HUMAN", "sp|P123456|B_HUMAN", "tr|P12345-2|C_HUMAN", "x.P12345"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> InlineJob:
    """Of 80 records the last repeats the first, and one cannot be embedded; ids of several forms."""
    home = tmp_path_factory.mktemp("search")
    names = [*(f"r{n}" for n in range(75)), *reversed(IDS)]
    records = [f">{name}\n{protein(n)}\n" for n, name in enumerate(names)]
    fasta = home / "a.fasta"
    fasta.write_text("".join(records) + f">again\n{protein(0)}\n>bad\nMK1V\n")
    return embedded(home / "out.npy", [fasta])


@pytest.fixture(scope="module")
def drawn(made: InlineJob) -> EmbeddingMap:
    published = Published.find(made.job, made.job_dir)
    return make_map(published, "embedding", Method.PCA, lambda step, share: None)


def in_parts(drawn: EmbeddingMap, text: str) -> Iterator[Found]:
    """As one asks who is answered with as little as there can be."""
    start: int | None = 0
    while start is not None:
        found = search(drawn, text, start, seconds=-1)
        yield found
        start = found.next


def test_the_id_or_accession_that_was_asked_for_comes_first(drawn: EmbeddingMap) -> None:
    found = search(drawn, "p12345")
    assert [hit.id for hit in found.hits] == [IDS[3], IDS[1], IDS[0], IDS[4], IDS[2]]
    assert [hit.exact for hit in found.hits] == [True, True, True, False, False]
    assert [hit.id for hit in search(drawn, "tr|P12345|ELSE").hits if hit.exact] == [IDS[3], IDS[1], IDS[0]]


def test_of_many_the_first_are_listed_and_all_are_counted_and_lit(drawn: EmbeddingMap) -> None:
    found = search(drawn, "r")
    assert len(found.hits) == HITS_MOST
    assert found.count >= 75
    assert set(range(75)) <= set(found.drawn)


def test_a_search_that_is_answered_in_parts_finds_the_same(drawn: EmbeddingMap, made: InlineJob) -> None:
    for text in ("r1", protein(3)[5:15], "again"):
        whole, parts = search(drawn, text), list(in_parts(drawn, text))
        assert len(parts) == whole.num_parts == len(made.job.shards) + 1
        assert sum(part.count for part in parts) == whole.count
        assert sorted(o for part in parts for o in part.drawn) == sorted(whole.drawn)
        assert {hit.id for part in parts for hit in part.hits} == {hit.id for hit in whole.hits}


def test_a_text_is_that_of_all_its_records(drawn: EmbeddingMap) -> None:
    found = search(drawn, protein(0)[4:18])
    assert [(hit.id, hit.copies) for hit in found.hits] == [("r0", 2)]
    assert sorted(found.drawn) == [0, 80]
    assert protein(0)[4:18] in found.hits[0].excerpt


@pytest.mark.parametrize("text", ["", "  ", ".*", "(", "r[0-9]", "\0", "ß" * 900])
def test_nothing_is_a_pattern_and_nothing_finds_nothing(drawn: EmbeddingMap, text: str) -> None:
    assert search(drawn, text).count == 0


def test_a_quarantined_record_is_marked(drawn: EmbeddingMap) -> None:
    (hit,) = search(drawn, "bad").hits
    assert hit.quarantined
    assert search(drawn, "bad").drawn == []


@pytest.mark.parametrize("path", ["map/search?text=r", "map/texts", "map/spot?of=1", "map.html", "card"])
def test_what_the_page_asks_needs_the_token(made: InlineJob, path: str) -> None:
    with serving(find_place(made.job.output, None)) as url:
        address = f"{url}/jobs/{made.job.job_id}/{path}"
        assert httpx.get(address).status_code == 403
        assert httpx.get(address, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "expect"),
    [("[0, 80]", 200), ("[81]", 409), ("[9999]", 409), ("x", 400), ('{"a": 1}', 400), ("1" * (1 << 21), 413)],
)
def test_only_points_of_the_map_are_taken_and_by_the_token(made: InlineJob, body: str, expect: int) -> None:
    with serving(find_place(made.job.output, None)) as url:
        for kind in ("csv", "fasta"):
            address = f"{url}/jobs/{made.job.job_id}/map/selection.{kind}"
            assert httpx.post(address, content=body).status_code == 403
            answer = httpx.post(address, content=body, headers={"Authorization": f"Bearer {TOKEN}"})
            assert answer.status_code == expect, answer.text


def test_the_output_of_a_page_is_never_run_as_the_page(made: InlineJob) -> None:
    with serving(find_place(made.job.output, None)) as url:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.get(f"{url}/jobs/{made.job.job_id}/map.html", headers=headers)
    assert answer.headers["content-disposition"] == "attachment"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert Path(made.job.output).name in answer.text
