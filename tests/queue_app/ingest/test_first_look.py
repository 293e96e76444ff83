"""A look at some of the records at submit: which jobs are refused, and what is noted."""

from dataclasses import replace

import pytest

from queue_app.choices import Alphabet
from queue_app.errors import InputError
from queue_app.ingest.alphabets import judge
from queue_app.ingest.first_look import FIRST, FirstLook
from queue_app.ingest.unknown_tokens import count_unknown_of
from queue_app.model.reader import find_model
from queue_app.model.spec import FoundModel, TokensSpec

PROTEIN, STRANGE = "MKTAYIAKQRQISFVKSHFSRQ", "JJJJJJJJJJJJMKTAYIAK"


def model(*, letters: str = "ACDEFGHIKLMNPQRSTVWY", fused: bool = False) -> FoundModel:
    tokens = TokensSpec(
        "letters", (0,), (1,), unknown=2, letters=letters, ids=tuple(range(3, 3 + len(letters))),
        fuse_unknown=fused,
    )  # fmt: skip
    spec = replace(find_model("mock:8").spec, name="tiny", family="bert", alphabet="protein", tokens=tokens)
    return FoundModel(spec)


def look_at(
    sequences: list[str], alphabet: Alphabet = "protein", found: FoundModel | None = None
) -> FirstLook:
    look = FirstLook(found or model(), alphabet)
    for number, raw in enumerate(sequences):
        look.add(f"r{number}", raw, *judge(raw, alphabet))
    return look


def test_half_of_the_records_unknown_is_no_reason_to_refuse() -> None:
    look_at([PROTEIN, STRANGE] * 10).refuse_hopeless()


def test_more_than_half_unknown_is_refused_with_the_first_of_them() -> None:
    look = look_at([PROTEIN, STRANGE, STRANGE])
    with pytest.raises(InputError, match=r"67% of the records .* \(the first is r1: 12 of 20 tokens"):
        look.refuse_hopeless()


def test_the_id_of_a_record_is_shown_in_letters_alone() -> None:
    look = FirstLook(model(), "protein")
    look.add("\x1b]0;title\x07\x1b[2J", STRANGE, *judge(STRANGE, "protein"))
    with pytest.raises(InputError, match=r"the first is \\x1b\]0;title\\x07\\x1b\[2J: "):
        look.refuse_hopeless()


def test_a_few_records_with_illegal_letters_are_set_aside_and_many_refused() -> None:
    look_at(["MK1", "MK2", PROTEIN]).refuse_hopeless()
    with pytest.raises(InputError, match="illegal letter '1' at position 3"):
        look_at(["MK1"] * 10 + [PROTEIN]).refuse_hopeless()


def test_empty_records_refuse_nothing() -> None:
    look_at([""] * 30 + [PROTEIN]).refuse_hopeless()


def test_an_input_that_is_hopeless_from_the_begin_is_not_read_to_its_end() -> None:
    read = 0

    def endless() -> FirstLook:
        nonlocal read
        look = FirstLook(model(), "protein")
        while True:
            read += 1
            look.add("r", STRANGE, STRANGE, None)

    with pytest.raises(InputError, match="100% of the records"):
        endless()
    assert read == FIRST


def test_what_comes_late_counts_by_its_number_and_is_looked_at_ever_more_seldom() -> None:
    good, bad = [PROTEIN] * FIRST, [STRANGE] * 20 * FIRST
    look = look_at(good + bad)
    assert look.num_chosen < 7 * FIRST
    with pytest.raises(InputError, match="95% of the records"):
        look.refuse_hopeless()
    look_at(bad[: FIRST // 2] + [PROTEIN] * 4 * FIRST).refuse_hopeless()


def test_equal_inputs_are_judged_alike() -> None:
    sequences = [PROTEIN, STRANGE, PROTEIN] * FIRST
    assert look_at(sequences) == look_at(sequences)


@pytest.mark.parametrize(("fused", "counted"), [(False, (3, 7)), (True, (2, 6))])
def test_neighbouring_unknown_letters_are_one_token_where_the_tokenizer_makes_one_of_them(
    fused: bool, counted: tuple[int, int]
) -> None:
    count = count_unknown_of(model(fused=fused))
    assert count is not None
    assert count("MJJKMJK") == counted


@pytest.mark.parametrize(
    ("sequences", "kind"),
    [
        (["ACGTTGCAACGTNNACGTAA"] * 9, "DNA"),
        (["acgttgcaacgtnnacgtaa"] * 9, "DNA"),
        (["ACGUUGCAACGUNNACGUAA"] * 9, "RNA"),
        (["the house of our mouse on a hill"] * 9, "text"),
        ([PROTEIN] * 9, None),
        (["GCAGCA"], None),
        (["MKUOMKTAYIAKQRQISFVKSHFSRQ", *[PROTEIN] * 9], None),
    ],
)
def test_what_the_records_look_like_to_a_protein_model(sequences: list[str], kind: str | None) -> None:
    notes = look_at(sequences).notes()
    assert [note.split(" (")[0] for note in notes] == ([f"the records look like {kind}"] if kind else [])


def test_a_mock_reads_whatever_it_is_given() -> None:
    assert look_at(["ACGTTGCAACGTNNACGTAA"] * 9, found=find_model("mock:8")).notes() == ()
