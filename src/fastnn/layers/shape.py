"""Layers that change nothing but the shape."""

from __future__ import annotations

from numpy.typing import DTypeLike

from fastnn._planning.builder import Builder, Value
from fastnn._typing import Rng
from fastnn.layers.base import Layer

__all__ = ["Flatten"]


class Flatten(Layer):
    """All axes but the first as one; a view inside a program, at no cost.

    Parameters
    ----------
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.Flatten()(np.ones((5, 3, 4))).shape
    (5, 12)
    """

    def __init__(self, *, dtype: DTypeLike | None = None, rng: Rng = None) -> None:
        super().__init__(dtype=dtype, rng=rng)

    def keeps_shape(self) -> bool:
        """Return False."""
        return False

    def plan(self, builder: Builder, x: Value) -> Value:
        """Plan no operation."""
        return builder.view(x, (x.size,))

    def __repr__(self) -> str:
        return "Flatten()"
