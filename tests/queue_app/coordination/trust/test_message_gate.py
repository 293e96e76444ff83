"""The gate: of a queue's texts, Celery sees those that name a shard or a job, and nothing of strangers."""

import json
import random
from typing import Any

import pytest

from queue_app.celery_app import EMBED_SHARD, EXPORT_JOB, make_app
from queue_app.coordination.trust.message_gate import (
    ARGUMENTS,
    DAY_SECONDS,
    RAW_BYTES_MOST,
    SIGNED_AS,
    Message,
    MessageGate,
    Reason,
    signed_parts,
)
from queue_app.coordination.trust.signing import KeyRing
from tests.support.hostile_messages import (
    CELERYS_OWN,
    JOB_ID,
    STRANGERS,
    body,
    message,
    mutated,
    text_of,
)

NOW = 1.5e9 + 60
KEYS = KeyRing({"one": b"1" * 32, "two": b"2" * 32})
HEADERS = {"lang", "task", "id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "sent_at", "signature"}
PROPERTIES = {"correlation_id", "reply_to", "delivery_mode", "delivery_info", "priority", "body_encoding"}


def judge(hostile: Any, queue: str = "cpu0") -> Message | Reason:
    return MessageGate(None).judge(text_of(hostile), queue)


def test_there_are_two_tasks() -> None:
    assert set(ARGUMENTS) == {EMBED_SHARD, EXPORT_JOB}


@pytest.mark.parametrize(("task", "arguments"), [(EMBED_SHARD, [JOB_ID, 7]), (EXPORT_JOB, [JOB_ID])])
def test_a_message_of_ours_is_let_in_as_what_it_says(task: str, arguments: list[Any]) -> None:
    found = judge(message(headers={"task": task}, body=body(arguments)))
    assert isinstance(found, Message)
    assert (found.task, list(found.arguments)) == (task, arguments)


@pytest.mark.parametrize("kind", STRANGERS)
def test_what_is_no_message_of_ours_is_dropped(kind: str) -> None:
    assert isinstance(judge(STRANGERS[kind]), Reason)


@pytest.mark.parametrize("kind", CELERYS_OWN)
def test_nothing_that_celery_obeys_is_taken_from_outside(kind: str) -> None:
    found = judge(CELERYS_OWN[kind])
    assert isinstance(found, Message)
    rebuilt = found.rebuilt("cpu0")
    assert set(rebuilt) == {"body", "content-type", "content-encoding", "headers", "properties"}
    assert set(rebuilt["headers"]) <= HEADERS
    assert set(rebuilt["properties"]) == PROPERTIES | {"delivery_tag"}
    assert rebuilt["properties"]["delivery_info"] == {"exchange": "", "routing_key": "cpu0"}
    assert rebuilt["headers"]["argsrepr"] == f"['{JOB_ID}', 0]"


def test_reasons_tell_what_is_wrong() -> None:
    told = {kind: judge(STRANGERS[kind]) for kind in STRANGERS}
    assert told["100 kB"] is told["10 MB"] is Reason.TOO_LARGE
    assert told["row 8: nested 30,000 deep"] is told["no text"] is Reason.UNREADABLE
    assert (
        told["row 16: compression"] is told["pickle"] is told["a body that is no base64"] is Reason.ENCODING
    )
    assert told["a task of Celery's"] is told["protocol 1"] is Reason.TASK
    assert told["row 17: NUL in a path"] is told["callbacks"] is Reason.ARGUMENTS
    assert told["an id of 50 kB"] is told["no tag"] is Reason.IDENTITY


def test_what_is_too_large_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", lambda _: pytest.fail("parsed"))
    assert MessageGate(None).judge(b"x" * (RAW_BYTES_MOST + 1), "cpu0") is Reason.TOO_LARGE


def test_what_was_let_in_is_let_in_again() -> None:
    """As it is when a worker puts it back, and in the next life of a worker that was killed."""
    for kind in CELERYS_OWN:
        first = judge(CELERYS_OWN[kind])
        assert isinstance(first, Message)
        assert judge(first.rebuilt("cpu0")) == first


def test_of_any_change_to_a_message_the_gate_says_what_it_is_and_never_raises() -> None:
    rng, let_in = random.Random(7), 0
    for turn in range(600):
        gate = MessageGate(KEYS if turn % 4 == 0 else None, lambda: NOW)
        found = gate.judge(mutated(rng, message()), "cpu0")
        if isinstance(found, Message):
            let_in += 1
            patterns = ARGUMENTS[found.task]
            assert all(fits(value) for fits, value in zip(patterns, found.arguments, strict=True))
            assert set(found.rebuilt("cpu0")["headers"]) <= HEADERS
        else:
            assert isinstance(found, Reason)
    assert 30 < let_in < 400  # both are seen


# ---- with a key


def signed(
    queue: str = "cpu0", *, keys: KeyRing = KEYS, sent_at: float = NOW - 60, changed: Any = None
) -> str:
    """A message for `queue`, signed by its sender; some headers are changed afterwards."""
    made = message(headers={"sent_at": sent_at})
    parts = signed_parts(EMBED_SHARD, [JOB_ID, 0], queue, made["headers"]["id"], sent_at)
    made["headers"] |= {"signature": keys.sign(SIGNED_AS, *parts), **(changed or {})}
    return json.dumps(made)


@pytest.fixture
def guarded() -> MessageGate:
    return MessageGate(KEYS, lambda: NOW, remembered_most=3)


def test_with_a_key_what_it_has_signed_is_let_in_and_nothing_else(guarded: MessageGate) -> None:
    assert isinstance(guarded.judge(signed(), "cpu0"), Message)
    assert isinstance(guarded.judge(signed(keys=KeyRing({"two": b"2" * 32})), "cpu0"), Message)
    assert guarded.judge(json.dumps(message()), "cpu0") is Reason.UNSIGNED
    assert guarded.judge(signed(keys=KeyRing({"one": b"x" * 32})), "cpu0") is Reason.UNSIGNED
    assert guarded.judge(signed(keys=KeyRing({"three": b"1" * 32})), "cpu0") is Reason.UNSIGNED


OTHER_ID = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("changed", [{"id": OTHER_ID}, {"sent_at": NOW}, {"sent_at": None}])
def test_a_signature_covers_all_that_is_believed(guarded: MessageGate, changed: dict[str, Any]) -> None:
    assert guarded.judge(signed(changed=changed), "cpu0") is Reason.UNSIGNED


def test_a_signature_covers_task_and_arguments(guarded: MessageGate) -> None:
    made = json.loads(signed())
    for arguments in ([JOB_ID, 1], [JOB_ID.replace("0", "1"), 0]):
        assert guarded.judge(json.dumps({**made, "body": body(arguments)}), "cpu0") is Reason.UNSIGNED
    as_export = {**made, "headers": {**made["headers"], "task": EXPORT_JOB}, "body": body([JOB_ID])}
    assert guarded.judge(json.dumps(as_export), "cpu0") is Reason.UNSIGNED


def test_a_message_that_was_signed_for_another_queue_is_dropped(guarded: MessageGate) -> None:
    assert guarded.judge(signed("gpu0"), "cpu0") is Reason.UNSIGNED


def test_a_message_of_yesterday_or_of_tomorrow_is_dropped(guarded: MessageGate) -> None:
    for sent_at in (NOW - DAY_SECONDS - 1, NOW + DAY_SECONDS + 1):
        assert guarded.judge(signed(sent_at=sent_at), "cpu0") is Reason.STALE


def test_what_was_acknowledged_is_not_let_in_again_and_what_was_not_is(guarded: MessageGate) -> None:
    taken = signed()
    for _ in range(2):  # its worker's process was killed, and it was put back
        found = guarded.judge(taken, "cpu0")
        assert isinstance(found, Message)
    guarded.note_done(found.id, found.sent_at)
    assert guarded.judge(taken, "cpu0") is Reason.REPLAYED


def test_what_the_gate_had_to_forget_is_not_let_in_again_either(guarded: MessageGate) -> None:
    taken = [signed(sent_at=NOW - 60 + number) for number in range(5)]
    for each in taken:
        found = guarded.judge(each, "cpu0")
        assert isinstance(found, Message)
        guarded.note_done(found.id, found.sent_at)
    assert [guarded.judge(each, "cpu0") for each in taken] == [Reason.STALE] * 2 + [Reason.REPLAYED] * 3


def test_memory_is_given_back_after_a_day() -> None:
    now = NOW
    gate = MessageGate(KEYS, lambda: now)
    gate.note_done("first", NOW)
    now = NOW + DAY_SECONDS + 1
    gate.note_done("second", now)
    assert "first" not in gate._done
    assert "second" in gate._done


def test_what_the_app_sends_is_signed_for_its_queue(
    server_url: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("queue_app.celery_app.ring_of_server", lambda password: KEYS)
    for task, arguments in ((EMBED_SHARD, [JOB_ID, 3]), (EXPORT_JOB, [JOB_ID])):
        make_app(server_url).send_task(task, args=arguments, queue="cpu0@host")
        text = client.rpop("cpu0@host")
        found = MessageGate(KEYS).judge(text, "cpu0@host")
        assert isinstance(found, Message)
        assert (found.task, list(found.arguments)) == (task, arguments)
        assert MessageGate(KEYS).judge(text, "cpu0") is Reason.UNSIGNED
