"""The map of a finished job's embeddings: the numbers behind it, and what the page is told of it."""

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import redis

from queue_app.array_types import Floats
from queue_app.coordination import keys
from queue_app.dashboard.map import standalone
from queue_app.dashboard.map.cache import Making, Maps
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.map.make_map import Wanted, make_map
from queue_app.dashboard.map.metadata import Metadata, read_metadata
from queue_app.dashboard.map.nearest import nearest
from queue_app.dashboard.map.projection import Method, methods, project
from queue_app.dashboard.map.published_vectors import Published
from queue_app.dashboard.map.sampled_rows import choose, draw
from queue_app.dashboard.map.selection import as_fasta
from queue_app.dashboard.map.standalone import page_of
from queue_app.dashboard.serve import find_place
from queue_app.errors import HoldfastError, InputError
from queue_app.job.directory import JobDir
from queue_app.outputs.arrays import open_result
from tests.support.command_runs import holdfast
from tests.support.dashboard_pages import TOKEN, running_job, serving
from tests.support.inline_job import InlineJob, embedded, write_numbered
from tests.support.jobs_and_inputs import make_job, publish

NUM_PROTEINS = 60
TWINS = (3, 3, 17)
"""The proteins that the last records repeat."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> InlineJob:
    """63 records in three shards, three of them twins, and one more that was quarantined."""
    home = tmp_path_factory.mktemp("map")
    fasta = write_numbered(home / "a.fasta", [*range(NUM_PROTEINS), *TWINS], extra=">bad\nMK1V\n")
    return embedded(home / "out.npy", [fasta], pool="mean,cls")


@pytest.fixture(scope="module")
def published(made: InlineJob) -> Published:
    return Published.find(made.job, made.job_dir)


def vectors_of(made: InlineJob) -> Floats:
    """Every record's mean vector, as an output has them."""
    return np.asarray(open_result(made.job, made.job_dir).embeddings, np.float32)[:, 0]


def ignore(share: float) -> None:
    """Nobody is told."""


# ---- the numbers


def random_plane(num_rows: int, dim: int) -> tuple[Floats, Floats]:
    """Vectors near a plane of random direction that misses the origin, and where on it they lie."""
    random = np.random.default_rng(1)
    axes = np.linalg.qr(random.standard_normal((dim, 2)))[0].T
    places = random.standard_normal((num_rows, 2)) * [5, 2]
    noise = 1e-3 * random.standard_normal((num_rows, dim))
    return (places @ axes + 7 + noise).astype(np.float32), (places - places.mean(axis=0)).astype(np.float32)


@pytest.mark.parametrize(("num_rows", "dim"), [(500, 40), (30, 200)])
def test_the_plane_that_vectors_lie_in_is_found_again(num_rows: int, dim: int) -> None:
    vectors, places = random_plane(num_rows, dim)
    found = project(vectors, Method.PCA)
    apart = [np.linalg.norm(rows[:, None] - rows[None], axis=2) for rows in (found.points, places)]
    np.testing.assert_allclose(*apart, atol=0.02)
    assert sum(found.shares) == pytest.approx(1, abs=1e-3)
    assert found.shares[0] > found.shares[1]


def test_the_points_are_those_of_an_exact_decomposition() -> None:
    vectors = np.random.default_rng(2).standard_normal((300, 64)) * np.linspace(3, 1, 64)
    centred = vectors - vectors.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    exact = centred @ axes[:2].T
    points = project(vectors.astype(np.float32), Method.PCA).points
    signs = np.sign((points * exact).sum(axis=0))
    np.testing.assert_allclose(points * signs, exact, atol=0.05)


@pytest.mark.parametrize("shape", [(0, 8), (1, 8), (5, 1), (3, 2)])
def test_the_smallest_jobs_have_points_too(shape: tuple[int, int]) -> None:
    points = project(np.ones(shape, np.float32), Method.PCA).points
    assert points.shape == (shape[0], 2)
    assert not points.any()


needs_umap = pytest.mark.skipif(
    find_spec("umap") is None, reason="no UMAP here (pip install 'holdfast[map]')"
)


def test_umap_is_offered_only_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("queue_app.dashboard.map.projection.find_spec", lambda name: None)
    assert methods() == (Method.PCA,)
    monkeypatch.setattr("queue_app.dashboard.map.projection.find_spec", lambda name: name)
    assert methods() == (Method.PCA, Method.UMAP)


