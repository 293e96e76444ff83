"""LMDB's pages, checked without LMDB: do the trees add up, and is every page in use exactly once or free?

LMDB believes its pages. A reader never looks at the list of free pages, at counts, or at the header of a
block's first page; a writer does, and then takes pages that are in use, fails at every commit, or aborts.
Layouts are those of LMDB 0.9 (mdb.c: MDB_page, MDB_node, MDB_db, MDB_meta) on 64-bit machines.
"""

import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from checkpoint.errors import StoreDamaged

_BRANCH, _LEAF, _OVERFLOW = 1, 2, 4
_BIG, _TREE = 1, 2
_INTEGER_KEYS = 8
_HEADER = struct.Struct("<Q2xHHH")
_NODE = struct.Struct("<HHHH")
_ROOT = struct.Struct("<IHHQQQQQ")
_FREE_AT, _MAIN_AT, _LAST_PAGE = 40, 88, struct.Struct("<QQ")
_LAST_PAGE_AT, _META_BYTES = 136, 152
_NO_PAGE = 2**64 - 1
_DEEPEST = 32

Key = bytes | int


@dataclass(frozen=True, slots=True)
class _Tree:
    """What a parent says of a tree: its root, and how much it holds."""

    flags: int
    depth: int
    num_branches: int
    num_leaves: int
    num_overflow: int
    num_entries: int
    root: int

    @classmethod
    def read(cls, data: bytes, offset: int = 0) -> "_Tree":
        return cls(*_ROOT.unpack_from(data, offset)[1:])


class _Damaged(Exception):
    """Raised where the pages stop making sense."""


def check_pages(data: Path, txn_id: int) -> bool:
    """Check what the snapshot `txn_id` is made of; the caller holds a read transaction on it.

    False: its root was overwritten by newer commits; ask again with a newer transaction.

    Raises:
        StoreDamaged: the pages are not those of a sound store.
    """
    with data.open("rb") as file:
        try:
            return _Snapshot(file.fileno()).check(txn_id)
        except (_Damaged, struct.error) as error:
            raise StoreDamaged(f"{data}: its pages are damaged: {error}") from None


