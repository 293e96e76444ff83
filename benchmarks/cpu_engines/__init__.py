"""Holdfast on the CPU beside sentence-transformers, a loop by hand and OpenVINO, in one run."""
