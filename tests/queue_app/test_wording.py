"""Numbers as people read them."""

import pytest

from queue_app.wording import count, duration, listed, percent, rate


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("share", "said"), [(None, ""), (0.0, "0%"), (0.334, "33%"), (0.999, "99%"), (1.0, "100%")]
)
def test_only_what_is_complete_is_all_of_it(share: float | None, said: str) -> None:
    assert percent(share) == said


def test_rates_counts_and_lists() -> None:
    assert [rate(each) for each in (0.0, 0.3, 10.0, 7812.4)] == ["0", "0.3", "10", "7,812"]
    assert [count(number, "shard") for number in (0, 1, 1200)] == ["0 shards", "1 shard", "1,200 shards"]
    assert [count(number, "batch", "batches") for number in (1, 2)] == ["1 batch", "2 batches"]
    assert [listed(list(names)) for names in ("", "a", "ab", "abc")] == ["", "a", "a and b", "a, b and c"]
    assert listed([str(n) for n in range(9)]) == "0, 1, 2, 3 and 5 more"
