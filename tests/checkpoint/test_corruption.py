"""Damage at rest, in every kind and on every shape of store, as tests.campaigns.corruption judges it."""

import pytest

from tests.campaigns.corruption.campaign import Summary, run
from tests.campaigns.corruption.damages import DAMAGES
from tests.campaigns.corruption.judge import Outcome

SEED = 20261126
EACH = 8
"""Damages of each kind, over all shapes: 152 in all. benchmarks/corruption.py takes 10,000."""

CHECKSUM_KINDS = ("swapped blocks", "block of another store", "block of another job")


@pytest.fixture(scope="module")
def summary() -> Summary:
    return run(EACH * len(DAMAGES), SEED)


def test_no_damage_passes_for_sound(summary: Summary) -> None:
    assert [finding for finding in summary.findings if Outcome.UNDETECTED.value in finding] == []
    assert summary.count(Outcome.UNDETECTED) == 0
    assert sum(map(summary.count, Outcome)) == summary.damages == EACH * len(DAMAGES)


def test_a_new_owner_gets_everything_back_byte_for_byte_and_survives(summary: Summary) -> None:
    assert not any(summary.broken.values()), summary.findings
    assert summary.good, summary.findings


def test_no_sound_store_is_called_damaged(summary: Summary) -> None:
    assert summary.sound_stores
    assert summary.false_alarms == 0, summary.findings


@pytest.mark.parametrize("kind", CHECKSUM_KINDS)
def test_a_sound_block_in_another_place_is_damage(summary: Summary, kind: str) -> None:
    assert summary.outcomes[kind] == {Outcome.CHECKSUM.value: EACH}


def test_a_batch_that_is_missing_is_missed(summary: Summary) -> None:
    assert summary.outcomes["key gone"] == {Outcome.COUNT.value: EACH}


def test_a_file_that_is_gone_or_cut_off_is_never_mapped(summary: Summary) -> None:
    for kind in ("file gone", "cut off"):
        assert summary.outcomes[kind] == {Outcome.BEFORE_MAPPING.value: EACH}


def test_an_old_copy_of_the_file_reads_as_the_state_it_was(summary: Summary) -> None:
    assert summary.outcomes["rolled back"] == {Outcome.EARLIER.value: EACH}


def test_the_damages_reach_all_guards(summary: Summary) -> None:
    """Otherwise nothing of the above is worth much."""
    met = {outcome for outcome in Outcome if summary.count(outcome)}
    assert met >= {Outcome.BEFORE_MAPPING, Outcome.CHECKSUM, Outcome.LMDB, Outcome.COUNT, Outcome.HARMLESS}
