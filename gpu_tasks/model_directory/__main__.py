"""`python -P -m gpu_tasks.model_directory DIRECTORY NAME RULES REVISION`: what a model directory is, as JSON.

queue_app asks so, as it knows neither torch nor transformers. The answer is `{"spec": …, "tokenizer": …}`, or
`{"error": …}` for a directory that is refused.

Importing torch takes longer than all the rest. Models of the native families are read without it; those that
transformers will compute are loaded for a trial, without their weights.
"""

import importlib.util
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from gpu_tasks.errors import ModelLoadError
from gpu_tasks.model_directory.encoder import may_be_native
from gpu_tasks.model_directory.files import read_heads
from gpu_tasks.model_directory.reader import read_model
from queue_app.model.spec import ModelSpec
from queue_app.shown import visible

WITH_TORCH = "--with-torch"
SAID_MOST = 2_000
"""Characters of a refusal: it may show a value of a file."""


def main(arguments: list[str]) -> None:
    directory, name, rules, revision = arguments[:4]
    hidden = WITH_TORCH not in arguments and may_be_native(Path(directory))
    if hidden:
        _import_transformers_without_torch()
    try:
        found = read_model(Path(directory), name=name, rules=rules, revision=revision)
        if found.spec.family == "auto":
            if hidden:
                os.execv(sys.executable, [*sys.orig_argv, WITH_TORCH])
            _require_loadable(found.spec)
    except (ModelLoadError, ValueError) as error:
        print(json.dumps({"error": visible(str(error), SAID_MOST)}))
        return
    except MemoryError:
        print(json.dumps({"error": f"{directory}: its reader has not the memory that it takes"}))
        return
    print(json.dumps({"spec": asdict(found.spec), "tokenizer": found.tokenizer}))


def _require_loadable(spec: ModelSpec) -> None:
    """transformers alone knows which weights such a model needs, and whether it runs."""
    from gpu_tasks.models.auto import require_loadable
    from gpu_tasks.models.files import model_files

    heads = read_heads(Path(spec.path) / name for name in spec.encoder.weights)
    require_loadable(spec, model_files(spec), {name: head.shape for name, head in heads.items()})


def _import_transformers_without_torch() -> None:
    """transformers looks for torch once, at its import."""
    find_spec = importlib.util.find_spec
    importlib.util.find_spec = lambda name, package=None: (
        None if name == "torch" else find_spec(name, package)
    )
    try:
        import transformers  # noqa: F401
        from transformers import AutoConfig, AutoTokenizer  # noqa: F401
    finally:
        importlib.util.find_spec = find_spec


if __name__ == "__main__":
    main(sys.argv[1:])
