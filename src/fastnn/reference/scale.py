"""A factor for each feature in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

from fastnn._typing import Array

__all__ = ["scale_backward_weight", "scale_forward"]


def scale_forward(x: Array, weight: Array) -> Array:
    """x weight, row by row; with dy for x that is dx."""
    y: Array = x * weight
    return y


def scale_backward_weight(dy: Array, x: Array) -> Array:
    """dweight = Σ dy x over the rows."""
    dweight: Array = (dy * x).sum(axis=0)
    return dweight
