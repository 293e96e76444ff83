"""What lies in a job directory: job.json, shards, results, done records, quarantine, history.

Invariant: everything that Redis holds of a job can be rebuilt from here; a done record is created after the
result that it names, and never replaced. To add an option that can change a vector, see `spec.EmbedOptions`:
it is part of the job's digest.
"""
