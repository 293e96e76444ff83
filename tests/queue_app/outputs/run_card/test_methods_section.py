"""The paragraph for a Methods section: true for every combination of options."""

from dataclasses import replace
from itertools import product
from typing import Any, get_args

import pytest

from queue_app.choices import Alphabet, Dtype, LongRule
from queue_app.job.spec import Job, Reuse, TwinsFile
from queue_app.model.spec import (
    AdapterSpec,
    DenseSpec,
    EncoderSpec,
    HeadModule,
    LayerNormSpec,
    ModelSpec,
    NormalizeSpec,
    Pool,
    PromptSpec,
    TokensSpec,
    TruncateSpec,
)
from queue_app.model.wording import is_esm2
from queue_app.model.written_sequences import TokenRules
from queue_app.outputs.run_card.methods_section import (
    DTYPES,
    NOUNS,
    OF_WINDOWS,
    POOLED,
    SOURCE_WANTED,
    Counted,
    methods,
)
from queue_app.outputs.run_card.model_name import name_of
from tests.support.jobs_and_inputs import make_job

LETTERS = "LAGVSERTIDPKQNFYMHWCXBUZO.-"
ESM2 = ModelSpec(
    "facebook/esm2_t6_8M_UR50D", "/models/esm2", "esm2", "ef" * 16, 7_511_801, "protein", 1022, "mean",
    EncoderSpec("", "esm", ("model.safetensors",), 320, 6, 33, None, num_heads=20),
    TokensSpec("letters", (0,), (2,), 3, TokenRules("letters"), LETTERS, tuple(range(4, 31))),
)  # fmt: skip
MINILM = ModelSpec(
    "all-MiniLM-L6-v2", "/models/minilm", "bert", "ef" * 16, 22_713_216, "text", 254, "mean",
    EncoderSpec("", "bert", ("model.safetensors",), 384, 6, vocab_size=30_522, max_positions=512),
    TokensSpec("fast", (101,), (102,), 100, digest="cd" * 16),
    pool_special=True, head=(NormalizeSpec("normalize"),),
)  # fmt: skip
COUNTED = Counted(
    num_embedded=20,
    reasons={},
    num_long=0,
    hardware=["1 GPU (NVIDIA H200)"],
    software="Holdfast 0.1.0 and PyTorch 2.13 (Paszke et al., 2019)",
)


def job_of(model: ModelSpec, **options: Any) -> Job:
    job = make_job(num_shards=2, records_per_shard=10)
    named = {"alphabet": model.alphabet, "max_length": model.max_length, "window_overlap": 127, **options}
    return replace(job, model=model, options=replace(job.options, **named))


def told_of(job: Job, counted: Counted) -> str:
    return methods(job, name_of(job.model), counted)


def test_a_paper_can_take_it_as_it_stands() -> None:
    model = replace(ESM2, revision="c731040f")
    assert told_of(job_of(model, dtype="bfloat16"), COUNTED) == (
        "Embeddings were computed with the protein language model ESM-2 (8M parameters, 6 layers; Lin et "
        "al., 2023), facebook/esm2_t6_8M_UR50D on the Hugging Face hub, revision c731040f, using Holdfast "
        "0.1.0 and PyTorch 2.13 (Paszke et al., 2019). All 20 protein sequences from a.fasta were embedded. "
        "Each is represented by a vector of 320 dimensions, the mean of the last layer's hidden states over "
        "its residues, special tokens left out. Vectors were stored as float32. No protein sequence was "
        "longer than the limit of 1,022 residues. Computation was in bfloat16 with pooling in float64 on "
        "1 GPU (NVIDIA H200); what overflowed was computed again in float32. Inputs, model and options "
        "together have the xxh3-128 fingerprint abababababababababababababababab."
    )


def test_a_model_that_was_named_by_its_directory_is_told_to_be_one() -> None:
    """Its name says as much as whoever made the directory wanted."""
    text = told_of(job_of(replace(ESM2, name="esm2_t33_650M_UR50D")), COUNTED)
    assert (
        "a protein language model of the shapes of ESM-2 8M (7.5M parameters, 6 layers; Lin et al., 2023), "
        f'read from the directory "esm2_t33_650M_UR50D" {SOURCE_WANTED}, using Holdfast'
    ) in text


@pytest.mark.parametrize("pool", [*get_args(Pool), "mean,cls,max", "none"])
@pytest.mark.parametrize("layers", [(-1,), (3,), (3, 6)], ids=str)
@pytest.mark.parametrize("model", [ESM2, MINILM], ids=["esm2", "minilm"])
def test_every_combination_of_options_is_told_in_whole_sentences(
    model: ModelSpec, layers: tuple[int, ...], pool: str
) -> None:
    for long, dtype, alphabet, num_long in product(
        get_args(LongRule), get_args(Dtype), get_args(Alphabet), (None, 0, 1, 7)
    ):
        job = job_of(model, pool=pool, layers=layers, long=long, dtype=dtype, alphabet=alphabet)
        text = told_of(job, replace(COUNTED, num_long=num_long))
        assert "'" + pool + "'" not in text
        assert "{" not in text
        assert "  " not in text
        assert text.endswith(".")


