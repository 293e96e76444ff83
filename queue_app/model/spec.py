"""What a model computes: everything in its directory that can change a vector, read once, kept in job.json.

The reader (gpu_tasks.model_directory) makes a specification, and refuses what it cannot express in one; the
worker computes from it and decides nothing anew. Pure data: neither torch nor transformers is known here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter

from queue_app.choices import Alphabet
from queue_app.errors import UsageError
from queue_app.model.written_sequences import AS_THEY_STAND, TokenRules

Family = Literal["esm2", "bert", "mpnet", "mosaic", "t5", "auto", "mock"]
"""How a model is run: natively on packed tokens, by transformers (auto), or by a stand-in."""
Activation = Literal["gelu", "gelu_new", "relu"]
"""Of a feed-forward, as transformers calls it: `gelu_new` is the approximation by tanh."""
Pool = Literal["mean", "cls", "max", "last", "mean_sqrt_len", "weighted_mean"]
"""How the vectors of a row's tokens become one, as sentence-transformers' Pooling does it: `last` is its
lasttoken, `mean_sqrt_len` the sum over the root of the count, `weighted_mean` weighs the token at place i by
i + 1, counted from the row's first token."""
MOCK = re.compile(
    r"mock:(?P<dim>\d{1,5})(?P<options>(,delay_ms=\d{1,6}|,(kill|hang|raise|lost|nan)=[A-Za-z]{1,32})*)"
)
"""A stand-in without weights, see gpu_tasks.models.mock."""
MOCK_LAYERS = 3
MOCK_MAX_LENGTH = 1022
CONTACTS = "contacts"
"""In the place of a pool: how probable it is that two residues touch, from the attention maps of an ESM-2."""
CONCATENATED = "+"
"""Joins the pools of a model whose one vector holds several, as in `cls+mean`."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of the directory that counts. `digest` is the xxh3-128 (hex) of its bytes."""

    name: str  # relative to the directory, with forward slashes
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """The transformer. `folder` is where it lies in the directory ("" for the directory itself).

    `weights` are its safetensors in the order in which they are read. `max_positions` is the longest segment,
    special tokens included, that has positions; None: no end (rotary, ALiBi, relative). `first_position` is
    the row of the position table that a segment's first token takes. `token_type` is that of all tokens.
    The rest is what the native families compute with; families run by transformers read config.json, whose
    digest is held.
    """

    folder: str
    model_type: str
    weights: tuple[str, ...]
    hidden_size: int
    num_layers: int
    vocab_size: int
    max_positions: int | None
    num_heads: int = 0
    intermediate_size: int = 0
    layer_norm_eps: float = 1e-12
    num_positions: int = 0  # rows of the position table
    first_position: int = 0
    num_token_types: int = 0
    token_type: int = 0
    token_dropout: bool = False
    learned_positions: bool = False  # of ESM-1b and ESM-1v, in the place of rotary ones
    norm_before: bool = False  # a layer norm on the embeddings, as ESM-1b has
    head_dim: int = 0  # 0: hidden_size / num_heads
    activation: Activation = "gelu"
    gated: bool = False
    num_buckets: int = 0  # of distances that share a bias of the attention
    farthest: int = 0  # distance from which all share a bucket


@dataclass(frozen=True, slots=True)
class TokensSpec:
    """How a sequence becomes ids.

    kind:
        letters: `letters[i]` has the id `ids[i]`, all others `unknown`; no tokenizer is asked, and the rules
            are in the table already. With `fuse_unknown` neighbouring unknown letters are one token.
        fast: through the tokenizers library, from tokenizer.json as kept with the job; `digest` is the
            xxh3-128 (hex) of that text.
        slow: through transformers, which has no fast one, from the directory.
    `prefix` and `suffix` are the special tokens around every segment; `unknown` is what stands for what the
    tokenizer does not know, None where it knows everything. With `lower_case` the text is lowered first. With
    `cuts_the_begin` the tokenizer shortens a text at its begin.
    """

    kind: Literal["letters", "fast", "slow"]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    unknown: int | None = None
    rules: TokenRules = AS_THEY_STAND
    letters: str = ""
    ids: tuple[int, ...] = ()
    fuse_unknown: bool = False
    cuts_the_begin: bool = False
    lower_case: bool = False
    digest: str = ""


@dataclass(frozen=True, slots=True)
class DenseSpec:
    """A linear layer behind the pooling: `activation(x W^T + b)`, plus x (through a second matrix where the
    widths differ) with `residual`. `activation` is the name of a class in torch.nn. Weights lie in `file`."""

    kind: Literal["dense"]
    inputs: int
    outputs: int
    biased: bool
    activation: str
    residual: bool
    file: str


@dataclass(frozen=True, slots=True)
class LayerNormSpec:
    """torch.nn.LayerNorm over the vector, its weights in `file`; eps is 1e-5."""

    kind: Literal["layer_norm"]
    dim: int
    file: str


@dataclass(frozen=True, slots=True)
class NormalizeSpec:
    """To unit length."""

    kind: Literal["normalize"]


@dataclass(frozen=True, slots=True)
class TruncateSpec:
    """The first `dim` numbers of the vector."""

    kind: Literal["truncate"]
    dim: int


