"""What the models of the zoo are given: a user's sequences, as they stand in a FASTA or a table."""

import random

from tests.support.jobs_and_inputs import protein

PROTEINS = (
    "M", "MKTAYIAKQRQISFVKSHFSRQ", "GSHMASMTGGQQMGRGS", "AXBZUOACDEFGHIKLMNPQRSTVWY", protein(3), protein(71),
)  # fmt: skip
"""With every letter that a database has, U, Z, O and B among them."""
LONG_PROTEINS = (*PROTEINS, "".join(protein(number) for number in range(8)))
"""The last is longer than the 512 tokens that relative positions do not end at."""
ANTIBODIES = (
    "EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVS",
    "DIQMTQSPSSLSASVGDRVTITCRASQSISSYLNWYQQKPGKAPKLLIY",
    "QVQLVQSGAEVKKPGASVKVSCKAS",
)
"""Without U, Z, O and B, about which the cards of antibody models say nothing."""
STRUCTURES = ("MdKvTpAqYdIv", "M#K#T#A#Y#", "MdEvVpQpL#VyQdYaKv")
"""Pairs of a residue and its 3Di letter, # where there is none."""


def _bases(length: int, letters: str) -> str:
    return "".join(random.Random(length).choices(letters, k=length))


DNA = ("ACGTACG", *(_bases(length, "ACGT") for length in (12, 31, 60, 151)), "ACGTTGCANNACGTTGACC")
PLAIN_DNA = DNA[:-1]
"""Without N, for vocabularies in which every k-mer with one is unknown."""
RNA = ("GGCUA", *(_bases(length, "ACGU") for length in (12, 33, 60)))
CODONS = ("AUGGCC", "AUGGCCUAA", *(_bases(length, "ACGU") for length in (12, 33, 60)))
"""Of whole codons."""
TEXTS = (
    "A", "alpha-hemolysin", "co-chaperonin GroEL",
    "the quick Protein kinase of the ATP-binding subunit, (EC 2.7)", "Straße NAÏVE café",
    "hello  world\tTabs", "query: How do proteins fold?",
)  # fmt: skip
LONG_TEXTS = (*TEXTS, "the quick brown fox jumps over the lazy dog and " * 30)
"""The last is longer than the positions and the stated limits of the models."""
MOLECULES = ("CC(=O)Oc1ccccc1C(=O)O", "C/C=C\\C", "[Na+].[Cl-]", "N[C@@H](C)C(=O)O", "C#N")
