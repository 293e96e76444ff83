"""What a run card cites: the model's publications, Holdfast, and the software that computed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from queue_app.model.spec import ModelSpec
from queue_app.outputs.run_card.model_name import ModelName
from queue_app.outputs.run_card.publication import Publication
from queue_app.outputs.run_card.publications import PUBLICATIONS, holdfast
from queue_app.wording import listed


@dataclass(frozen=True, slots=True)
class Citation:
    """A publication under its BibTeX key."""

    key: str
    publication: Publication

    @property
    def reference(self) -> str:
        """The line of a list of references."""
        return self.publication.reference()

    @property
    def bibtex(self) -> str:
        """Its BibTeX entry."""
        return self.publication.bibtex(self.key)


def citations_of(
    model: ModelSpec, named: ModelName, versions: Mapping[str, str], *, has_contacts: bool = False
) -> Sequence[Citation]:
    """All of them: for the model, the adapter and the method of contacts, then for the software."""
    keys = [*named.cites, *(["hu2022lora"] if model.adapter else [])]
    keys += ["rao2021contacts"] if has_contacts else []
    return [
        *(Citation(key, PUBLICATIONS[key]) for key in keys),
        Citation("holdfast", holdfast(versions["holdfast"])),
        *(Citation(key, PUBLICATIONS[key]) for key in _libraries(model)),
    ]


def cited(keys: Sequence[str]) -> str:
    """`Lin et al., 2023`, of several `Reimers and Gurevych, 2019; Wang et al., 2020`.

    Two that would read the same are told apart by their titles' first words.
    """
    found = [PUBLICATIONS[key] for key in keys]
    times = Counter(each.in_text() for each in found)
    return "; ".join(
        each.in_text() if times[each.in_text()] == 1 else f"{each.in_text()}, {each.short_title()}"
        for each in found
    )


def software_of(model: ModelSpec, versions: Mapping[str, str]) -> str:
    """`Holdfast 0.1.0 and PyTorch 2.13 (Paszke et al., 2019)`."""
    return listed(list(_software(model, versions)))


def _software(model: ModelSpec, versions: Mapping[str, str]) -> Iterator[str]:
    yield f"Holdfast {versions['holdfast']}"
    names = {"paszke2019pytorch": ("PyTorch", "torch"), "wolf2020transformers": ("transformers",) * 2}
    for key in _libraries(model):
        name, package = names[key]
        yield f"{' '.join(filter(None, [name, versions.get(package, '')]))} ({cited([key])})"


def _libraries(model: ModelSpec) -> Iterator[str]:
    yield "paszke2019pytorch"
    if model.family == "auto":
        yield "wolf2020transformers"