def clusters(num_rows: int) -> Floats:
    """Five groups of vectors, one after the other, each around a direction of its own."""
    random = np.random.default_rng(3)
    centres = 3 * random.standard_normal((5, 64))
    return (centres[np.arange(num_rows) % 5] + random.standard_normal((num_rows, 64))).astype(np.float32)


@needs_umap
def test_umap_keeps_what_is_alike_together_and_draws_the_same_map_again() -> None:
    points = project(clusters(200), Method.UMAP).points
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    nearest_places = np.argsort(apart, axis=1)[:, :11]
    assert (nearest_places % 5 == np.arange(200)[:, None] % 5).all()
    np.testing.assert_array_equal(project(clusters(200), Method.UMAP).points, points)


@needs_umap
@pytest.mark.parametrize(
    "vectors",
    [
        *(clusters(num_rows) for num_rows in (0, 1, 2, 3, 4, 5, 16)),
        np.repeat(clusters(10), 20, axis=0),
        np.ones((50, 8), np.float32),
        np.zeros((50, 8), np.float32),
        clusters(50)[:, :1],
        clusters(60).astype(np.float16).astype(np.float32),
    ],
    ids=lambda vectors: "x".join(map(str, vectors.shape)),
)
def test_umap_draws_few_points_equal_ones_and_zeros_too(vectors: Floats) -> None:
    points = project(vectors, Method.UMAP).points
    assert (points.shape, points.dtype) == ((len(vectors), 2), np.float32)
    assert np.isfinite(points).all()


