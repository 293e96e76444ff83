"""torch's real CUDA host code on a CUDA runtime whose kernels do nothing.

What a CUDA build of torch links against is built here as stand-ins: one pretended Hopper device, copies and
events late and in stream order, from threads. torch's checks, allocators, streams, and the arguments of
FlashAttention and cuBLASLt are the real ones. So errors, lists of kernels, synchronisations, early reuse of
buffers, peaks of memory and host time are real; numerics, kernel times and faults within a kernel are not.
"""
