"""bfloat16 as numpy can hold it: its 16 bits in a uint16, the upper half of the float32 of the same value."""

from typing import Any

import numpy as np
import numpy.typing as npt

_QUIET_NAN = np.uint16(0x0040)


def bfloat16_to_float32(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The values behind the bits, exactly: float32 of the same shape."""
    widened: npt.NDArray[np.uint32] = np.asarray(bits, np.uint32) << np.uint32(16)
    values: npt.NDArray[np.float32] = widened.view(np.float32)
    return values


def bfloat16_from_float32(values: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even as hardware and torch have it; NaN stays NaN.

    Args:
        values: float32 of any shape, or what numpy converts to it.
    """
    exact = np.array(values, np.float32, ndmin=1)
    wide = exact.view(np.uint32)
    upper = (wide >> np.uint32(16)).astype(np.uint16)
    tie_to_even = np.uint32(0x7FFF) + (upper & np.uint16(1)).astype(np.uint32)
    rounded = ((wide + tie_to_even) >> np.uint32(16)).astype(np.uint16)
    bits: npt.NDArray[np.uint16] = np.where(np.isnan(exact), upper | _QUIET_NAN, rounded)
    return bits.reshape(np.shape(values))
