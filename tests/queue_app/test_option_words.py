"""The words of the trade, as a call from Python gives them."""

from pathlib import Path
from typing import Any

import pytest

import queue_app
from queue_app.api.options import Options, request_of
from queue_app.errors import UsageError
from queue_app.option_words import NEAR, SAME, VALUES, in_python, in_shell

TAKEN = sorted(word for word, name in SAME.items() if name in Options.__annotations__)


def test_no_word_is_both_the_same_and_something_near() -> None:
    assert not SAME.keys() & NEAR.keys()
    assert not SAME.keys() & Options.__annotations__.keys()


@pytest.mark.parametrize("word", TAKEN)
def test_a_word_that_means_the_same_is_taken(word: str) -> None:
    value: Any = {"layers": (6,), "num_shards": 3, "toks_per_batch": 9, "truncate_dim": 4, "normalize": True}
    asked = value.get(SAME[word], {"pool": "mean", "delimiter": ";"}.get(SAME[word], "float16"))
    assert getattr(request_of("mock:8", "out.h5", {word: asked}), SAME[word]) == asked


@pytest.mark.parametrize(("word", "ours"), [*VALUES.items(), ("torch.bfloat16", "bfloat16")])
def test_a_dtype_may_be_said_in_other_words_or_be_torchs(word: str, ours: str) -> None:
    assert request_of("mock:8", "out.h5", {"dtype": word}).dtype == ours


@pytest.mark.parametrize("word", sorted(NEAR.keys() - {"inputs", "progress"}))
def test_a_word_that_means_something_near_is_answered_with_the_sentence_of_the_shell(
    tmp_path: Path, word: str
) -> None:
    with pytest.raises(TypeError) as caught:
        queue_app.embed("a.fasta", model="mock:8", output=tmp_path / "o.npy", **{word: 32})  # type: ignore[arg-type]
    assert isinstance(caught.value, UsageError)
    assert str(caught.value) == f"{word}: {in_python(NEAR[word])}"
    assert list(tmp_path.iterdir()) == []


def test_sentences_name_options_as_each_reader_writes_them() -> None:
    sentence = "use [pool none] or [max_length N] with [dedup False] and [overwrite]"
    assert in_shell(sentence) == "use --pool none or --max-length N with --dedup False and --overwrite"
    assert in_python(sentence) == "use pool='none' or max_length=N with dedup=False and overwrite=True"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "mean", "pooling": "cls"}, "pooling='cls': pool is given already"),
        ({"broker": "redis://h"}, "broker: use broker_url"),
        ({"no_progress": True}, "no_progress: a shell shows progress unless"),
    ],
)
def test_a_word_that_cannot_be_taken_here_says_why(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        request_of("mock:8", "out.h5", options)
