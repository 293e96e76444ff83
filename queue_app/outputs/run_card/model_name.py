"""What a job's model is called, and on what evidence.

A directory is called what whoever made it liked, so its name says nothing. A model has its published name
where a hub id says it and its shapes agree, or where its weights are the published ones, byte for byte. Of
any other it is told which published model's shapes it has, or which architecture: nothing is guessed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from queue_app.model.spec import ModelSpec
from queue_app.model.wording import is_esm2
from queue_app.outputs.run_card.known_models import ARCHITECTURES, PUBLISHED, Published
from queue_app.wording import count, listed

Evidence = Literal["hub id", "weights", "shapes", "architecture", "none"]
KINDS = {
    "protein": "protein language model",
    "dna": "DNA language model",
    "rna": "RNA language model",
    "text": "text embedding model",
}
STAND_IN = "a stand-in without weights, whose vectors mean nothing"


@dataclass(frozen=True, slots=True)
class ModelName:
    """`name` as people say it; empty where the model is none that is known. `cites` are keys of
    PUBLICATIONS: for `shapes` and `architecture` those of what it is like."""

    name: str
    evidence: Evidence
    cites: tuple[str, ...] = ()
    size: str = ""

    @property
    def is_known(self) -> bool:
        """True where the weights are those of the publications."""
        return self.evidence in ("hub id", "weights")


def name_of(model: ModelSpec) -> ModelName:
    if model.family == "mock":
        return ModelName(model.name, "none")
    return _by_hub_id(model) or _by_weights(model) or _by_shapes(model) or _by_architecture(model)


def _by_hub_id(model: ModelSpec) -> ModelName | None:
    """The first row of that id decides: with other shapes it is something else under its name."""
    row, name = next(((row, name) for row in PUBLISHED if (name := row.name_by_hub_id(model))), (None, ""))
    return ModelName(name, "hub id", row.cites, row.size) if row and row.has_shape_of(model) else None


def _by_weights(model: ModelSpec) -> ModelName | None:
    found = (row for row in PUBLISHED if row.weights and row.is_by_weights(model))
    return next((ModelName(row.name, "weights", row.cites, row.size) for row in found), None)


def _by_shapes(model: ModelSpec) -> ModelName | None:
    """Of models of texts this would say little: many have the shapes of one another."""
    rows = [row for row in PUBLISHED if row.shape.layers and row.has_shape_of(model)]
    if not rows or model.alphabet == "text":
        return None
    cites = dict.fromkeys(key for row in rows for key in row.cites)
    return ModelName(_alternatives([_sized(row) for row in rows]), "shapes", tuple(cites))


def _by_architecture(model: ModelSpec) -> ModelName:
    if is_esm2(model):
        return ModelName("ESM-2", "architecture", ("lin2023esm2",))
    if model.family == "mosaic":
        return ModelName("MosaicBERT", "architecture")
    name, *cites = ARCHITECTURES.get(model.encoder.model_type, (model.encoder.model_type,))
    return ModelName(name, "architecture", tuple(cites))


def _sized(row: Published) -> str:
    return f"{row.name} {row.size}".strip()


def _alternatives(names: Sequence[str]) -> str:
    return listed(list(dict.fromkeys(names))).replace(" and ", " or ")


# ---- in words


def place_of(model: ModelSpec) -> str:
    """`facebook/esm2_t6_8M_UR50D`, or `directory "esm2"`."""
    return model.name if "/" in model.name else f'directory "{model.name}"'


def size_of(model: ModelSpec, named: ModelName) -> str:
    """`650M parameters, 33 layers`."""
    parameters = named.size or _short(model.num_parameters)
    return f"{parameters} parameters, {count(model.num_layers, 'layer')}"


def _short(number: int) -> str:
    """`22.7M`, `3.0B`."""
    return f"{number / 1e9:.1f}B" if number >= 1e9 else f"{number / 1e6:.1f}M"


def title_of(model: ModelSpec, named: ModelName) -> str:
    """`ESM-2 (650M parameters, 33 layers), facebook/esm2_t33_650M_UR50D`."""
    if named.evidence == "none":
        return f"{model.name}, {STAND_IN}"
    what = {"shapes": "a model of the shapes of {}", "architecture": "a model of the {} architecture"}
    adapted = " with a LoRA adapter merged" if model.adapter else ""
    called = what.get(named.evidence, "{}").format(named.name)
    return f"{called} ({size_of(model, named)}){adapted}, {place_of(model)}"
