"""One function for each way in which a data file may be spoilt: the file as it would be found, or none.

Offsets are those of LMDB 0.9's pages of 4,096 bytes (mdb.c): a page begins with its number (u64), two bytes
of padding, flags (u16), and the bounds of its free room; where its nodes begin stands behind that.
"""

import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb

from checkpoint import encode
from checkpoint.schema import BLOCKS, META, QUARANTINE
from tests.campaigns.corruption.stores import SoundStore
from tests.support.blocks_and_stores import JOB

Damage = Callable[[SoundStore, random.Random], bytes | None]

PAGE, SECTOR, PAGE_HEADER, LMDB_META = 4096, 512, 16, 152
BRANCH, SUBTREE, NO_PAGE = 1, 2, 2**64 - 1
BOUNDS_AT, FREE_ROOT_AT, MAIN_ROOT_AT, TXN_ID_AT = 12, 80, 128, 144
OTHER_JOB = bytes(reversed(JOB))


def flipped_bit(store: SoundStore, rng: random.Random) -> bytes:
    """Anywhere: in vectors, tree pages, free pages."""
    return _flip(store.data, rng.randrange(len(store.data)), rng)


def flipped_bits(store: SoundStore, rng: random.Random) -> bytes:
    data = bytearray(store.data)
    for _ in range(rng.randint(2, 64)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def header_bit(store: SoundStore, rng: random.Random) -> bytes:
    """In one of the two pages that say where everything is."""
    return _flip(store.data, rng.choice((0, PAGE)) + rng.randrange(LMDB_META), rng)


def page_header_bit(store: SoundStore, rng: random.Random) -> bytes:
    """In the page number, flags or bounds of any page."""
    page = rng.randrange(2, len(store.data) // PAGE)
    return _flip(store.data, page * PAGE + rng.randrange(PAGE_HEADER), rng)


def tree_bit(store: SoundStore, rng: random.Random) -> bytes:
    """In the filled part of a tree's page: keys, pointers, the list of free pages, small records."""
    start = PAGE * rng.choice(tree_pages(store.data))
    lower, upper = struct.unpack_from("<HH", store.data, start + BOUNDS_AT)
    return _flip(store.data, start + rng.choice((*range(lower), *range(upper, PAGE))), rng)


def record_bit(store: SoundStore, rng: random.Random) -> bytes:
    """In the value of a small record: token, plan, done record, a record that was quarantined."""
    key, value = rng.choice(_small_records(store.data))
    place, bit = rng.randrange(len(value)), rng.randrange(8)
    data = store.data
    for start in _places(store.data, key + value):  # older pages hold copies, and only one of them counts
        data = _flip(data, start + len(key) + place, rng, bit)
    return data


def torn_sector(store: SoundStore, rng: random.Random) -> bytes:
    """A sector that was never written: zeros, noise, or what stood there some commits ago."""
    start = SECTOR * rng.randrange(len(store.data) // SECTOR)
    stale = rng.choice(store.files)[start : start + SECTOR]
    return _put(store.data, start, rng.choice((bytes(SECTOR), rng.randbytes(SECTOR), stale)))


def torn_tree_sector(store: SoundStore, rng: random.Random) -> bytes:
    start = PAGE * rng.choice(tree_pages(store.data)) + SECTOR * rng.randrange(PAGE // SECTOR)
    stale = rng.choice(store.files)[start : start + SECTOR]
    return _put(store.data, start, rng.choice((bytes(SECTOR), rng.randbytes(SECTOR), stale)))


def zeroed_pages(store: SoundStore, rng: random.Random) -> bytes:
    start = PAGE * rng.randrange(len(store.data) // PAGE)
    return _put(store.data, start, bytes(PAGE * rng.choice((1, 1, 2, 8)))[: len(store.data) - start])


def zeroed_tree_page(store: SoundStore, rng: random.Random) -> bytes:
    return _put(store.data, PAGE * rng.choice(tree_pages(store.data)), bytes(PAGE))


def swapped_pages(store: SoundStore, rng: random.Random) -> bytes:
    """Written to each other's place."""
    one, other = (PAGE * page for page in rng.sample(range(len(store.data) // PAGE), 2))
    swapped = _put(store.data, one, store.data[other : other + PAGE])
    return _put(swapped, other, store.data[one : one + PAGE])


def cut_off(store: SoundStore, rng: random.Random) -> bytes:
    """At any byte, or at the end of a page."""
    length = rng.randrange(len(store.data))
    return store.data[: length if rng.random() < 0.5 else length // PAGE * PAGE]


def extended(store: SoundStore, rng: random.Random) -> bytes:
    """Zeros or noise behind the end, up to the file's own length."""
    length = rng.randint(1, len(store.data)) if rng.random() < 0.5 else PAGE * rng.randint(1, 64)
    return store.data + (bytes(length) if rng.random() < 0.5 else rng.randbytes(length))


def file_gone(store: SoundStore, rng: random.Random) -> bytes | None:
    """Removed, emptied, or something else under its name."""
    return rng.choice((None, b"", bytes(len(store.data)), rng.randbytes(rng.randint(1, 4 * PAGE))))


def swapped_blocks(store: SoundStore, rng: random.Random) -> bytes:
    """Two batches of one store, each under the other's index."""
    one, other = rng.sample(range(store.shape.num_blocks), 2)
    return _exchange(store.data, _encoded(store, one), _encoded(store, other))


def block_of_another_store(store: SoundStore, rng: random.Random) -> bytes:
    """The same job, another shard: a sound block under the index of another batch."""
    foreign = encode(store.shape.block(rng.randrange(10**6, 2 * 10**6)), JOB)
    return _replace(store.data, _encoded(store, rng.randrange(store.shape.num_blocks)), foreign)


def block_of_another_job(store: SoundStore, rng: random.Random) -> bytes:
    """The same index in a store of the same shape."""
    index = rng.randrange(store.shape.num_blocks)
    return _replace(store.data, _encoded(store, index), encode(store.blocks[index], OTHER_JOB))


def key_gone(store: SoundStore, rng: random.Random) -> bytes:
    """A batch is missing from the tree, in a transaction like any other."""
    with tempfile.TemporaryDirectory(prefix="holdfast-corruption-") as home:
        data = Path(home) / "data.mdb"
        data.write_bytes(store.data)
        with lmdb.open(home, max_dbs=3, map_size=2 * len(store.data), lock=False, sync=False) as environment:
            blocks = environment.open_db(BLOCKS, create=False)
            with environment.begin(write=True) as transaction:
                index = rng.randrange(store.shape.num_blocks)
                assert transaction.delete(index.to_bytes(8, "big"), db=blocks)
        return data.read_bytes()


def rolled_back(store: SoundStore, rng: random.Random) -> bytes:
    """An old copy of the file is put back."""
    return rng.choice(store.files[:-1])


DAMAGES: dict[str, Damage] = {
    damage.__name__.replace("_", " "): damage
    for damage in (
        flipped_bit, flipped_bits, header_bit, page_header_bit, tree_bit, record_bit, torn_sector,
        torn_tree_sector, zeroed_pages, zeroed_tree_page, swapped_pages, cut_off, extended, file_gone,
        swapped_blocks, block_of_another_store, block_of_another_job, key_gone, rolled_back,
    )
}  # fmt: skip


def tree_pages(data: bytes) -> list[int]:
    """The branches and leaves in use, of all trees: what is free by now can do no harm."""
    newest = max((0, PAGE), key=lambda start: _u64(data, start + TXN_ID_AT))
    found = [root for at in (FREE_ROOT_AT, MAIN_ROOT_AT) if (root := _u64(data, newest + at)) != NO_PAGE]
    for page in found:  # grows on the way
        content = data[page * PAGE : (page + 1) * PAGE]
        flags, lower = struct.unpack_from("<HH", content, BOUNDS_AT - 2)
        for (offset,) in struct.iter_unpack("<H", content[PAGE_HEADER:lower]):
            low, high, node_flags, key_size = struct.unpack_from("<HHHH", content, offset)
            if flags == BRANCH:
                found.append(low | high << 16 | node_flags << 32)
            elif node_flags == SUBTREE and (root := _u64(content, offset + 8 + key_size + 40)) != NO_PAGE:
                found.append(root)
    return found


def _u64(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 8], "little")


def _small_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Those that stand beside their keys, as all do that are shorter than half a page."""
    with tempfile.TemporaryDirectory(prefix="holdfast-corruption-") as home:
        (Path(home) / "data.mdb").write_bytes(data)
        with lmdb.open(home, max_dbs=3, readonly=True, lock=False) as environment:
            names = [environment.open_db(name, create=False) for name in (META, QUARANTINE)]
            with environment.begin() as transaction:
                records = [record for name in names for record in transaction.cursor(db=name)]
                return [(bytes(key), bytes(value)) for key, value in records if key + value in data]


def _encoded(store: SoundStore, index: int) -> bytes:
    return encode(store.blocks[index], JOB)


def _flip(data: bytes, place: int, rng: random.Random, bit: int | None = None) -> bytes:
    flipped = data[place] ^ 1 << (rng.randrange(8) if bit is None else bit)
    return _put(data, place, bytes((flipped,)))


def _put(data: bytes, start: int, content: bytes) -> bytes:
    spoilt = bytearray(data)
    spoilt[start : start + len(content)] = content
    return bytes(spoilt)


def _exchange(data: bytes, one: bytes, other: bytes) -> bytes:
    """In all copies: pages that are free by now hold some too."""
    places = [(start, other) for start in _places(data, one)]
    places += [(start, one) for start in _places(data, other)]
    for start, content in places:
        data = _put(data, start, content)
    return data


def _replace(data: bytes, one: bytes, other: bytes) -> bytes:
    assert one in data
    assert len(one) == len(other)
    return data.replace(one, other)


def _places(data: bytes, value: bytes) -> Iterator[int]:
    place = data.find(value)
    while place >= 0:
        yield place
        place = data.find(value, place + 1)
