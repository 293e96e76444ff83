"""Linear layers as the processor computes them fastest: each takes [T, inputs] and gives [T, outputs].

What always holds: a token's result depends on the token and the weights, and on no other token. A new one is
a module with a class like `layers.Linear`, and a line in `weights._linear`, which chooses.
"""
