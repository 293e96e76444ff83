"""What to run first on a CUDA device: ten minutes at most, with torch and without a network."""
