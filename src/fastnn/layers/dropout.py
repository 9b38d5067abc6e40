"""Dropout."""

from __future__ import annotations

from typing import Any

from numpy.typing import DTypeLike

from fastnn._door.numbers import fraction
from fastnn._planning.builder import Builder, Value
from fastnn._typing import Rng
from fastnn.layers.attribute import option
from fastnn.layers.base import Layer, rows_and_columns

__all__ = ["Dropout"]


class Dropout(Layer):
    r"""Inverted dropout: in training each element is zero with probability p, else x / (1 - p).

    .. math::
        y = \frac{m \odot x}{1 - p}, \qquad \bar x = \frac{m \odot \bar y}{1 - p}, \qquad
        P(m_i = 0) = p

    Parameters
    ----------
    p : float
        Probability of an element to be dropped, in [0, 1].
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None
        Gives the key of the layer's own random stream.

    Raises
    ------
    TypeError, ValueError
        If `p` is no number in [0, 1].

    Notes
    -----
    Srivastava et al. 2014. The mask comes from Philox4x32-10 (Salmon et al. 2011), counted by
    element and forward pass, so that it is the same whatever the number of threads.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> layer, x = fastnn.Dropout(0.5, dtype="float64", rng=0), np.ones((2, 4))
    >>> layer.forward(x, training=True)
    array([[2., 2., 0., 2.],
           [0., 2., 0., 0.]])
    >>> bool((layer(x) == x).all())
    True
    """

    p = option(fraction)

    def __init__(
        self, p: float = 0.5, *, dtype: DTypeLike | None = None, rng: Rng = None
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.p = p

    def uses_random_numbers(self) -> bool:
        """Return True."""
        return True

    def plan(self, builder: Builder, x: Value) -> Value:
        """Identity outside training; else a mask, kept for the backward pass."""
        if not builder.training:
            return builder.view(x, x.shape)
        rows, cols = rows_and_columns(x.shape)
        y = builder.value(x.shape)
        mask = builder.value(x.shape, dtype="uint8")
        state = builder.random_state(self.random_state)
        details: dict[str, Any] = {"sizes": (cols,), "scalars": (self.p,), "items": rows}
        builder.forward("dropout_forward", [y, mask, x, state],
                        **details)
        builder.backward("dropout_backward", [x.grad, y.grad, mask], **details)
        return y

    def __repr__(self) -> str:
        return f"Dropout({self.p})"
