"""What a server holds becomes a bounded value, or a named fault; nothing else."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from queue_app.coordination.states import JOB_FIELDS, JobState, JobStatus, ShardStatus, Trouble
from queue_app.coordination.trust import values
from queue_app.coordination.trust.values import Garbage
from queue_app.coordination.worker_figures import Figures
from queue_app.coordination.workers import Owner, WorkerEntry
from tests.support.hostile_values import TEXTS

JOB = "0123456789ab-cafecafe"
ODD = [text for texts in TEXTS.values() for text in texts]


@dataclass(frozen=True)
class Entry:
    name: str
    number: int
    share: float | None = None
    is_on: bool = False


@pytest.mark.parametrize("text", ["x", "", "-1", "1.0", "1e3", "nan", "9" * 400, "½", " 1", "1_0"])
def test_what_is_no_count_is_a_fault_that_names_the_key(text: str) -> None:
    with pytest.raises(Garbage, match=r"^holdfast:\{a\}:job done: '.*' is no count$"):
        values.whole(text, "holdfast:{a}:job done")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e300", "x", "1" * 41])
def test_what_is_no_finite_number_is_a_fault(text: str) -> None:
    with pytest.raises(Garbage):
        values.finite(text, "a")


def test_a_token_from_the_far_future_is_none() -> None:
    now_ms = int(time.time() * 1000)
    assert values.token(str(now_ms), "a") == now_ms
    with pytest.raises(Garbage):
        values.token(str(now_ms + 31 * 86_400_000), "a")


def test_an_entry_has_the_fields_and_types_that_are_declared() -> None:
    assert values.entry(Entry, '{"name": "a", "number": 1, "share": 1}', "k") == Entry("a", 1, 1.0)
    for odd in (
        {"name": "a"},
        {"name": "a", "number": True},
        {"name": "a", "number": 1.5},
        {"name": 5, "number": 1},
        {"name": "a", "number": 1, "share": "x"},
        {"name": "a", "number": 1, "is_on": 1},
        {"name": "a", "number": 1, "other": 1},
        {"name": "a", "number": 10**30},
        {"name": "a" * 20_000, "number": 1},
    ):
        with pytest.raises(Garbage):
            values.entry(Entry, json.dumps(odd), "k")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5_000, "[]", "null", "{", '{"number": NaN}' * 2])
def test_what_is_no_object_of_json_is_a_fault_however_deep_it_is(text: str) -> None:
    with pytest.raises(Garbage):
        values.json_object(text, "k")


def test_a_fault_shows_no_control_character_and_no_more_than_its_beginning() -> None:
    with pytest.raises(Garbage) as caught:
        values.whole("\x1b[2J" + "x" * 1_000_000, "key\nof\x07", 5)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_one_that_is_garbage_keeps_no_other_from_being_read() -> None:
    assert list(values.readable(lambda text: values.whole(text, "k"), ["1", "x", "3"])) == [1, 3]


def test_only_what_the_server_says_of_a_value_is_garbage() -> None:
    refused = redis.ResponseError("MISCONF Errors writing to the AOF file")
    assert values.garbage_of(refused, "k") is None
    assert values.garbage_of(redis.ResponseError("WRONGTYPE Operation against a key"), "k") is not None
    named = values.garbage_of(redis.ResponseError("GARBAGE holdfast:{a}:held 0"), "k")
    assert named is not None
    assert named.where == "holdfast:{a}:held 0"


def status_of(**told: str) -> JobStatus | None:
    return JobStatus.of(JOB, [told.get(field) for field in JOB_FIELDS])


READERS: dict[str, Callable[[str], object]] = {
    "job": lambda text: [status_of(**{"state": "running", field: text}) for field in JOB_FIELDS],
    "shard": lambda text: ShardStatus.of(JOB, 0, text, _running()),
    "worker": WorkerEntry.decode,
    "owner": Owner.decode,
    "figures": Figures.decode,
    "trouble": lambda text: values.entry(Trouble, text, "k"),
}


def _running() -> JobStatus:
    status = status_of(state="running")
    assert status is not None
    assert status.state is JobState.RUNNING
    return status


@pytest.mark.parametrize("reader", READERS)
@given(st.one_of(st.sampled_from(ODD), st.text(), st.integers().map(str), st.floats().map(str)))
def test_whatever_is_read_is_a_value_or_garbage_and_never_another_error(reader: str, text: str) -> None:
    try:
        READERS[reader](text)
    except Garbage:
        return


def test_a_worker_that_claims_more_cores_than_a_host_has_sets_no_jobs_threads() -> None:
    told = WorkerEntry("cpu0@a", "cpu0", "cpu", "a", 1, 2, "", cores=10**9)
    with pytest.raises(Garbage, match="cores"):
        WorkerEntry.decode(json.dumps(asdict(told)))


def test_more_shards_than_a_job_can_have_are_garbage() -> None:
    with pytest.raises(Garbage, match="num_shards: '30000000' is no count"):
        status_of(state="running", num_shards="30000000")
