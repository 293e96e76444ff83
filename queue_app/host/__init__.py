"""What this machine gives: files that are there whole or not at all, locks, child processes that die with
their parent, memory, limits, devices.

It knows no job. Invariant: whoever is killed here at any instruction leaves either the old state or the new
one.
"""
