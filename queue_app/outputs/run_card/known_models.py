"""The table of published models: by which hub ids they are known, their shapes, and what is cited for them.

To add one: its row, by what its authors say, and its publication in `publications`.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from queue_app.model.spec import ModelSpec
from queue_app.model.wording import is_esm2


@dataclass(frozen=True, slots=True)
class Shape:
    """What config.json and the vocabulary of a model say; 0, "" and None stand for whatever is there."""

    model_type: str
    layers: int = 0
    width: int = 0
    heads: int = 0
    vocabulary: int = 0
    rules: str = ""
    learned_positions: bool | None = None

    def fits(self, model: ModelSpec) -> bool:
        encoder = model.encoder
        pairs = (
            (self.model_type, encoder.model_type),
            (self.layers, encoder.num_layers),
            (self.width, encoder.hidden_size),
            (self.heads, encoder.num_heads),
            (self.vocabulary, encoder.vocab_size),
            (self.rules, model.tokens.rules.name),
        )
        as_learned = self.learned_positions in (None, encoder.learned_positions)
        return as_learned and all(wanted in (0, "", found) for wanted, found in pairs)


@dataclass(frozen=True, slots=True)
class Published:
    """A published model, or those of one pattern of names.

    `hub` is a pattern of hub ids, whose groups `name` may take. `size` is its number of parameters as people
    call it. `weights` is the xxh3-128 of the published file of weights, where it is known.
    """

    name: str
    size: str
    hub: str
    shape: Shape
    cites: tuple[str, ...]
    weights: str = ""

    def name_by_hub_id(self, model: ModelSpec) -> str:
        """Its name, where the model's hub id says it; else nothing."""
        found = re.fullmatch(self.hub, model.name, re.IGNORECASE)
        return found.expand(self.name) if found else ""

    def is_by_weights(self, model: ModelSpec) -> bool:
        """True where the model's weights are the published ones, byte for byte."""
        of_encoder = {str(PurePosixPath(model.encoder.folder) / name) for name in model.encoder.weights}
        digests = [file.digest for file in model.files if file.name in of_encoder]
        return digests == [self.weights] and self.has_shape_of(model)

    def has_shape_of(self, model: ModelSpec) -> bool:
        """ESM-2 is told from its likes by its letters as well."""
        return self.shape.fits(model) and (self.name != "ESM-2" or is_esm2(model))


def _esm2(layers: int, width: int, size: str, heads: int = 20) -> Published:
    hub = rf"facebook/esm2_t{layers}_{size}_UR50D"
    shape = Shape("esm", layers, width, heads, 33, "letters", learned_positions=False)
    return Published("ESM-2", size, hub, shape, ("lin2023esm2",))


def _esm1(name: str, hub: str, cites: str) -> Published:
    shape = Shape("esm", 33, 1280, 20, 33, "letters", learned_positions=True)
    return Published(name, "650M", hub, shape, (cites,))


def _esmc(layers: int, width: int, size: str) -> Published:
    shape = Shape("esmc", layers, width, 0, 64, "letters")
    return Published("ESM-C", size, rf"biohub/ESMC-{size}", shape, ("esm2024cambrian",))


def _t5(name: str, hub: str, vocabulary: int, rules: str, cites: str) -> Published:
    """ProtT5-XL and what descends from it."""
    return Published(name, "", hub, Shape("t5", 24, 1024, 32, vocabulary, rules), (cites,))


def _dnabert(k: int) -> Published:
    shape = Shape("bert", 12, 768, 12, 4**k + 5, f"kmers{k}")
    return Published(f"DNABERT-{k}", "", rf"zhihan1996/DNA_bert_{k}", shape, ("ji2021dnabert",))


def _dnabert2(name: str, hub: str, *cites: str) -> Published:
    return Published(name, "117M", hub, Shape("bert", 12, 768, 12, 4096, "plain"), cites)


def _saprot(layers: int, width: int, size: str) -> Published:
    shape = Shape("esm", layers, width, 20, 446, "saprot")
    return Published("SaProt", size, rf"westlake-repl/SaProt_{size}_(AF2|PDB)", shape, ("su2024saprot",))


def _nucleotide_transformer(layers: int, width: int, size: str) -> Published:
    shape = Shape("esm", layers, width, 20, rules="plain")
    hub = rf"InstaDeepAI/nucleotide-transformer-{re.escape(size)}-[\w-]+"
    return Published("Nucleotide Transformer", size.upper(), hub, shape, ("dallatorre2025nt",))


