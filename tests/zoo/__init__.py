"""Small models of every family, with random weights, and an independent reading of what they compute."""
