"""Parquet and Arrow, read by a child process: native code that takes a stranger's bytes, and may die of them.

Invariant: the child has at most MEMORY_MOST bytes, ends with its parent, and hands small batches over whose
values are texts and numbers; whatever becomes of it is one line that names the file. It is started once, and
asked for file after file.
"""
