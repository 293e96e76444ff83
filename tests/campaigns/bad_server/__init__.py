"""Strangers write to the server: messages to its queues, values under its keys. Is everybody still at work?

A campaign writes one hostile thing after the other, and after every twenty a canary job must be done within
seconds, by the same processes, with the right number of vectors.
"""
