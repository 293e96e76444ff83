"""Which distances of two tokens share a bias (https://arxiv.org/abs/1910.10683), without torch."""

KNOWN = ((32, 128), (64, 128))
"""Numbers of buckets with the distance from which all share one: those of the published models, Ankh's last.

transformers takes logarithms in float32, whose rounding could decide where a bucket begins. Of these every
offset has been compared; others are left to transformers.
"""


def bucket(offset: int, num_buckets: int, farthest: int) -> int:
    """That of a key which stands `offset` tokens behind its query; half of the buckets are for later keys.

    In each half, half of the buckets are for one distance each, and the rest for distances that grow like a
    geometric sequence up to `farthest`.
    """
    half = num_buckets // 2
    exact = half // 2
    steps, distance = half - exact, abs(offset)
    # floor(steps * log(distance / exact) / log(farthest / exact)) in integers: no rounding decides about it.
    passed = sum(distance**steps * exact**step >= farthest**step * exact**steps for step in range(1, steps))
    near = distance if distance < exact else exact + passed
    return near + (half if offset > 0 else 0)


def buckets(num_buckets: int, farthest: int) -> list[int]:
    """Of the offsets from -farthest to farthest; what is farther shares the bucket of these ends."""
    return [bucket(offset, num_buckets, farthest) for offset in range(-farthest, farthest + 1)]