HeadModule = DenseSpec | LayerNormSpec | NormalizeSpec | TruncateSpec
"""What is done to a pooled vector, one after the other."""


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """A plain LoRA: `W + scale * B A` for each of these weights, merged when the model is loaded."""

    file: str
    scales: tuple[tuple[str, float], ...]  # by the weight's name in the model
    names: tuple[tuple[str, str], ...]  # by the same: what stands before lora_A in `file`


@dataclass(frozen=True, slots=True)
class PromptSpec:
    """Text that is put before every sequence; `name` where the directory has one for it.

    Without `pooled` its tokens, and the special ones before it, are left out of the pooling.
    """

    text: str
    name: str = ""
    pooled: bool = True


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model directory as it will be computed.

    `digest` is the xxh3-128 (hex) over the names and contents of `files`. `pool` is the model's own pooling,
    one pool or several joined by `+`. With `pool_special` the special tokens are pooled with the rest.
    `max_length` counts the tokens of one segment beside the special ones, where no other limit is asked for.
    `prompts` are those that the directory names; without `prompt_pooled` no prompt's tokens are pooled.
    `revision` is the commit of a hub model. With `packs` a model of transformers may be run on packed tokens,
    where the worker finds that right; jobs of before have none, and go on as they were begun.
    """

    name: str
    path: str
    family: Family
    digest: str
    num_parameters: int
    alphabet: Alphabet
    max_length: int
    pool: str
    encoder: EncoderSpec
    tokens: TokensSpec
    pool_special: bool = False
    head: tuple[HeadModule, ...] = ()
    prompt: PromptSpec | None = None
    prompt_pooled: bool = True
    prompts: tuple[tuple[str, str], ...] = ()
    adapter: AdapterSpec | None = None
    files: tuple[ModelFile, ...] = ()
    stored_dtype: str = "float32"
    revision: str = ""
    packs: bool = False

    @property
    def num_layers(self) -> int:
        return self.encoder.num_layers

    @property
    def max_positions(self) -> int | None:
        return self.encoder.max_positions

    @property
    def num_special(self) -> int:
        """Special tokens around a segment."""
        return len(self.tokens.prefix) + len(self.tokens.suffix)

    @property
    def is_read_by_letters(self) -> bool:
        """True when each letter of a sequence is one token; neighbouring unknown ones may be one."""
        return self.tokens.kind == "letters" and self.prompt is None

    @property
    def foreign_prompt(self) -> bool:
        """True when its prompt is none that a table of letters could read as the tokenizer would.

        Only letters of the table, before sequences that are given as they stand, become the same tokens.
        """
        if self.prompt is None or self.tokens.kind != "letters" or self.family == "mock":
            return False
        rules = self.tokens.rules
        return rules.changes or bool(rules.before) or not set(self.prompt.text) <= set(self.tokens.letters)

    @property
    def normalize(self) -> bool:
        """True when vectors are brought to unit length."""
        return any(isinstance(module, NormalizeSpec) for module in self.head)

    @property
    def dim(self) -> int:
        """Numbers of the vector that the model's own pooling gives."""
        return self.vector_dim(self.pool)

    def vector_dim(self, pool: str) -> int:
        """Numbers of one vector of this pool: `none` keeps the tokens' vectors as the encoder made them, and
        of contacts each pair of residues has one number.

        Raises:
            UsageError: the head does not fit behind this pool.
        """
        if pool == "none":
            return self.encoder.hidden_size
        if pool == CONTACTS:
            return 1
        dim = self.encoder.hidden_size * (pool.count(CONCATENATED) + 1)
        for module in self.head:
            dim = _width_behind(module, dim, self.name, pool)
        return dim

    def identity(self) -> tuple[object, ...]:
        """All that makes its vectors what they are: equal identities, equal vectors."""
        return (
            self.digest, self.family, self.encoder, self.tokens, self.pool_special, self.head,
            self.prompt and (self.prompt.text, self.prompt.pooled), self.adapter,
            *(("packs",) if self.packs else ()),
        )  # fmt: skip


def _width_behind(module: HeadModule, dim: int, name: str, pool: str) -> int:
    wanted = {DenseSpec: "inputs", LayerNormSpec: "dim"}.get(type(module))
    if wanted and getattr(module, wanted) != dim:
        raise UsageError(
            f"--pool {pool}: {name} has a {module.kind} module behind its pooling that takes "
            f"{getattr(module, wanted)} numbers, not {dim}; leave --pool to the model"
        )
    if isinstance(module, DenseSpec):
        return module.outputs
    return min(module.dim, dim) if isinstance(module, TruncateSpec) else dim


@dataclass(frozen=True, slots=True)
class FoundModel:
    """What a directory says, and its tokenizer (tokenizers' JSON) where the job is to keep one."""

    spec: ModelSpec
    tokenizer: str | None = None


_SPEC = TypeAdapter(ModelSpec)


def parse_spec(fields: Mapping[str, Any]) -> ModelSpec:
    """A specification from its fields as JSON has them. Raises pydantic's ValidationError for others."""
    return _SPEC.validate_python(fields)