PUBLISHED = (
    _esm2(6, 320, "8M"),
    _esm2(12, 480, "35M"),
    _esm2(30, 640, "150M"),
    _esm2(33, 1280, "650M"),
    _esm2(36, 2560, "3B", heads=40),
    _esm2(48, 5120, "15B", heads=40),
    _esm1("ESM-1b", r"facebook/esm1b_t33_650M_UR50S", "rives2021esm1b"),
    _esm1("ESM-1v", r"facebook/esm1v_t33_650M_UR90S_[1-5]", "meier2021esm1v"),
    _esmc(30, 960, "300M"),
    _esmc(36, 1152, "600M"),
    _esmc(80, 2560, "6B"),
    _saprot(12, 480, "35M"),
    _saprot(33, 1280, "650M"),
    _t5(
        "ProtT5-XL-UniRef50", r"Rostlab/prot_t5_xl_(half_)?uniref50(-enc)?", 128, "prott5",
        "elnaggar2022prottrans",
    ),
    _t5("ProtT5-XL-BFD", r"Rostlab/prot_t5_xl_bfd", 128, "prott5", "elnaggar2022prottrans"),
    _t5("ProstT5", r"Rostlab/ProstT5(_fp16)?", 150, "prostt5", "heinzinger2024prostt5"),
    Published(
        "ProtBERT", "", r"Rostlab/prot_bert", Shape("bert", 30, 1024, 16, 30, "protbert"),
        ("elnaggar2022prottrans",),
    ),
    Published(
        "ProtBERT-BFD", "", r"Rostlab/prot_bert_bfd", Shape("bert", 30, 1024, 16, 30, "protbert"),
        ("elnaggar2022prottrans",),
    ),
    Published(
        "IgBert", "", r"Exscientia/IgBert(_unpaired)?", Shape("bert", 30, 1024, 16, 30, "protbert"),
        ("kenlay2024igbert",),
    ),
    Published(
        r"Ankh-\1", "", r"ElnaggarLab/ankh-(base|large)", Shape("t5", rules="ankh"), ("elnaggar2023ankh",)
    ),
    Published(
        "AntiBERTa2", "", r"alchemab/antiberta2", Shape("roformer", rules="antiberta2"),
        ("barton2024antiberta2",),
    ),
    Published(
        "AntiBERTa2-CSSP", "", r"alchemab/antiberta2-cssp", Shape("roformer", rules="antiberta2"),
        ("barton2024antiberta2",),
    ),
    _nucleotide_transformer(24, 1280, "500m"),
    _nucleotide_transformer(32, 2560, "2.5b"),
    *map(_dnabert, (3, 4, 5, 6)),
    _dnabert2("DNABERT-2", r"zhihan1996/DNABERT-2-117M", "zhou2024dnabert2"),
    _dnabert2("DNABERT-S", r"zhihan1996/DNABERT-S", "zhou2024dnaberts"),
    Published(
        "all-MiniLM-L6-v2", "", r"sentence-transformers/all-MiniLM-L6-v2", Shape("bert", 6, 384, 12, 30_522),
        ("reimers2019sbert", "wang2020minilm"), weights="340d94e989ceea9234cb29e344fee166",
    ),
    Published(
        r"\1", "", r"sentence-transformers/([\w-]*MiniLM[\w-]*)", Shape("bert"),
        ("reimers2019sbert", "wang2020minilm"),
    ),
    Published(
        r"\1", "", r"sentence-transformers/((?!.*multilingual)[\w-]*mpnet[\w-]*)", Shape("mpnet"),
        ("reimers2019sbert", "song2020mpnet"),
    ),
    Published(
        r"\1", "", r"sentence-transformers/((?:all|multi-qa|paraphrase|msmarco|nli|stsb)-[\w.-]+)", Shape(""),
        ("reimers2019sbert",),
    ),
    Published(
        r"\1", "", r"intfloat/(multilingual-e5-(?:small|base|large|large-instruct))", Shape(""),
        ("wang2024me5",),
    ),
    Published(r"\1", "", r"intfloat/(e5-(?:small|base|large)(?:-v2)?)", Shape("bert"), ("wang2022e5",)),
    Published(
        r"\1", "", r"BAAI/(bge-(?:small|base|large)-(?:en|zh)(?:-v1\.5)?)", Shape("bert"), ("xiao2023bge",)
    ),
    Published(
        r"\1", "", r"google-bert/(bert-(?:base|large)-(?:un)?cased)", Shape("bert"), ("devlin2019bert",)
    ),
    Published(r"\1", "", r"FacebookAI/(roberta-(?:base|large))", Shape("roberta"), ("liu2019roberta",)),
    Published(
        r"\1", "", r"FacebookAI/(xlm-roberta-(?:base|large))", Shape("xlm-roberta"), ("conneau2020xlmr",)
    ),
    Published(r"\1", "", r"almanach/(camembert-base)", Shape("camembert"), ("martin2020camembert",)),
    Published(
        r"\1", "", r"answerdotai/(ModernBERT-(?:base|large))", Shape("modernbert"), ("warner2024modernbert",)
    ),
)  # fmt: skip
"""The first that fits counts."""

ARCHITECTURES = {
    "bert": ("BERT", "devlin2019bert"),
    "roberta": ("RoBERTa", "liu2019roberta"),
    "xlm-roberta": ("XLM-RoBERTa", "conneau2020xlmr"),
    "camembert": ("CamemBERT", "martin2020camembert"),
    "mpnet": ("MPNet", "song2020mpnet"),
    "modernbert": ("ModernBERT", "warner2024modernbert"),
    "esmc": ("ESM-C", "esm2024cambrian"),
}
"""The types of transformers whose architecture people know by another name, and its publication."""
