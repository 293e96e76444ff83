"""The map of a job's vectors: sampled, projected, coloured, searched, kept."""