class _Snapshot:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.page_size = 4096
        self.last_page = 0
        self.used = bytearray()

    def check(self, txn_id: int) -> bool:
        (self.page_size,) = struct.unpack("<I", os.pread(self.descriptor, 4, _FREE_AT))
        _expect(self.page_size in (4096, 8192, 16384, 32768, 65536), "no such page size")
        meta = os.pread(self.descriptor, _META_BYTES, (txn_id & 1) * self.page_size)
        self.last_page, found = _LAST_PAGE.unpack_from(meta, _LAST_PAGE_AT)
        if found != txn_id:
            return False
        held = os.fstat(self.descriptor).st_size // self.page_size
        _expect(0 < self.last_page < held, "the file is shorter than it says")
        self.used = bytearray(self.last_page + 1)
        free = [page for entry in self._free_lists(_Tree.read(meta, _FREE_AT)) for page in entry]
        main = _Tree.read(meta, _MAIN_AT)
        _expect(main.flags == 0, "the main tree is of another kind")
        for _, flags, value in self._walk(main):
            _expect(flags == _TREE and len(value) == _ROOT.size, "the main tree holds something else")
            tree = _Tree.read(value)
            _expect(tree.flags == 0, "a tree is of another kind")
            for _, kind, _ in self._walk(tree):
                _expect(kind in (0, _BIG), "a value is of another kind")
        for page in free:
            self._take(page, 1)
        _expect(self.used.count(1) == self.last_page - 1, "pages are neither in use nor free")
        return True

    def _free_lists(self, tree: _Tree) -> Iterator[tuple[int, ...]]:
        _expect(tree.flags & 0xFF == _INTEGER_KEYS, "the free list is of another kind")
        for _, flags, value in self._walk(tree, integers=True):
            _expect(flags in (0, _BIG), "a list of free pages is of another kind")
            content = self._overflow(value) if flags else value
            (count,) = struct.unpack_from("<Q", content)
            _expect(8 * (count + 1) <= len(content), "a list of free pages is cut off")
            yield struct.unpack_from(f"<{count}Q", content, 8)

    def _overflow(self, value: bytes) -> bytes:
        size, page = struct.unpack("<QQ", value)
        return os.pread(self.descriptor, size, page * self.page_size + _HEADER.size)

    def _walk(self, tree: _Tree, *, integers: bool = False) -> Iterator[tuple[Key, int, bytes]]:
        """Key, flags and value of every entry; a large value is (its size, its page)."""
        counted = {_BRANCH: 0, _LEAF: 0, _OVERFLOW: 0}
        entries = 0
        last: Key | None = None
        if tree.root != _NO_PAGE:
            for key, flags, value in self._descend(tree.root, tree.depth, None, None, counted, integers):
                _expect(last is None or last < key, "keys are not in order")  # type: ignore[operator]
                last, entries = key, entries + 1
                yield key, flags, value
        said = (tree.num_branches, tree.num_leaves, tree.num_overflow, tree.num_entries)
        _expect((*counted.values(), entries) == said, "a tree holds more or less than its root says")
        _expect((tree.root == _NO_PAGE) == (tree.depth == 0), "a tree has no depth")

    def _descend(
        self,
        page: int,
        depth: int,
        low: Key | None,
        high: Key | None,
        counted: dict[int, int],
        integers: bool,
    ) -> Iterator[tuple[Key, int, bytes]]:
        """The entries below a page, all of which lie between two keys of its parent."""
        _expect(0 < depth <= _DEEPEST, "a tree is of another depth")
        kind = _BRANCH if depth > 1 else _LEAF
        self._take(page, 1)
        content = os.pread(self.descriptor, self.page_size, page * self.page_size)
        nodes = list(self._nodes(page, content, kind))
        counted[kind] += 1
        if kind == _LEAF:
            for _, node_flags, size, key_at, key_size in nodes:
                key = _key(content[key_at : key_at + key_size], integers)
                inside = (low is None or low <= key) and (high is None or key < high)  # type: ignore[operator]
                _expect(inside, "a key stands in another's place")
                value = content[key_at + key_size :][: 8 if node_flags & _BIG else size]
                if node_flags & _BIG:
                    (first,) = struct.unpack("<Q", value)
                    counted[_OVERFLOW] += self._take_overflow(first, size)
                    value = struct.pack("<QQ", size, first)
                yield key, node_flags, value
            return
        _expect(len(nodes) > 1, "a branch has one arm")
        keys = [_key(content[at : at + size], integers) for _, _, _, at, size in nodes[1:]]
        bounds = itertools.pairwise([low, *keys, high])
        for (child, *_), (lower, upper) in zip(nodes, bounds, strict=True):
            yield from self._descend(child, depth - 1, lower, upper, counted, integers)

    def _nodes(self, page: int, content: bytes, kind: int) -> Iterator[tuple[int, int, int, int, int]]:
        """Child page, flags, size of the value, and place and size of the key; they fill the page's end."""
        number, flags, lower, upper = _HEADER.unpack_from(content)
        _expect(number == page and flags == kind, f"page {page} is of another kind")
        _expect(
            _HEADER.size < lower <= upper <= len(content) and lower % 2 == 0, f"page {page} has no bounds"
        )
        spans = []
        for (offset,) in struct.iter_unpack("<H", content[_HEADER.size : lower]):
            _expect(upper <= offset <= len(content) - _NODE.size, f"page {page} points beyond itself")
            low, high, node_flags, key_size = _NODE.unpack_from(content, offset)
            size = low | high << 16
            held = 0 if kind == _BRANCH else 8 if node_flags & _BIG else size
            end = offset + _NODE.size + key_size + held
            spans.append((offset, end + end % 2))
            yield size | node_flags << 32, node_flags, size, offset + _NODE.size, key_size
        spans.sort()
        ends = [upper, *(end for _, end in spans)]
        _expect([*(start for start, _ in spans), len(content)] == ends, f"page {page} overlaps itself")

    def _take_overflow(self, page: int, size: int) -> int:
        _expect(page <= self.last_page, "a large value lies beyond the end")
        header = os.pread(self.descriptor, _HEADER.size, page * self.page_size)
        number, flags, low, high = _HEADER.unpack(header)
        count: int = low | high << 16
        _expect(number == page and flags == _OVERFLOW, f"page {page} begins no large value")
        _expect(count * self.page_size >= _HEADER.size + size, f"page {page} is too small for its value")
        self._take(page, count)
        return count

    def _take(self, page: int, count: int) -> None:
        _expect(count > 0 and page >= 2 and page + count - 1 <= self.last_page, f"page {page} lies outside")
        _expect(self.used.find(1, page, page + count) < 0, f"page {page} is in use twice")
        self.used[page : page + count] = b"\1" * count


def _key(data: bytes, integers: bool) -> Key:
    return int.from_bytes(data, "little") if integers else data


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Damaged(otherwise)
