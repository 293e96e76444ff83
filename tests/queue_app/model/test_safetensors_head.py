"""A head is believed where all of it fits together: one that lies decides what is allocated, and where it is
read."""

import json
from typing import Any

import pytest

from queue_app.model.safetensors_head import HEAD_BYTES_MOST, head_length, parse_head

SOUND = {
    "__metadata__": {"format": "pt"},
    "b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [4, 28]},
    "a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 4]},
    "empty": {"dtype": "F32", "shape": [0, 5], "data_offsets": [4, 4]},
}


def head(**tensors: Any) -> bytes:
    return json.dumps({**SOUND, **tensors}).encode()


def tensor(**fields: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [28, 32], **fields}


def test_tensors_come_in_the_order_in_which_they_lie() -> None:
    found = parse_head(head(), 28)
    assert list(found) == ["a", "empty", "b"]
    assert (found["b"].dtype, found["b"].shape, found["b"].begin, found["b"].end) == ("F32", (2, 3), 4, 28)


@pytest.mark.parametrize(
    ("fields", "num_bytes", "said"),
    [
        ({}, 27, "cut off"),
        ({"__metadata__": -1}, 28, "no texts by name"),
        ({"__metadata__": {"format": 1}}, 28, "no texts by name"),
        ({}, 29, "hangs on"),
        ({"c": tensor(data_offsets=[0, 4])}, 28, "begins at byte"),  # over another one
        ({"c": tensor(data_offsets=[27, 31])}, 31, "begins at byte"),
        ({"c": tensor(data_offsets=[32, 36])}, 36, "begins at byte"),  # a hole before it
        ({"c": tensor(data_offsets=[32, 28])}, 32, "bytes, and by its shape"),
        ({"c": tensor(dtype="F4", data_offsets=[32, 28])}, 32, "ends before it begins"),
        ({"c": tensor(shape=[2])}, 32, "bytes, and by its shape"),
        ({"c": tensor(shape=[1 << 60, 1 << 60])}, 32, "bytes, and by its shape"),
        ({"c": tensor(shape=[-1, -1])}, 32, "no numbers of something"),
        ({"c": tensor(shape=[True])}, 32, "no numbers of something"),
        ({"c": tensor(shape=["1"])}, 32, "no numbers of something"),
        ({"c": tensor(shape=[1] * 1000)}, 32, "no numbers of something"),
        ({"c": tensor(shape=[10**30])}, 32, "no numbers of something"),
        ({"c": tensor(data_offsets=[28])}, 32, "no numbers of something"),
        ({"c": tensor(data_offsets=[28.0, 32.0])}, 32, "no numbers of something"),
        ({"c": tensor(dtype=3)}, 32, "no name"),
        ({"c": []}, 32, "has no dtype"),
        ({"c": {"dtype": "F32"}}, 32, "has no dtype"),
        ({"x\0" * 10_000: tensor(shape=[2])}, 32, r"characters\)' has 4 bytes"),
    ],
    ids=repr,
)
def test_a_head_of_which_something_does_not_fit_is_refused(
    fields: dict[str, Any], num_bytes: int, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        parse_head(head(**fields), num_bytes)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"[]", "no JSON object"),
        (b"{", "Expecting"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"\xff", "decode|Expecting"),
        (b'{"a": {}, "a": {}}', "twice"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "4300"),
    ],
)
def test_a_head_that_is_no_object_of_json_is_refused(written: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_head(written, 0)


@pytest.mark.parametrize("first", [b"", b"1234567", (HEAD_BYTES_MOST + 1).to_bytes(8, "little"), b"\xff" * 8])
def test_a_length_that_no_head_has_is_refused_before_it_is_read(first: bytes) -> None:
    with pytest.raises(ValueError, match=r"shorter|too long"):
        head_length(first)
