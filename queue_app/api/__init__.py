"""Holdfast from Python: embed, start, submit, a handle on a job; and the runs that the commands share.

Invariant: a job is the same whichever way it was begun.
"""