def test_no_option_is_without_words() -> None:
    assert set(POOLED) == set(get_args(Pool))
    assert set(OF_WINDOWS) == {*get_args(Pool), "none"}
    assert set(DTYPES) == set(get_args(Dtype))
    assert set(NOUNS) == set(get_args(Alphabet))


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ("mean", "the mean of the last layer's hidden states over its tokens, special tokens included."),
        ("mean", "Vectors were scaled to unit length and stored as float32."),
        ("max", "element-wise maximum"),
        ("cls", "the last layer's hidden state of the first token."),
        ("last", "the last layer's hidden state of the last of its tokens, special"),
    ],
)
def test_a_models_own_pooling_and_scaling_are_told(pool: str, said: str) -> None:
    assert said in told_of(job_of(MINILM, pool=pool), COUNTED)


@pytest.mark.parametrize(
    ("long", "pool", "said"),
    [
        ("window", "mean", "The 3 texts of more than 254 tokens were cut into equally long windows of"),
        ("window", "mean", "that overlap by at least 127, where a token in several of them has its vector"),
        ("window", "last", "from the one in which it lies deepest."),
        ("window", "max", "from the one in which it lies deepest."),
        ("window", "cls", "by at least 127, of whose first tokens the mean was taken, with equal weight."),
        ("truncate", "mean", "The 3 texts of more than 254 tokens were cut off there."),
        ("error", "mean", "The 3 texts of more than 254 tokens were excluded."),
    ],
)  # fmt: skip
def test_what_became_of_long_records_is_told(long: str, pool: str, said: str) -> None:
    assert said in told_of(job_of(MINILM, long=long, pool=pool), replace(COUNTED, num_long=3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": (3,)}, "the mean of the hidden states of layer 3 over its residues"),
        ({"layers": (6,)}, "the mean of the last layer's hidden states over"),
        ({"pool": "mean,cls"}, "by 2 vectors of 320 dimensions each, the mean of the last layer's hidden"),
        ({"pool": "mean,cls"}, "left out and the last layer's hidden state of the first token."),
        ({"layers": (3, 6)}, "over its residues, special tokens left out, of each of the layers 3 and 6."),
        ({"pool": "none"}, "Each residue is represented by the last layer's hidden state, 320 dimensions;"),
        ({"pool": "mean,cls"}, "in which it lies deepest (mean) and of whose first tokens the mean was"),
        ({"pool": "none"}, "where a residue in several of them has its vector from the one in which it lies"),
    ],
)  # fmt: skip
def test_what_was_taken_out_of_the_model_is_told(options: dict[str, Any], said: str) -> None:
    assert said in told_of(job_of(ESM2, **options), replace(COUNTED, num_long=3))


@pytest.mark.parametrize("long", ["truncate", "error"])
def test_contacts_are_told_with_their_method(long: Any) -> None:
    asked: Any = {"pool": "contacts", "layers": (6,), "long": long, "dtype": "bfloat16"}
    text = told_of(job_of(ESM2, **asked), replace(COUNTED, num_long=3))
    assert "Each is represented by a symmetric matrix of the probabilities that two of its residues" in text
    assert "by average product correction" in text
    assert "logistic regression (Rao et al., 2021); special" in text
    assert "in bfloat16 with attention maps in float32 on" in text
    assert "hidden state" not in text
    assert "dimensions" not in text


def test_vectors_that_were_not_computed_for_their_record_are_told() -> None:
    twins, reuse = TwinsFile("00" * 16, 4, 1), Reuse("/data/old.h5", "a", "b", 9)
    text = told_of(replace(job_of(ESM2), twins=twins, reuse=reuse), COUNTED)
    assert "4 records got the vector of another with the same sequence and 9 vectors came from" in text


def test_records_that_were_quarantined_are_told_with_their_reasons() -> None:
    counted = replace(COUNTED, num_embedded=17, reasons={"empty sequence": 2, "illegal letter '4'": 1})
    text = told_of(job_of(ESM2), counted)
    assert (
        "Of 20 protein sequences from a.fasta, 17 were embedded and 3 excluded (2: empty sequence; "
        "1: illegal letter '4')."
    ) in text


def test_full_precision_needs_no_second_computation() -> None:
    text = told_of(job_of(ESM2, dtype="float32"), COUNTED)
    assert "Computation was in single precision (float32) on 1 GPU (NVIDIA H200). Inputs" in text


