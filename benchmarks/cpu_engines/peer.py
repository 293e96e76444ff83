"""One of the other engines, in their environment: reads requests as JSON lines, and answers with seconds.

    python peer.py ENGINE MODEL_DIRECTORY KIND CALIBRATION

KIND is `texts` or `proteins`. A request names a file with sequences, and one for the vectors. It imports
nothing of this checkout, whose packages its environment does not have.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

NUM_THREADS = 2
ROWS = 32
TOKENS = 1024
CALIBRATION = 200
Embed = Callable[[Sequence[str]], Any]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    torch.set_num_threads(NUM_THREADS)
    engine, model, kind, calibration = sys.argv[1:]
    embed = (texts if kind == "texts" else proteins)(engine, model, read(calibration))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        sequences = read(request["sequences"])
        started = time.perf_counter()
        vectors = embed(sequences)
        seconds = time.perf_counter() - started
        np.save(request["vectors"], vectors)
        print(json.dumps(seconds), file=answers, flush=True)


def read(path: str) -> list[str]:
    sequences: list[str] = json.loads(Path(path).read_text(encoding="utf-8"))
    return sequences


# ---- engines


def openvino_model(engine: str, model: str, calibration: Sequence[dict[str, Any]]) -> Any:
    """Exported, and held to float32, as it comes, or quantised with these inputs."""
    from optimum.intel import OVModelForFeatureExtraction

    settings = {"INFERENCE_NUM_THREADS": str(NUM_THREADS), "PERFORMANCE_HINT": "LATENCY"}
    if engine == "openvino-float32":
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    made = OVModelForFeatureExtraction.from_pretrained(model, export=True, compile=False, ov_config=settings)
    if engine == "openvino-int8":
        import nncf

        names = {name for each in made.model.inputs for name in each.get_names()}
        known = [{name: row[name] for name in row if name in names} for row in calibration]
        for row in known:
            for name in names - set(row):  # such as token_type_ids
                row[name] = np.zeros_like(row["input_ids"])
        made.model = nncf.quantize(
            made.model, nncf.Dataset(known), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(known)
        )
    made.compile()
    return made


def texts(engine: str, model: str, calibration: Sequence[str]) -> Embed:
    from sentence_transformers import SentenceTransformer

    dtype = torch.bfloat16 if engine == "torch-bfloat16" else torch.float32
    whole = SentenceTransformer(model, device="cpu", model_kwargs={"dtype": dtype})
    rows = 1 if engine == "reference" else ROWS
    if engine.startswith("openvino"):
        inputs = [dict(whole.tokenizer([each], return_tensors="np")) for each in calibration]
        exported = openvino_model(engine, model, inputs)
        whole = SentenceTransformer(model, device="cpu", backend="openvino", model_kwargs={"export": True})
        transformer = whole[0]
        transformer.model = exported

    def embed(sequences: Sequence[str]) -> Any:
        vectors = whole.encode(
            list(sequences), batch_size=rows, show_progress_bar=False, convert_to_tensor=True
        )
        return vectors.float().numpy()

    return embed


def proteins(engine: str, model: str, calibration: Sequence[str]) -> Embed:
    from transformers import EsmModel, EsmTokenizer

    tokenizer = EsmTokenizer.from_pretrained(model)

    def inputs_of(sequences: Sequence[str], tensors: str) -> Any:
        return dict(tokenizer(list(sequences), return_tensors=tensors, padding=True))

    if engine.startswith("openvino"):
        compute = openvino_model(engine, model, [inputs_of([each], "np") for each in calibration])
    else:
        dtype = torch.bfloat16 if engine == "torch-bfloat16" else torch.float32
        compute = EsmModel.from_pretrained(model, dtype=dtype, add_pooling_layer=False).eval()

    @torch.inference_mode()
    def embed(sequences: Sequence[str]) -> Any:
        found: dict[int, Any] = {}
        for rows in batches(engine, sequences):
            inputs = inputs_of([sequences[row] for row in rows], "pt")
            hidden = compute(**inputs).last_hidden_state.float()
            for row, states in zip(rows, hidden, strict=True):
                found[row] = states[1 : len(sequences[row]) + 1].mean(dim=0).numpy()
        return np.stack([found[row] for row in range(len(sequences))])

    return embed


def batches(engine: str, sequences: Sequence[str]) -> list[list[int]]:
    """One by one; by padded tokens, shortest first, as extract.py of fair-esm; or ROWS, as
    sentence-transformers sorts them."""
    order = sorted(range(len(sequences)), key=lambda row: len(sequences[row]))
    if engine == "reference":
        return [[row] for row in order]
    if engine != "extract":
        order.reverse()
        return [order[first : first + ROWS] for first in range(0, len(order), ROWS)]
    made: list[list[int]] = []
    for row in order:
        if made and (len(sequences[row]) + 1) * (len(made[-1]) + 1) <= TOKENS:
            made[-1].append(row)
        else:
            made.append([row])
    return made


if __name__ == "__main__":
    main()
