"""Whether transformers will load what it is to compute: it alone knows which weights such a model needs.

This needs torch, which reading a directory does not, and is done where nothing is loaded for real afterwards.
"""

from pathlib import Path

from gpu_tasks.model_directory.files import read_heads
from queue_app.model.spec import ModelSpec


def require_loadable(spec: ModelSpec) -> None:
    """Raises ModelLoadError or UnsupportedModel for a model that no worker could load and run."""
    from gpu_tasks.models import auto
    from gpu_tasks.models.files import model_files

    heads = read_heads(Path(spec.path) / name for name in spec.encoder.weights)
    auto.require_loadable(spec, model_files(spec), {name: head.shape for name, head in heads.items()})