def test_a_test_model_is_called_one() -> None:
    text = told_of(make_job(num_shards=2, records_per_shard=10), COUNTED)
    assert text.startswith("Vectors were made by mock:8, a test model")
    assert "hidden states" not in text


# ---- which model it is, and what it was given


SAPROT = replace(
    ESM2,
    name="westlake/SaProt",
    tokens=replace(ESM2.tokens, kind="fast", rules=TokenRules("saprot", behind="#")),
)
PROTT5 = replace(
    ESM2, name="Rostlab/prot_t5", family="auto", encoder=replace(ESM2.encoder, model_type="t5"),
    tokens=replace(ESM2.tokens, rules=TokenRules("prott5", (("U", "X"), ("Z", "X")), between=" ")),
)  # fmt: skip
DENSE = DenseSpec("dense", 384, 256, True, "Tanh", False, "2_Dense/model.safetensors")


def test_only_an_esm2_is_called_one() -> None:
    learned = replace(ESM2, encoder=replace(ESM2.encoder, learned_positions=True))
    other_letters = replace(ESM2, tokens=replace(ESM2.tokens, letters=LETTERS[::-1]))
    larger = replace(ESM2, encoder=replace(ESM2.encoder, vocab_size=64))
    run_by_transformers = replace(ESM2, family="auto")
    assert is_esm2(ESM2)
    for model in (SAPROT, PROTT5, MINILM, learned, other_letters, larger, run_by_transformers):
        assert not is_esm2(model)
        assert "ESM-2" not in told_of(job_of(model), COUNTED)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (PROTT5, "For the model the letters U and Z were replaced by X and blanks were put between letters."),
        (SAPROT, "For the model each letter was followed by '#'."),
        (replace(MINILM, prompt=PromptSpec("query: ")), "the prompt 'query: ' was put in front of each."),
        (
            replace(MINILM, prompt=PromptSpec("query: ", pooled=False)),
            "of each, whose tokens were left out of the pooling.",
        ),
        (
            replace(MINILM, tokens=replace(MINILM.tokens, rules=TokenRules("kmers6", kmer=6, between=" "))),
            "For the model sequences were written as 6-mers and blanks were put between 6-mers.",
        ),
        (replace(MINILM, tokens=replace(MINILM.tokens, lower_case=True)), "letters were made small."),
        (replace(MINILM, name="a/b", revision="0a1b2c"), "a/b on the Hugging Face hub, revision 0a1b2c"),
        (
            replace(MINILM, adapter=AdapterSpec("adapter_model.safetensors", (), ())),
            "with a LoRA adapter (Hu et al., 2022) merged into its weights, using Holdfast",
        ),
    ],
)  # fmt: skip
def test_what_the_model_was_given_is_told(model: ModelSpec, said: str) -> None:
    assert said in told_of(job_of(model), COUNTED)


def test_nothing_is_told_of_sequences_that_were_given_as_they_stand() -> None:
    for model in (ESM2, MINILM):
        assert "For the model" not in told_of(job_of(model), COUNTED)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ((), "Vectors were stored as float32."),
        ((DENSE,), "passed through a dense layer (Tanh) to 256 numbers and stored as float32."),
        ((TruncateSpec("truncate", 64),), "Vectors were cut to their first 64 numbers and stored"),
        (
            (LayerNormSpec("layer_norm", 384, "f"), DENSE, NormalizeSpec("normalize")),
            "layer norm, passed through a dense layer (Tanh) to 256 numbers, scaled to unit length and st",
        ),
    ],
    ids=str,
)
def test_what_stands_behind_the_pooling_is_told(head: tuple[HeadModule, ...], said: str) -> None:
    assert said in told_of(job_of(replace(MINILM, head=head)), COUNTED)


def test_the_dimensions_are_those_of_the_stored_vectors() -> None:
    dense = replace(MINILM, head=(DENSE,))
    assert "by a vector of 256 dimensions, made of the mean" in told_of(job_of(dense), COUNTED)
    assert "hidden state, 384 dimensions;" in told_of(job_of(dense, pool="none"), COUNTED)
    joined = told_of(job_of(MINILM, pool="cls+mean"), COUNTED)
    assert "by a vector of 768 dimensions, the concatenation of the last layer's hidden" in joined


def test_a_token_is_called_what_it_stands_for() -> None:
    dna = replace(ESM2, alphabet="dna")
    assert "longer than the limit of 1,022 bases" in told_of(job_of(dna), COUNTED)
    by_tokenizer = replace(ESM2, tokens=replace(ESM2.tokens, kind="fast"))
    assert "longer than the limit of 1,022 tokens" in told_of(job_of(by_tokenizer), COUNTED)
