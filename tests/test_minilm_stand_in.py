"""What takes the place of MiniLM's wheel where that is not installed."""

from pathlib import Path

import numpy as np
from sentence_transformers import SentenceTransformer

from gpu_tasks import load_model
from tests.support.minilm import make_stand_in
from tests.support.model_directories import embed

TEXTS = ["a putative kinase", "the red cat, not 9 proteins", "MKTAYIAKQR"]


def test_the_stand_in_is_computed_as_sentence_transformers_does(tmp_path: Path) -> None:
    made = make_stand_in(tmp_path)
    expected = SentenceTransformer(str(made), device="cpu").encode(TEXTS)
    assert expected.shape == (3, 384)
    np.testing.assert_allclose(embed(load_model(str(made)), TEXTS), expected, atol=1e-5)
