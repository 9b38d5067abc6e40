"""Memory for arrays of many kinds."""

from typing import Any

import numpy as np

from fastnn._typing import Array


def aligned_zeros(size: int, dtype: np.dtype[Any]) -> Array:
    """Return `size` zeros that start at a multiple of 64 bytes, a cache line."""
    memory = np.zeros(size * dtype.itemsize + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size * dtype.itemsize].view(dtype)
