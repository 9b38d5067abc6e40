"""Embeddings in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn._typing import Array

__all__ = ["embedding_backward", "gather_rows"]


def gather_rows(x: Array, index: NDArray[np.int64]) -> Array:
    """x[index]."""
    return x[index]


def embedding_backward(dy: Array, index: Array, rows: int) -> Array:
    """dweight (rows, dim): the sum of dy (count, dim) over the places of each index (count,)."""
    dweight = np.zeros((rows, dy.shape[1]), dy.dtype)
    np.add.at(dweight, index, dy)
    return dweight
