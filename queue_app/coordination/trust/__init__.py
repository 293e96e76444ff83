"""What Holdfast believes of what others hand it: signatures, messages, what a server holds, where a job lies.

Invariant: who may write to the server, and no more, can at worst stop a job. What does not parse, lies
elsewhere or is not signed is dropped and counted, never guessed at.
"""
