"""Damage at rest: sound stores are damaged in every way that disks, file systems and people know.

`stores` makes sound stores of several shapes, `damages` spoils a copy at a seeded place in one way, `judge`
looks at it as the product would, and `campaign` does it all many times. What is held against the product:

- Whatever is not as it was committed is named: a batch that fails its checksum, a store that cannot be
  read, batches that are missing from the plan. What is not named must be proven harmless: every block, every
  quarantine entry, the done record and the token come back as they were, and a new owner can go on.
- Whoever asks lives, whatever LMDB does to the child that looks.
- After a new owner has opened the store (which drops or sets aside what is damaged) and computed again what
  is missing, the store holds the same as before the damage, byte for byte. A store that was closed is opened
  without a look at it: its owner may fail then, but must leave a doubt, so that the next one does not.

A store does not know its own past: a whole file, or LMDB's root, that stands at an earlier sound state is
no damage that anything in the file could show, nor does the design say so. It promises that nothing wrong
comes of it: what is missing is computed again, a result that is not named is published again, and the token
of the next owner comes from Redis, which does not go back. That is judged too, as an outcome of its own.
"""
