"""Dropout on arrays. See :mod:`fastnn.ops`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._door.arrays import as_array, expect_shape, required
from fastnn._door.numbers import fraction, generator
from fastnn._kernels.core import call
from fastnn._kernels.door import floats, output
from fastnn._typing import Array, Rng

__all__ = ["dropout", "dropout_backward"]


def dropout(
    x: ArrayLike, p: float = 0.5, rng: Rng = None
) -> tuple[Array, NDArray[np.bool_]]:
    """Return x / (1 - p) with each element replaced by 0 with probability p (inverted dropout).

    Parameters
    ----------
    x : array_like, any shape
    p : float
        Probability of an element to be dropped, in [0, 1].
    rng : int, numpy.random.Generator or None
        Where the key of the mask comes from.

    Returns
    -------
    y : ndarray, shape of `x`
    mask : ndarray of bool, shape of `x`
        Where x was kept.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If `p` is not in [0, 1], or `rng` is negative.

    Notes
    -----
    Srivastava et al. 2014, Dropout: a simple way to prevent neural networks from overfitting. The
    mask comes from Philox4x32-10 (Salmon et al. 2011).

    Examples
    --------
    >>> y, mask = dropout([1.0, 2.0, 3.0, 4.0], p=0.5, rng=1)
    >>> bool((y == [2.0, 4.0, 6.0, 8.0] * mask).all())
    True
    """
    (x,) = floats(("x",), x)
    p = fraction("p", p)
    state = generator(rng).integers(0, 2**64, 2, np.uint64)
    y, mask = np.empty_like(x), np.empty(x.shape, np.uint8)
    call("dropout_forward", x.dtype, (y, mask, x, state), (1,), (p,), x.size)
    return y, mask.view(np.bool_)


def dropout_backward(
    dy: ArrayLike, mask: ArrayLike, p: float = 0.5, *, out: Array | None = None
) -> Array:
    """Return the gradient of :func:`dropout`: dy / (1 - p) where the mask is set, else 0.

    Parameters
    ----------
    dy : array_like, any shape
    mask : array_like of bool, shape of `dy`
    p : float
        As given to :func:`dropout`.
    out : ndarray, optional
        Array of the result's shape and dtype to put it in; may be `dy` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or `out` has another dtype than the result.
    ValueError
        If a shape does not fit, `p` is not in [0, 1], or `out` is read-only, not C-contiguous or
        overlaps an argument in part.

    Examples
    --------
    >>> dropout_backward([1.0, 2.0], mask=[True, False], p=0.5)
    array([2., 0.])
    """
    (dy,) = floats(("dy",), dy)
    p = fraction("p", p)
    kept = required(as_array(mask, "mask"), "mask", np.dtype(np.bool_))
    expect_shape("mask", kept, dy.shape)
    dx = output(out, dy.shape, dy.dtype, (dy,), True)
    call("dropout_backward", dy.dtype, (dx, dy, kept), (1,), (p,), dy.size)
    return dx
