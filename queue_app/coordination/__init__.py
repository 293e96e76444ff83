"""What workers and commands tell each other through Redis: the manifest with its leases and tokens,
messages, events, the register of workers.

Invariant: Redis is an index. A message is a wake-up call, a state changes only in manifest.lua, and a token
never falls.
"""
