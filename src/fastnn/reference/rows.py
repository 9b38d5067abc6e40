"""Sums and copies of rows in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

import numpy as np

from fastnn._typing import Array

__all__ = ["add_forward", "clip", "copy_columns", "square_sum"]


def add_forward(a: Array, b: Array) -> Array:
    """a + b."""
    return a + b


def clip(x: Array, limit: float, scale: float = 1.0) -> Array:
    """`scale` times x within [-limit, limit]; a NaN stays one."""
    y: Array = scale * np.clip(x, -limit, limit)
    return y


def copy_columns(y: Array, x: Array, cols: int, y_start: int = 0, x_start: int = 0) -> Array:
    """y with its columns from y_start on replaced by `cols` columns of x from x_start on."""
    result = y.copy()
    result[:, y_start : y_start + cols] = x[:, x_start : x_start + cols]
    return result


def square_sum(x: Array) -> tuple[float, float]:
    """Σ x² in double precision; and 0, or NaN if an element is not finite."""
    return float(np.square(x, dtype=np.float64).sum()), float((x - x).sum())
