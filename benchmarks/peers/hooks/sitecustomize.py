"""Watches the forward pass of every system alike, and does harm there: neither product nor peer is changed.

Python imports this module at its start from PYTHONPATH. Rows are told apart by their tokens. Before each
pass a line `<seconds> <pid> <ordinals>` is appended to PEERS_LOG; a pass that holds PEERS_POISON kills its
process; the row PEERS_NAN comes out as NaN. Holdfast packs rows end to end, transformers pads them.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import cache, wraps
from itertools import pairwise
from types import ModuleType
from typing import Any

from tests.support.after_import import change_after_import

LOG = os.environ.get("PEERS_LOG", "")
POISON = int(os.environ.get("PEERS_POISON") or -1)
NAN = int(os.environ.get("PEERS_NAN") or -1)
UNKNOWN = -2
"""Such as the text that a model's loader tries out."""


@cache
def ordinals_by_tokens() -> dict[tuple[int, ...], int]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(os.environ["PEERS_TOKENIZER"])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open(os.environ["PEERS_INPUT"]) as file:  # noqa: PTH123 - early and quick
        texts = [json.loads(line)["text"] for line in file]
    return {tuple(row.ids): ordinal for ordinal, row in enumerate(tokenizer.encode_batch(texts))}


def begin(rows: Sequence[Sequence[int]]) -> list[int]:
    """Note that these rows are about to be computed; answers their ordinals."""
    known = ordinals_by_tokens()
    ordinals = [known.get(tuple(row), UNKNOWN) for row in rows]
    line = f"{time.monotonic():.3f} {os.getpid()} {','.join(map(str, ordinals))}\n"
    log = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(log, line.encode())
    os.close(log)
    if POISON in ordinals:
        os.kill(os.getpid(), signal.SIGKILL)
    return ordinals


def watch_holdfast(module: ModuleType) -> None:
    forward = module.Bert.__call__

    def watched(self: Any, packed: Any, layers: Any) -> Any:
        tokens, bounds = packed.input_ids.tolist(), packed.cu_seqlens.tolist()
        ends = list(pairwise(bounds))
        ordinals = begin([tokens[first:last] for first, last in ends])
        states = forward(self, packed, layers)
        for ordinal, (first, last) in zip(ordinals, ends, strict=True):
            if ordinal == NAN:
                for hidden in states:
                    hidden[first:last] = float("nan")
        return states

    module.Bert.__call__ = watched


def watch_transformers(module: ModuleType) -> None:
    forward = module.BertModel.forward

    @wraps(forward)
    def watched(self: Any, *arguments: Any, **options: Any) -> Any:
        tokens, masks = options["input_ids"].tolist(), options["attention_mask"].tolist()
        padded = [list(zip(*row, strict=True)) for row in zip(tokens, masks, strict=True)]
        ordinals = begin([[token for token, kept in row if kept] for row in padded])
        output = forward(self, *arguments, **options)
        for place, ordinal in enumerate(ordinals):
            if ordinal == NAN:
                output.last_hidden_state[place] = float("nan")
        return output

    module.BertModel.forward = watched


AFTER_IMPORT: dict[str, Callable[[ModuleType], None]] = {
    "gpu_tasks.models.bert": watch_holdfast,
    "transformers.models.bert.modeling_bert": watch_transformers,
}


if LOG:
    change_after_import(AFTER_IMPORT)