def test_a_file_has_its_records_as_fasta_unless_they_would_make_it_too_large(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = make_map(published, "embedding_mean", Method.PCA, lambda step, share: None)

    def records() -> list[str]:
        (data,) = re.findall(r'id="data">(.*)</script>', page_of(drawn, None))
        found: list[str] = json.loads(data)["fasta"]
        return found

    assert records() == list(as_fasta(drawn, drawn.ordinals))
    assert len(records()) == len(drawn.ids)
    monkeypatch.setattr(standalone, "LETTERS_MOST", 10)
    assert records() == []


def test_a_choice_among_many_records_is_always_the_same() -> None:
    first = choose(10_000_000, 20_000)
    assert len(np.unique(first)) == 20_000
    assert (np.diff(first) > 0).all()
    assert abs(first.mean() - 5_000_000) < 100_000
    np.testing.assert_array_equal(first, choose(10_000_000, 20_000))
    np.testing.assert_array_equal(choose(5, 20_000), np.arange(5))


def test_every_record_is_drawn_with_its_own_vector_twins_included(
    made: InlineJob, published: Published
) -> None:
    drawn = draw(published, "embedding_mean", ignore)
    assert drawn.ids == [f"r{place}" for place in range(NUM_PROTEINS + len(TWINS))]
    assert len(drawn.vectors) == NUM_PROTEINS
    np.testing.assert_array_equal(drawn.rows[drawn.places[-3:]], TWINS)
    np.testing.assert_array_equal(drawn.vectors[drawn.places], vectors_of(made))


def test_no_more_vectors_are_held_than_are_drawn(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_app.dashboard.map.sampled_rows.DRAWN_BYTES_MOST", 4 * 8 * 20)
    drawn, again = (draw(published, "embedding_mean", ignore) for _ in range(2))
    chosen = choose(published.job.counts.num_records, 20)
    held = drawn.vectors.base if drawn.vectors.base is not None else drawn.vectors
    assert len(held) <= 20
    assert drawn.ids == again.ids
    np.testing.assert_array_equal(drawn.ordinals, chosen[chosen < NUM_PROTEINS + len(TWINS)])


def test_neighbours_are_those_of_a_full_comparison(made: InlineJob, published: Published) -> None:
    vectors = vectors_of(made)[:NUM_PROTEINS].astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for ordinal in (0, 17, 59):
        cosines = unit @ unit[ordinal]
        cosines[ordinal] = -2
        expected = np.argsort(-cosines)[:10]
        found = nearest(published, "embedding_mean", ordinal)
        assert [each.ordinal for each in found] == expected.tolist()
        assert [each.id for each in found] == [f"r{place}" for place in expected]
        np.testing.assert_allclose([each.similarity for each in found], cosines[expected], atol=1e-5)


def test_a_vector_of_zeros_is_like_no_other(tmp_path: Path) -> None:
    job, job_dir = make_job(num_shards=2, records_per_shard=3), JobDir(tmp_path / "a.npy.holdfast")
    publish(job, job_dir)
    found = nearest(Published.find(job, job_dir), "embedding", 0)
    assert [(each.ordinal, each.similarity) for each in found] == [(place, 0.0) for place in range(1, 6)]


# ---- the table


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_columns_of_numbers_are_numbers_and_all_others_names(tmp_path: Path) -> None:
    text = 'name,ID,kind,mass\nx,r1,"a, b",1e3\ny,r0,,NA\nz,r9,c,-2\n'
    read = read_metadata(table(tmp_path / "a.csv", text))
    assert (read.id_column, read.columns) == ("ID", ("name", "kind", "mass"))
    assert read.values("mass", ["r0", "r1", "r2"]).to_pylist() == [None, 1000.0, None]
    assert read.values("kind", ["r0", "r1", "r2"]).to_pylist() == [None, "a, b", None]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "a header with an id"),
        ("id\nr1\n", "at least one other column"),
        ("id,a,a\nr1,1,2\n", "two columns 'a'"),
        ("id,a\nr1,1\nr2,2,3\n", "row 2: 3 fields, but the header has 2"),
        ("id,a\nr1,1\nr1,2\n", "id 'r1' is there twice"),
        ('id,a\nr1,"1\n', "line"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        read_metadata(table(tmp_path / "a.csv", text))
    assert "a.csv" in str(raised.value)


# ---- what the page is told


class Browser:
    """What the page's script can ask of a job."""

    def __init__(self, url: str, job_id: str, client: httpx.Client) -> None:
        self.url, self.client = f"{url}/jobs/{job_id}/map", client

    def ask(self, path: str = "", expect: int = 200, **query: str | int) -> Any:
        answer = self.client.get(self.url + path, params=query)
        assert answer.status_code == expect, answer.text
        return answer.json()

    def map(self, **query: str) -> Any:
        """The map, or why there is none, however long it takes."""
        while True:
            answer = self.client.get(self.url, params=query).json()
            if "error" in answer or answer["made"]:
                return answer
            assert answer["step"]


@contextlib.contextmanager
def opened(output: Path, job_id: str, metadata: Metadata | None = None) -> Iterator[Browser]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with serving(find_place(str(output), None), metadata) as url, httpx.Client(headers=headers) as client:
        yield Browser(url, job_id, client)


@pytest.fixture(scope="module")
def browser(made: InlineJob) -> Iterator[Browser]:
    home = Path(made.job.output).parent
    rows = "".join(f"r{place},{'even' if place % 2 == 0 else 'odd'}\n" for place in range(21))
    with opened(
        home / "out.npy", made.job.job_id, read_metadata(table(home / "t.csv", f"id,kind\n{rows}"))
    ) as it:
        yield it


def test_a_finished_job_has_a_map_of_each_of_its_vectors(browser: Browser) -> None:
    mean = browser.map()
    assert mean["columns"] == ["embedding_mean", "embedding_cls"]
    assert mean["colours"] == ["kind", "length", "place in the input"]
    assert mean["ids"] == [f"r{place}" for place in range(63)]
    assert mean["num_embedded"] == len(mean["x"]) == len(mean["y"]) == 63
    assert max(map(abs, mean["x"] + mean["y"])) == 1
    assert (mean["x"][60], mean["y"][60]) == (mean["x"][3], mean["y"][3])
    cls = browser.map(column="embedding_cls")
    assert cls["x"] != mean["x"]


@needs_umap
def test_a_map_by_umap_says_for_what_one_waits(browser: Browser) -> None:
    answer = browser.client.get(browser.url, params={"method": "umap"}).json()
    assert answer["made"] or answer["share"] is None or 0 <= answer["share"] <= 1
    drawn = browser.map(method="umap")
    assert drawn["methods"] == ["pca", "umap"]
    assert (len(drawn["x"]), drawn["shares"]) == (63, [])
    assert drawn["x"] != browser.map(method="pca")["x"]


def test_points_are_coloured_by_the_table_and_by_what_the_job_knows(browser: Browser) -> None:
    browser.map()
    kinds = browser.ask("/colours", by="kind")
    assert (kinds["kind"], kinds["names"], kinds["counts"]) == ("names", ["even", "odd"], [11, 10])
    assert kinds["values"] == [0, 1] * 10 + [0] + [None] * 42
    lengths = browser.ask("/colours", by="length")
    assert lengths["kind"] == "scale"
    assert lengths["values"][:2] == [20, 57]
    assert lengths["values"][60:] == [lengths["values"][twin] for twin in TWINS]
    assert lengths["low"] < lengths["high"] <= max(lengths["values"])
    assert browser.ask("/colours", by="place in the input")["values"] == list(range(1, 64))


def test_a_point_is_told_with_its_neighbours_and_how_their_sequences_begin(browser: Browser) -> None:
    browser.map()
    itself, *near = browser.ask("/nearest", of=61)
    assert itself["ordinal"] == 3
    assert len(near) == 10
    assert "r3" not in [each["id"] for each in near]
    assert all(each["beginning"].isupper() for each in (itself, *near))


@pytest.mark.parametrize(
    ("path", "query", "told"),
    [
        ("", {"column": "none"}, "there is embedding_mean, embedding_cls"),
        ("", {"method": "tsne"}, "there is pca"),
        ("/colours", {"by": "none"}, "no column 'none'"),
        ("/nearest", {"of": 63}, "record 63 is quarantined: it has no vector"),
        ("/nearest", {"of": 10**30}, "is none of this job's 64"),
    ],
)
def test_what_is_not_there_is_one_line(
    browser: Browser, path: str, query: dict[str, str | int], told: str
) -> None:
    browser.map()
    error = browser.ask(path, 409, **query)["error"]
    assert told in error
    assert "\n" not in error


def test_a_map_needs_the_token_and_a_job_of_the_list(browser: Browser) -> None:
    assert httpx.get(browser.url).status_code == 403
    assert browser.client.get(browser.url.replace("/jobs/", "/jobs/x")).status_code == 404


def test_results_that_are_damaged_or_missing_are_one_line_until_they_are_mended(tmp_path: Path) -> None:
    job, job_dir = make_job(num_shards=2, records_per_shard=4), JobDir(tmp_path / "a.npy.holdfast")
    publish(job, job_dir)
    result = job_dir.result(1, 1)
    whole = result.read_bytes()
    with opened(job_dir.path, job.job_id) as browser:
        result.write_bytes(whole[:-300] + b"x" + whole[-299:])
        assert "shard 1" in browser.map()["error"]
        result.unlink()
        assert "missing or damaged" in browser.map()["error"]
        result.write_bytes(whole)
        assert len(browser.map()["ids"]) == 8
        job_dir.done(0).unlink()
        assert "1 of 2 shards are not done" in browser.map()["error"]


def test_of_a_servers_job_there_is_a_map_where_this_host_sees_its_directory(
    server_url: str, client: redis.Redis, tmp_path: Path
) -> None:
    job = make_job(num_shards=2, records_per_shard=4)
    manifest = running_job(client, job, tmp_path)
    maps = Maps(find_place(None, server_url))
    with pytest.raises(HoldfastError, match="2 of 2 shards are not done"):
        maps.look(Wanted(job.job_id))
    publish(job, JobDir(tmp_path / "out.npy.holdfast"))
    assert isinstance(maps.look(Wanted(job.job_id)), EmbeddingMap | Making)
    client.hset(keys.JOBS, manifest.job_id, "/none/out.npy.holdfast")
    (tmp_path / "out.npy.holdfast").rename(tmp_path / "away")
    with pytest.raises(HoldfastError, match="does not see the job's directory"):
        maps.look(Wanted(job.job_id))


def test_of_a_vector_for_every_token_there_is_no_map(tmp_path: Path) -> None:
    job, job_dir = make_job(num_shards=1, records_per_shard=2), JobDir(tmp_path / "a.h5.holdfast")
    job = replace(job, options=replace(job.options, pool="none"))
    publish(job, job_dir)
    with opened(job_dir.path, job.job_id) as browser:
        assert "every token has a vector" in browser.map()["error"]


def test_a_table_of_other_records_is_told_so(made: InlineJob, tmp_path: Path) -> None:
    other = read_metadata(table(tmp_path / "t.tsv", "id\tkind\nsp|P1|A\tx\n"))
    with opened(Path(made.job.output), made.job.job_id, other) as browser:
        browser.map()
        error = browser.ask("/colours", 409, by="kind")["error"]
    assert "has none of the ids of this job, such as 'r0'" in error


def test_a_table_that_cannot_be_read_ends_the_command(made: InlineJob, tmp_path: Path) -> None:
    ended = holdfast("dashboard", made.job.output, "--metadata", tmp_path / "none.csv", expect=2)
    assert ended.stdout == ""
    assert ended.stderr.endswith("none.csv: cannot be read: No such file or directory\n")
