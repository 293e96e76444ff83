"""A finished job's output: collected, counted, digested, written, verified, read again.

Invariant: records read = records embedded + records quarantined, checked before an output is renamed into
place; it is written from one set of done records; nothing is replaced that is not the job's own. To add a
format: a writer in `formats/`, its row in `formats.writers.OUTPUTS`, its name in job/output_names.py.
"""
