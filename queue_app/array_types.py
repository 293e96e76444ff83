"""What numpy arrays are called in annotations."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Ordinals = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.uint64]
"""uint64[n, 2]: the two halves of the xxh3-128 of each sequence's text."""
