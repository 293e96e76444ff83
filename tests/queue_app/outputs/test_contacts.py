"""Maps of contacts in the hands of a Python program."""

import numpy as np
import pytest

from queue_app.outputs.contacts import Contacts, as_map

LENGTHS = [3, 1, 2]


@pytest.fixture
def contacts() -> Contacts:
    """Three maps, whose numbers count on from one to the next."""
    offsets = np.cumsum([0, *(length**2 for length in LENGTHS)])
    return Contacts(np.arange(offsets[-1], dtype=np.float32)[:, None], offsets)


def test_each_is_a_square_and_a_view(contacts: Contacts) -> None:
    assert [each.shape for each in contacts] == [(3, 3), (1, 1), (2, 2)]
    assert contacts[-1].tolist() == [[10, 11], [12, 13]]
    assert all(np.shares_memory(each, contacts.values) for each in contacts)


def test_a_slice_has_the_same_maps(contacts: Contacts) -> None:
    assert [each.tolist() for each in contacts[1:]] == [each.tolist() for each in [contacts[1], contacts[2]]]
    assert isinstance(contacts[1:], Contacts)
    assert repr(contacts[1:]) == "Contacts(2 maps, 5 pairs, float32)"


def test_what_is_not_there_is_an_index_error(contacts: Contacts) -> None:
    with pytest.raises(IndexError, match="row 3 of 3"):
        contacts[3]


def test_a_map_is_read_row_by_row() -> None:
    assert as_map(np.arange(4, dtype=np.float32)).tolist() == [[0, 1], [2, 3]]
