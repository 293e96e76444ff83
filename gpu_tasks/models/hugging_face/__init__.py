"""transformers' own models at work: padded, row by row, or on packed tokens through its attention interface.

Invariant: with whom a row is computed changes rounding at most, which is shown before a model is used.
"""
