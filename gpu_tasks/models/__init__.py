"""The model families, one file each, and what they share.

Invariant: a family computes what transformers or sentence-transformers would, to 1e-6; what it does not
compute to the letter is left to `auto`. To add a family: a module with a class like `esm2`'s, its row in
`from_spec`, and its rows in tests/zoo.
"""
