"""What a user asks of a model beside what its directory says: applied, or refused by the option's name."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from transformers import AutoTokenizer

from gpu_tasks.errors import UnsupportedModel
from gpu_tasks.model_directory.reader import read_model
from gpu_tasks.model_directory.token_rules import NAMES, find_row, vocabulary
from gpu_tasks.models.files import model_files
from gpu_tasks.models.tokens import load_tokens
from queue_app.choices import RuleName
from queue_app.errors import UsageError
from queue_app.ingest.model_options import configured, start_finding_requested
from queue_app.ingest.request import EmbedRequest
from queue_app.model.reader import find_model
from queue_app.model.spec import ModelSpec, NormalizeSpec, PromptSpec, TruncateSpec
from queue_app.model.wording import described_head, model_differences
from queue_app.model.written_sequences import TokenRules
from tests.support.model_directories import save_esm2
from tests.support.small_models import DIM, save_sentences, save_small_bert

PROMPTS = {"prompts": {"query": "query: ", "empty": ""}, "default_prompt_name": "query"}
UNIT, CUT = NormalizeSpec("normalize"), TruncateSpec("truncate", 3)


def request_for(model: str = "m", **asked: Any) -> EmbedRequest:
    return EmbedRequest(inputs=[], model=model, output=Path("out.npy"), **asked)


def read(directory: Path) -> ModelSpec:
    return read_model(directory).spec


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return read(save_small_bert(tmp_path_factory.mktemp("plain") / "m"))


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return read(save_sentences(tmp_path_factory.mktemp("prompted") / "m", "Normalize", settings=PROMPTS))


@pytest.fixture(scope="module")
def residues(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    return read(save_esm2(tmp_path_factory.mktemp("residues") / "m"))


# ---- names


def test_the_names_of_rules_are_those_of_the_table() -> None:
    assert sorted(get_args(RuleName)) == sorted(NAMES)


def test_what_is_said_to_be_text_is_given_as_it_stands_unless_rules_are_named() -> None:
    assert request_for(alphabet="text").token_rules == "plain"
    assert request_for(alphabet="text", rules="protbert").token_rules == "protbert"
    assert request_for(alphabet="protein").token_rules == "auto"


# ---- prompts


def test_nothing_asked_for_changes_nothing(prompted: ModelSpec) -> None:
    assert configured(prompted, request_for()) == prompted
    assert prompted.prompt == PromptSpec("query: ", "query")


@pytest.mark.parametrize(
    ("asked", "prompt"),
    [
        ({"prompt": "passage: "}, PromptSpec("passage: ")),
        ({"prompt": ""}, None),
        ({"prompt_name": "query"}, PromptSpec("query: ", "query")),
        ({"prompt_name": "empty"}, None),
    ],
    ids=str,
)
def test_a_prompt_that_is_asked_for_takes_the_place_of_the_models_own(
    prompted: ModelSpec, asked: dict[str, Any], prompt: PromptSpec | None
) -> None:
    assert configured(prompted, request_for(**asked)).prompt == prompt


def test_whether_a_prompt_is_pooled_is_the_directorys_to_say(prompted: ModelSpec) -> None:
    left_out = replace(prompted, prompt_pooled=False)
    assert configured(left_out, request_for(prompt="passage: ")).prompt == PromptSpec(
        "passage: ", pooled=False
    )


def test_a_prompt_changes_what_the_vectors_are(prompted: ModelSpec) -> None:
    other = configured(prompted, request_for(prompt="passage: "))
    assert other.identity() != prompted.identity()
    assert list(model_differences(prompted, other)) == [("prompt", "'query: '", "'passage: '")]


@pytest.mark.parametrize("prompt", ["query: ", "M K ", "<mask>", "mk", "J", "\n"])
def test_a_prompt_that_a_table_of_letters_would_misread_is_refused(residues: ModelSpec, prompt: str) -> None:
    """The tokenizer makes an unknown word of one, a token of another, and nothing of the blanks."""
    with pytest.raises(UsageError, match=r"^--prompt: .*letter by letter.*--rules plain"):
        configured(residues, request_for(prompt=prompt))
    named = replace(residues, prompt=PromptSpec(prompt, "query"))
    with pytest.raises(UsageError, match="prompt 'query' of its directory"):
        configured(named, request_for())
    with pytest.raises(UnsupportedModel, match="table of letters"):
        load_tokens(named, None, model_files(named))
    assert configured(named, request_for(prompt="")).prompt is None


def test_a_prompt_of_residues_is_read_as_the_tokenizer_reads_it(residues: ModelSpec) -> None:
    found = configured(residues, request_for(prompt="GGS"))
    (ids,) = load_tokens(found, None, model_files(found)).tokenize(["MKT"])
    tokenizer = AutoTokenizer.from_pretrained(residues.path)
    assert ids.tolist() == tokenizer("GGSMKT", add_special_tokens=False)["input_ids"]


def test_no_prompt_stands_before_residues_that_are_written_with_blanks(residues: ModelSpec) -> None:
    blanks = replace(residues, tokens=replace(residues.tokens, rules=TokenRules("protbert", between=" ")))
    with pytest.raises(UsageError, match="letter by letter"):
        configured(blanks, request_for(prompt="GGS"))


# ---- dimensions and unit length


@pytest.mark.parametrize(
    ("head", "asked", "left"),
    [
        ((), {"truncate_dim": 3}, (CUT,)),
        ((UNIT,), {"truncate_dim": 3}, (UNIT, CUT, UNIT)),
        ((TruncateSpec("truncate", 5),), {"truncate_dim": 3}, (CUT,)),
        ((UNIT, TruncateSpec("truncate", 2), UNIT), {"truncate_dim": 3}, (UNIT, CUT, UNIT)),
        ((), {"normalize": True}, (UNIT,)),
        ((UNIT,), {"normalize": True}, (UNIT,)),
        ((UNIT, CUT, UNIT), {"normalize": False}, (CUT,)),
        ((), {"truncate_dim": 3, "normalize": True}, (CUT, UNIT)),
        ((UNIT,), {"truncate_dim": 3, "normalize": False}, (CUT,)),
        ((UNIT,), {"truncate_dim": DIM}, (UNIT, TruncateSpec("truncate", DIM), UNIT)),
    ],
    ids=str,
)
def test_a_cut_and_unit_length_are_applied_behind_everything_else(
    plain: ModelSpec, head: tuple[Any, ...], asked: dict[str, Any], left: tuple[Any, ...]
) -> None:
    found = configured(replace(plain, head=head), request_for(**asked))
    assert found.head == left
    assert found.dim == asked.get("truncate_dim", found.dim)


def test_what_stands_behind_the_pooling_is_told(plain: ModelSpec) -> None:
    assert described_head(plain) == "nothing"
    assert described_head(replace(plain, head=(UNIT, CUT))) == "normalize, truncate to 3"


# ---- refusals


def test_a_prompts_name_for_a_model_without_prompts_is_refused_with_the_way_out(plain: ModelSpec) -> None:
    said = "--prompt-name query: m names no prompts; --prompt takes any text"
    with pytest.raises(UsageError, match=f"^{said}$"):
        configured(plain, request_for(prompt_name="query"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prompt": "a", "prompt_name": "query"}, "--prompt and --prompt-name: give one of them"),
        (
            {"prompt_name": "passage"},
            "--prompt-name passage: m names 'query', 'empty'; --prompt takes any text",
        ),
        ({"truncate_dim": 9}, "--truncate-dim 9: m has vectors of 8 numbers"),
        ({"truncate_dim": 3, "pool": "none"}, "--truncate-dim: changes the vector of a sequence"),
        ({"normalize": True, "pool": "none"}, "--normalize: changes the vector of a sequence"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_the_options_name(
    prompted: ModelSpec, asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=f"^{said}"):
        configured(prompted, request_for(**asked))


@pytest.mark.parametrize(
    "asked",
    [{"prompt": "a"}, {"prompt_name": "a"}, {"truncate_dim": 3}, {"normalize": False}, {"revision": "main"}],
    ids=str,
)
def test_of_a_stand_in_nothing_is_asked_that_it_would_ignore(asked: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^--[a-z-]+: mock:8 is a stand-in"):
        start_finding_requested(request_for("mock:8", **asked))()


def test_rules_of_a_stand_in_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^--rules: mock:8 is a stand-in"):
        start_finding_requested(request_for("mock:8", rules="protbert"))()
    assert start_finding_requested(request_for("mock:8", alphabet="text"))().spec == find_model("mock:8").spec


def test_a_pool_that_does_not_fit_the_models_head_is_refused(tmp_path: Path) -> None:
    spec = read(save_sentences(tmp_path / "m", "Dense", pooling={"pooling_mode": "cls"}))
    assert spec.vector_dim("mean") == 5
    with pytest.raises(UsageError, match=r"--pool cls\+mean: m has a dense module .* 8 numbers, not 16"):
        spec.vector_dim("cls+mean")


# ---- rules


@pytest.mark.parametrize(
    ("rules", "words", "alphabet"),
    [
        ("codons", ("ATG", "GCC", "TAA"), "dna"),
        ("codons", ("AUG", "GCC", "UAA"), "rna"),
        ("kmers3", ("AUG", "GCC", "UAA"), "rna"),
        ("kmers3", ("ATG", "GCC", "TAA"), "dna"),
        ("bases", (*"ACGT", "0"), "dna"),
        ("bases", (*"ACGU", "0"), "rna"),
        ("bases", (*"ACGTU", "0"), "dna"),
    ],
    ids=str,
)
def test_rules_that_are_named_read_t_and_u_as_the_vocabulary_writes_them(
    rules: str, words: tuple[str, ...], alphabet: str
) -> None:
    assert find_row(vocabulary("bert", words, ()), rules).alphabet == alphabet
