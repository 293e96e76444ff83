"""One shard at a worker: its lease, the attempt, guarded batches, commits, the published result.

Invariant: each batch is computed whole and committed whole under the lease's token; whoever comes after a
crash goes on from the farthest step that is on disk.
"""
