"""The promises of a sample: it stands for all records, forgets no rare one, and stays small."""

from random import Random

import pytest

from queue_app.preflight.stratified_sample import STRATUM_CHARACTERS, StratifiedSample, StratifiedSampler

CUT = 1_000


def drawn(lengths: list[int], num_characters: int = 20_000) -> StratifiedSample:
    sample = StratifiedSampler(cut_characters=CUT)
    for length in lengths:
        sample.add("A" * length)
    return sample.draw(num_characters)


@pytest.fixture(scope="module")
def lengths() -> list[int]:
    """As of proteins: many short, few long, and one giant."""
    random = Random(1)
    return [int(random.lognormvariate(5, 0.8)) + 1 for _ in range(20_000)] + [1_000_000]


def test_the_weights_are_the_number_of_records(lengths: list[int]) -> None:
    assert sum(drawn(lengths).weights) == pytest.approx(len(lengths))


def test_the_weighted_mean_of_the_lengths_is_that_of_all(lengths: list[int]) -> None:
    sample = drawn(lengths)
    assert len(sample.lengths) < len(lengths) / 20
    weighted = sum(a * b for a, b in zip(sample.lengths, sample.weights, strict=True)) / len(lengths)
    assert weighted == pytest.approx(sum(lengths) / len(lengths), rel=0.05)


def test_a_rare_giant_is_in_the_sample_and_stands_for_itself_alone(lengths: list[int]) -> None:
    sample = drawn(lengths)
    place = sample.lengths.index(1_000_000)
    assert sample.weights[place] == 1


def test_a_long_text_is_cut_and_its_length_kept() -> None:
    sample = drawn([10 * CUT])
    assert (len(sample.texts[0]), sample.lengths[0]) == (CUT, 10 * CUT)


def test_all_records_are_drawn_where_there_are_few() -> None:
    assert drawn([10, 300, 20, 5]).weights == (1, 1, 1, 1)


def test_what_is_kept_is_bounded_whatever_passes() -> None:
    sample = StratifiedSampler(cut_characters=CUT)
    for _ in range(3 * STRATUM_CHARACTERS // 200):
        sample.add("A" * 200)
    assert sum(map(len, sample.draw(10**9).texts)) <= STRATUM_CHARACTERS


def test_the_last_records_are_drawn_as_readily_as_the_first() -> None:
    sample = StratifiedSampler(cut_characters=CUT)
    for letter in "ABCD":
        for _ in range(STRATUM_CHARACTERS // 200):
            sample.add(letter * 200)
    texts = sample.draw(40_000).texts
    assert {text[0] for text in texts} == set("ABCD")


def test_equal_records_give_equal_samples(lengths: list[int]) -> None:
    assert drawn(lengths) == drawn(lengths)


def test_no_records_give_an_empty_sample() -> None:
    assert drawn([]) == StratifiedSample((), (), ())
