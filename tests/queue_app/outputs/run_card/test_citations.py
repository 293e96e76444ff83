"""What is cited, as text and as BibTeX, and Holdfast itself as CITATION.cff has it."""

import re
import tomllib
from collections import Counter
from dataclasses import replace

import pytest
import yaml

from queue_app.model.spec import AdapterSpec, ModelSpec
from queue_app.outputs.run_card.citations import citations_of, cited, software_of
from queue_app.outputs.run_card.model_name import name_of
from queue_app.outputs.run_card.publications import PUBLICATIONS, holdfast
from tests.queue_app.outputs.run_card.test_methods_section import ESM2
from tests.support import ROOT

VERSIONS = {"holdfast": "0.1.0", "torch": "2.13.0", "transformers": "5.9.0"}


def keys_of(model: ModelSpec) -> list[str]:
    return [each.key for each in citations_of(model, name_of(model), VERSIONS)]


def test_the_model_holdfast_and_what_computed_are_cited() -> None:
    assert keys_of(ESM2) == ["lin2023esm2", "holdfast", "paszke2019pytorch"]
    lora = AdapterSpec("adapter_model.safetensors", (), ())
    assert keys_of(replace(ESM2, adapter=lora)) == [
        "lin2023esm2",
        "hu2022lora",
        "holdfast",
        "paszke2019pytorch",
    ]
    contacts = citations_of(ESM2, name_of(ESM2), VERSIONS, has_contacts=True)
    assert [each.key for each in contacts] == [
        "lin2023esm2",
        "rao2021contacts",
        "holdfast",
        "paszke2019pytorch",
    ]
    assert keys_of(replace(ESM2, family="auto"))[-2:] == ["paszke2019pytorch", "wolf2020transformers"]


def test_software_is_named_with_its_version_and_publication() -> None:
    auto = replace(ESM2, family="auto")
    assert software_of(auto, VERSIONS) == (
        "Holdfast 0.1.0, PyTorch 2.13.0 (Paszke et al., 2019) and transformers 5.9.0 (Wolf et al., 2020)"
    )
    unknown = {name: VERSIONS[name] for name in ("holdfast", "torch")}
    assert software_of(auto, unknown).endswith("and transformers (Wolf et al., 2020)")


def test_a_reference_is_a_line_of_a_list() -> None:
    assert PUBLICATIONS["lin2023esm2"].reference() == (
        "Lin, Z.; Akin, H.; Rao, R.; Hie, B.; Zhu, Z.; Lu, W.; et al. (2023). Evolutionary-scale prediction "
        "of atomic-level protein structure with a language model. Science 379(6637), 1123-1130. "
        "doi:10.1126/science.ade2574."
    )
    assert cited(["reimers2019sbert", "wang2020minilm"]) == "Reimers and Gurevych, 2019; Wang et al., 2020"
    assert cited(["zhou2024dnabert2", "zhou2024dnaberts"]) == (
        "Zhou et al., 2024, DNABERT-2; Zhou et al., 2024, DNABERT-S"
    )


def test_bibtex_has_every_author() -> None:
    names = "Heinzinger, M.; Weissenow, K.; Sanchez, J. G.; Henkel, A.; Mirdita, M.; Steinegger, M.; Rost, B."
    assert PUBLICATIONS["heinzinger2024prostt5"].bibtex("heinzinger2024prostt5").splitlines() == [
        "@article{heinzinger2024prostt5,",
        f"  author = {{{names.replace('; ', ' and ')}}},",
        "  title = {{Bilingual language model for protein sequence and structure}},",
        "  journal = {NAR Genomics and Bioinformatics},",
        "  volume = {6},",
        "  number = {4},",
        "  pages = {lqae150},",
        "  year = {2024},",
        "  doi = {10.1093/nargab/lqae150},",
        "}",
    ]


@pytest.mark.parametrize("key", PUBLICATIONS)
def test_every_publication_can_be_found(key: str) -> None:
    """By a DOI, a number of arXiv or an address; its key begins as its first author is called."""
    found = PUBLICATIONS[key]
    assert found.doi or found.arxiv or found.url
    assert re.fullmatch(r"(10\.\d{4,}/\S+)?", found.doi)
    assert re.fullmatch(r"(\d{4}\.\d{5})?", found.arxiv)
    first = re.sub(r"[^a-z]", "", found.in_text().lower())
    year = str(found.year)
    assert first.startswith(key.partition(year)[0])
    assert year in key
    entry = found.bibtex(key)
    assert entry.count("{") == entry.count("}")


def test_no_publication_is_there_twice() -> None:
    places = [each.doi or each.arxiv or each.url for each in PUBLICATIONS.values()]
    assert max(Counter(places).values()) == 1


def test_holdfast_is_cited_as_its_citation_file_says() -> None:
    """CITATION.cff: https://github.com/citation-file-format/citation-file-format, schema 1.2.0."""
    told = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = holdfast(project["version"])
    assert told.keys() >= {"cff-version", "message", "title", "authors"}
    assert (told["cff-version"], told["type"]) == ("1.2.0", "software")
    assert str(told["version"]) == project["version"]
    assert told["license"] == project["license"]
    assert (told["title"], [each["name"] for each in told["authors"]]) == (own.title, [own.authors])
    assert own.reference() == f"{own.authors}. {own.title}. Version {project['version']}."
