"""Sequences as a model's family wants them written: see TokenRules."""

from queue_app.model_spec import TokenRules


def write(sequence: str, rules: TokenRules) -> str:
    """The sequence with the letters that the family knows, in its words, behind what it puts before all."""
    for letter, known in rules.replaced:
        sequence = sequence.replace(letter, known)
    if rules.kmer or rules.between:
        sequence = rules.between.join(words(sequence, rules.kmer, rules.stride))
    return rules.before + sequence


def words(sequence: str, kmer: int, stride: int) -> list[str]:
    """K-mers, or single letters without `kmer`. What is in such words already stays in them.

    What is left behind the last whole k-mer of a stride above 1 stands letter by letter, as in the Nucleotide
    Transformer (https://doi.org/10.1038/s41592-024-02523-z); a sequence shorter than a k-mer is one word.
    """
    written = sequence.split()
    if len(written) > 1 and all(len(word) == max(kmer, 1) for word in written):
        return written
    if not kmer:
        return [*sequence]
    starts = range(0, len(sequence) - kmer + 1, stride)
    rest = sequence[len(starts) * stride :] if stride > 1 else sequence[: 0 if starts else None]
    return [
        *(sequence[start : start + kmer] for start in starts),
        *(rest if stride > 1 else filter(None, [rest])),
    ]
