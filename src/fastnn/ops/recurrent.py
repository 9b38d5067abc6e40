"""Recurrence on arrays. See :mod:`fastnn.ops`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import expect_shape
from fastnn._kernels import lstm as _lstm
from fastnn._kernels.core import call
from fastnn._kernels.door import floats
from fastnn._typing import Array

__all__ = ["lstm", "lstm_step"]


def _lstm_sizes(weight_ih: Array, weight_hh: Array, bias: Array | None) -> tuple[int, int]:
    if weight_hh.ndim != 2 or weight_hh.shape[0] != 4 * weight_hh.shape[1]:
        raise ValueError(f"weight_hh: expected shape (4 hidden, hidden), got {weight_hh.shape}")
    gates, hidden = weight_hh.shape
    if weight_ih.ndim != 2 or weight_ih.shape[0] != gates:
        raise ValueError(f"weight_ih: expected shape ({gates}, features), got {weight_ih.shape}")
    if bias is not None and bias.shape != (gates,):
        raise ValueError(f"bias: expected shape ({gates},), got {bias.shape}")
    return weight_ih.shape[1], hidden


def lstm(
    x: ArrayLike,
    h0: ArrayLike,
    c0: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias: ArrayLike | None = None,
) -> tuple[Array, Array, Array]:
    r"""Run one LSTM layer over whole sequences.

    .. math::
        i, f, o = \sigma(z), \quad g = \tanh(z), \quad z = W_{ih} x_t + W_{hh} h_{t-1} + b \\
        c_t = f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh(c_t)

    Parameters
    ----------
    x : array_like, shape (batch, time, features)
    h0, c0 : array_like, shape (batch, hidden)
    weight_ih : array_like, shape (4 hidden, features)
        Gates in the order i, f, g, o.
    weight_hh : array_like, shape (4 hidden, hidden)
    bias : array_like, shape (4 hidden,), optional
        The sum of PyTorch's two.

    Returns
    -------
    y : ndarray, shape (batch, time, hidden)
    h, c : ndarray, shape (batch, hidden)
        The final state.

    Raises
    ------
    TypeError
        If an argument is no array of real numbers.
    ValueError
        If a shape does not fit.

    Notes
    -----
    Hochreiter & Schmidhuber 1997, Neural Computation 9(8). :class:`~fastnn.layers.LSTM` has a
    backward pass, several layers and directions.

    Examples
    --------
    >>> y, h, c = lstm(np.ones((1, 3, 2)), [[0.0]], [[0.0]], np.ones((4, 2)), np.ones((4, 1)))
    >>> y.shape
    (1, 3, 1)
    """
    names = ("x", "h0", "c0", "weight_ih", "weight_hh", "bias")
    x, h0, c0, weight_ih, weight_hh, bias = floats(
        names, x, h0, c0, weight_ih, weight_hh, bias, optional=1
    )
    features, hidden = _lstm_sizes(weight_ih, weight_hh, bias)
    if x.ndim != 3 or x.shape[2] != features:
        raise ValueError(f"x: expected shape (batch, time, {features}), got {x.shape}")
    batch, steps, _ = x.shape
    expect_shape("h0", h0, (batch, hidden))
    expect_shape("c0", c0, (batch, hidden))
    dtype, gates = x.dtype, 4 * hidden
    packed = np.empty(_lstm.panel_elements(hidden, dtype.itemsize), dtype)
    total = np.empty(gates, dtype)
    z, y = np.empty((batch, steps, gates), dtype), np.empty((batch, steps, hidden), dtype)
    cells, previous = np.empty((batch, steps, 2, hidden), dtype), np.empty_like(y)
    final = np.empty((batch, 2, hidden), dtype)
    call("lstm_pack", dtype, (packed, None, total, weight_hh, bias, None), (hidden,), (), hidden)
    call("linear_forward", dtype, (z, x, weight_ih, total), (features, gates), (), batch * steps)
    call("lstm_forward", dtype,
         (z, cells, previous, final, y, z, np.stack([h0, c0], axis=1), None, packed),
         (hidden, steps, hidden, 0, 0, 0), (), batch)
    return y, final[:, 0].copy(), final[:, 1].copy()


def lstm_step(
    x: ArrayLike,
    h: ArrayLike,
    c: ArrayLike,
    weight_ih: ArrayLike,
    weight_hh: ArrayLike,
    bias: ArrayLike | None = None,
) -> tuple[Array, Array]:
    """Take one step of :func:`lstm`, for streams.

    Parameters
    ----------
    x : array_like, shape (batch, features)
    h, c : array_like, shape (batch, hidden)
    weight_ih : array_like, shape (4 hidden, features)
    weight_hh : array_like, shape (4 hidden, hidden)
    bias : array_like, shape (4 hidden,), optional

    Returns
    -------
    h, c : ndarray, shape (batch, hidden)
        The new state.

    Raises
    ------
    TypeError
        If an argument is no array of real numbers.
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> zero = np.zeros((1, 1))
    >>> h, c = lstm_step(np.zeros((1, 2)), zero, zero + 1, np.ones((4, 2)), np.ones((4, 1)))
    >>> c
    array([[0.5]])
    """
    state = _lstm.lstm_step(x, h, c, weight_ih, weight_hh, bias)
    if state is not None:
        return state
    names = ("x", "h", "c", "weight_ih", "weight_hh", "bias")
    x, h, c, weight_ih, weight_hh, bias = floats(
        names, x, h, c, weight_ih, weight_hh, bias, optional=1
    )
    features, hidden = _lstm_sizes(weight_ih, weight_hh, bias)
    if x.ndim != 2 or x.shape[1] != features:
        raise ValueError(f"x: expected shape (batch, {features}), got {x.shape}")
    batch = x.shape[0]
    expect_shape("h", h, (batch, hidden))
    expect_shape("c", c, (batch, hidden))
    state = _lstm.lstm_step(x, h, c, weight_ih, weight_hh, bias)
    assert state is not None  # all fits by now
    return state
