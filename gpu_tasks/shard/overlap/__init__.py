"""What a worker does beside computing a shard: the one before is published, and the next one made ready.

Invariant: only the task's own thread computes, one shard at a time; a process holds two leases at most, each
beaten by its own heartbeat, and every one of them ends with its attempt, or is given back.
"""
