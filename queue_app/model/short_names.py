"""Models by the names that people say, and what the hub calls them. A directory of that name comes first."""

from collections.abc import Mapping
from pathlib import Path

_BY_OWNER = {
    "facebook": "esm2_t6_8M_UR50D esm2_t12_35M_UR50D esm2_t30_150M_UR50D esm2_t33_650M_UR50D "
    "esm2_t36_3B_UR50D esm2_t48_15B_UR50D "
    "esm1b_t33_650M_UR50S esm1v_t33_650M_UR90S_1 esm1v_t33_650M_UR90S_2 "
    "esm1v_t33_650M_UR90S_3 esm1v_t33_650M_UR90S_4 esm1v_t33_650M_UR90S_5",
    "Rostlab": "prot_bert prot_bert_bfd prot_t5_xl_uniref50 prot_t5_xl_bfd prot_t5_xl_half_uniref50-enc "
    "ProstT5 ProstT5_fp16",
    "ElnaggarLab": "ankh-base ankh-large",
    "westlake-repl": "SaProt_35M_AF2 SaProt_650M_AF2",
    "zhihan1996": "DNABERT-2-117M DNABERT-S",
    "sentence-transformers": "all-MiniLM-L6-v2 all-MiniLM-L12-v2 all-mpnet-base-v2 all-distilroberta-v1 "
    "multi-qa-MiniLM-L6-cos-v1 multi-qa-mpnet-base-dot-v1 paraphrase-MiniLM-L6-v2 "
    "paraphrase-multilingual-MiniLM-L12-v2 paraphrase-multilingual-mpnet-base-v2",
    "BAAI": "bge-small-en-v1.5 bge-base-en-v1.5 bge-large-en-v1.5 bge-m3",
    "intfloat": "e5-small-v2 e5-base-v2 e5-large-v2 multilingual-e5-small multilingual-e5-base "
    "multilingual-e5-large",
}
_SAID = {
    "facebook/esm2_t6_8M_UR50D": "esm2_8m",
    "facebook/esm2_t12_35M_UR50D": "esm2_35m",
    "facebook/esm2_t30_150M_UR50D": "esm2_150m",
    "facebook/esm2_t33_650M_UR50D": "esm2_650m",
    "facebook/esm2_t36_3B_UR50D": "esm2_3b",
    "facebook/esm2_t48_15B_UR50D": "esm2_15b",
    "facebook/esm1b_t33_650M_UR50S": "esm1b",
    "Rostlab/prot_bert": "protbert",
    "Rostlab/prot_bert_bfd": "protbert_bfd prottrans_bert_bfd",
    "Rostlab/prot_t5_xl_half_uniref50-enc": "prott5 prot_t5",
    "Rostlab/prot_t5_xl_uniref50": "prottrans_t5_xl_u50",
    "Rostlab/ProstT5": "prost_t5",
    "zhihan1996/DNABERT-2-117M": "dnabert2 dnabert-2",
    "sentence-transformers/all-MiniLM-L6-v2": "minilm all-minilm",
}


def _key(name: str) -> str:
    return name.lower().replace("_", "-")


HUB_IDS: Mapping[str, str] = {
    **{_key(name): f"{owner}/{name}" for owner, names in _BY_OWNER.items() for name in names.split()},
    **{_key(name): hub_id for hub_id, names in _SAID.items() for name in names.split()},
}


def hub_id_of(name: str) -> str | None:
    """What the hub calls the model of this name; None where something lies there, or nobody calls one so."""
    return None if Path(name).expanduser().exists() else HUB_IDS.get(_key(name))
