"""What a model is to a job: its specification, frozen in job.json, and the child process that reads it.

Invariant: torch and transformers are never imported here; what a model computes is told by a ModelSpec
alone, and its files are held against their digests. To add a family of models, see gpu_tasks.models.
"""
