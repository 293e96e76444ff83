"""How far a job is: one snapshot, and every way of showing it in a terminal.

Invariant: it reads and never writes; without a server the job directory tells it.
"""
