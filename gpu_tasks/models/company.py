"""Which models may not see other texts in their batch. Torch-free."""

from typing import Literal

Company = Literal["padded", "equal", "alone"]
"""With whom a text is computed: with others that are padded, with others of its length, or with none."""

SEES_THE_BATCH = ("funnel", "mra", "nllb-moe", "nystromformer", "switch_transformers")
"""Model types that cut, hash or route by the length or the content of the whole batch: each text alone."""
UNSTEADY = ("big_bird", "bigbird_pegasus", "reformer", "yoso")
"""Model types that hash by chance, or change for good with a short text: nothing to compare a vector with."""
