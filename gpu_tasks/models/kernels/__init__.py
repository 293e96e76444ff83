"""CUDA kernels of our own, in Triton, beside the plain torch that each of them does the work of.

Invariant: a row's result depends on that row alone. Blocks have fixed sizes, counted from the row's first
token, and are reduced in one order, so neither a row's company nor its place changes a bit. Nothing here
imports triton before a CUDA device asks for its kernels. To add one: its function in `jitted`, how it is
built and launched in `fused`, and its tests against plain torch and float64.
"""
