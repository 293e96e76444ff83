"""LMDB's pages, checked without LMDB: sound ones pass, and what a writer would stumble over is named."""

import struct
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest

from checkpoint import StoreDamaged
from checkpoint.lmdb_pages import check_pages
from tests.campaigns.corruption.damages import FREE_ROOT_AT, MAIN_ROOT_AT, PAGE, TXN_ID_AT, tree_pages
from tests.support.blocks_and_stores import LARGE, make_block, open_store

FREE_ENTRIES_AT, LAST_PAGE_AT = FREE_ROOT_AT - 8, 136
LEAF, OVERFLOW = 2, 4

Content = bytearray


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """With a branch, values with pages of their own, small values, and free pages."""
    with open_store(tmp_path) as store:
        store.commit([make_block(index) for index in range(30)], token=1)
        store.commit([make_block(index, **LARGE) for index in range(30, 50)], token=1)
        store.drop(range(31, 40), token=1)
        store.commit([make_block(50)], token=1)
    return tmp_path


def check(path: Path, *, txn_ago: int = 0) -> bool:
    with lmdb.open(str(path), max_dbs=3, readonly=True) as environment, environment.begin() as transaction:
        return check_pages(path / "data.mdb", transaction.id() - txn_ago)


def test_a_sound_store_passes(path: Path) -> None:
    assert check(path)


def test_an_empty_store_passes(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    assert check(tmp_path)


def test_a_store_passes_after_every_commit(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for index in range(40):
            store.commit([make_block(index, count=1 + 97 * index % 70, dim=32)], token=1)
            if index % 3 == 0:
                store.drop([index // 2], token=1)
            store.check()


def test_a_list_of_free_pages_may_be_long(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.commit([make_block(index, count=512, dim=512) for index in range(10)], token=1)
        store.drop(range(10), token=1)
        store.check()


def test_a_root_that_was_overwritten_asks_for_a_newer_transaction(path: Path) -> None:
    assert not check(path, txn_ago=2)


# ---- damage


def newest(data: Content) -> int:
    return max((0, PAGE), key=lambda start: number(data, start + TXN_ID_AT))


def number(data: Content, place: int) -> int:
    return int(struct.unpack_from("<Q", data, place)[0])


def add(data: Content, place: int, difference: int) -> None:
    struct.pack_into("<Q", data, place, number(data, place) + difference)


def first_leaf(data: Content) -> int:
    """Of the blocks, small values in it."""
    leaves = [page * PAGE for page in tree_pages(bytes(data)) if data[page * PAGE + 10] == LEAF]
    return next(start for start in leaves if b"HFBLOCK" in data[start : start + PAGE])


def overflow(data: Content) -> int:
    """The first page of a value in use that has pages of its own."""
    for page in tree_pages(bytes(data)):
        lower = struct.unpack_from("<H", data, page * PAGE + 12)[0]
        for place in range(page * PAGE + 16, page * PAGE + lower, 2):
            node = page * PAGE + struct.unpack_from("<H", data, place)[0]
            _, _, flags, key_size = struct.unpack_from("<HHHH", data, node)
            if data[page * PAGE + 10] == LEAF and flags == 1:
                return number(data, node + 8 + key_size) * PAGE
    raise AssertionError("no value has pages of its own")


def free_list(data: Content) -> int:
    """Where the first list of free pages says how many there are."""
    page = number(data, newest(data) + FREE_ROOT_AT) * PAGE
    return page + int(struct.unpack_from("<H", data, page + 16)[0]) + 16


def free_a_used_page(data: Content) -> None:
    struct.pack_into("<Q", data, free_list(data) + 8, overflow(data) // PAGE)


def free_a_page_less(data: Content) -> None:
    add(data, free_list(data), -1)


def free_more_than_is_listed(data: Content) -> None:
    add(data, free_list(data), 10**6)


def free_a_page_beyond_the_end(data: Content) -> None:
    struct.pack_into("<Q", data, free_list(data) + 8, 2**60)


def count_an_entry_more(data: Content) -> None:
    add(data, newest(data) + FREE_ENTRIES_AT, 1)


def say_another_depth(data: Content) -> None:
    data[newest(data) + 88 + 6] += 1


def point_the_root_elsewhere(data: Content) -> None:
    add(data, newest(data) + MAIN_ROOT_AT, 1)


def end_beyond_the_file(data: Content) -> None:
    add(data, newest(data) + LAST_PAGE_AT, 10**9)


def end_a_page_early(data: Content) -> None:
    add(data, newest(data) + LAST_PAGE_AT, -1)


def number_a_leaf_wrongly(data: Content) -> None:
    add(data, first_leaf(data), 1)


def swap_two_keys(data: Content) -> None:
    start = first_leaf(data) + 16
    data[start : start + 4] = data[start + 2 : start + 4] + data[start : start + 2]


def overlap_two_nodes(data: Content) -> None:
    start = first_leaf(data) + 16
    data[start + 2 : start + 4] = data[start : start + 2]


def point_behind_the_page(data: Content) -> None:
    struct.pack_into("<H", data, first_leaf(data) + 16, PAGE - 2)


def lose_the_bounds(data: Content) -> None:
    struct.pack_into("<H", data, first_leaf(data) + 12, 0xFFFE)


def shorten_a_large_value(data: Content) -> None:
    struct.pack_into("<I", data, overflow(data) + 12, 1)


def lengthen_a_large_value(data: Content) -> None:
    data[overflow(data) + 12] += 1


def call_a_large_value_a_leaf(data: Content) -> None:
    data[overflow(data) + 10] = LEAF


def blank_a_large_value(data: Content) -> None:
    start = overflow(data)
    data[start : start + 16] = bytes(16)


DAMAGES: list[Callable[[Content], None]] = [
    free_a_used_page, free_a_page_less, free_more_than_is_listed, free_a_page_beyond_the_end,
    count_an_entry_more, say_another_depth, point_the_root_elsewhere, end_beyond_the_file, end_a_page_early,
    number_a_leaf_wrongly, swap_two_keys, overlap_two_nodes, point_behind_the_page, lose_the_bounds,
    shorten_a_large_value, lengthen_a_large_value, call_a_large_value_a_leaf, blank_a_large_value,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_a_writer_would_stumble_over_is_named(path: Path, damage: Callable[[Content], None]) -> None:
    data = path / "data.mdb"
    content = bytearray(data.read_bytes())
    txn_id = number(content, newest(content) + TXN_ID_AT)
    damage(content)
    data.write_bytes(content)
    with pytest.raises(StoreDamaged, match="its pages are damaged"):
        check_pages(data, txn_id)


@pytest.mark.parametrize(
    "damage",
    [free_a_used_page, free_a_page_less, count_an_entry_more, shorten_a_large_value],
    ids=lambda damage: damage.__name__,
)
def test_nothing_is_written_to_a_closed_store_whose_pages_are_damaged(
    path: Path, damage: Callable[[Content], None]
) -> None:
    data = path / "data.mdb"
    content = bytearray(data.read_bytes())
    damage(content)
    data.write_bytes(content)
    with pytest.raises(StoreDamaged, match="its pages are damaged"):
        open_store(path, token=2)
    assert data.read_bytes() == content


def test_a_file_of_noise_is_damaged(tmp_path: Path) -> None:
    data = tmp_path / "data.mdb"
    for content in (b"", b"\xff" * 20_000, bytes(20_000)):
        data.write_bytes(content)
        with pytest.raises(StoreDamaged):
            check_pages(data, 1)
