"""The one reader of a model directory. Its result is a queue_app.model.spec.ModelSpec.

The rule: what transformers or sentence-transformers computes from the directory, or UnsupportedModel with
file and key. What could change a vector and is not understood is refused, never ignored. Whatever is not
exactly what a native family computes is left to transformers.

To add a family of sequence models with rules of its own: a row in token_rules.
"""
