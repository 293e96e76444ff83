"""What the documentation claims in figures, measured: `python -m benchmarks.NAME` from the root."""
