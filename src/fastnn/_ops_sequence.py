"""Functions on arrays: normalization, recurrence. See :mod:`fastnn.ops`."""

from __future__ import annotations  # so that help() says ArrayLike

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._checks import floats, number
from fastnn._kernels import _stream
from fastnn._kernels._core import call, empty, rows, zeros
from fastnn._ops_elementwise import WORK

Array = NDArray[Any]


def _expect(name: str, array: Array | None, shape: tuple[int, ...]) -> None:
    if array is not None and array.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {array.shape}")


def _eps(eps: Any) -> float:
    result = number("eps", eps)
    if result == 0:
        raise ValueError("eps: expected a number > 0, got 0")
    return result


# Normalization ---------------------------------------------------------------------------------


def layer_norm(
    x: ArrayLike, weight: ArrayLike | None = None, bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    r"""Normalize over the last axis.

    .. math:: y = (x - \mu) / \sqrt{\sigma^2 + \epsilon} \cdot w + b

    Parameters
    ----------
    x : array_like, shape (..., n)
    weight, bias : array_like, shape (n,), optional
    eps : float
        Greater than 0.

    Returns
    -------
    y : ndarray, shape (..., n)
    mean : ndarray, shape (...)
    rstd : ndarray, shape (...)
        :math:`1 / \sqrt{\sigma^2 + \epsilon}` with the biased variance.

    Raises
    ------
    TypeError
        If an argument is no array of real numbers.
    ValueError
        If a shape does not fit or `eps` is not positive.

    Notes
    -----
    Ba, Kiros & Hinton 2016, arXiv 1607.06450.

    Examples
    --------
    >>> y, mean, rstd = layer_norm([[1.0, 3.0]])
    >>> y.round(3), mean
    (array([[-1.,  1.]]), array([2.]))
    """
    x, weight, bias = floats(("x", "weight", "bias"), x, weight, bias, optional=2)
    if x.ndim == 0:
        raise ValueError("x: expected at least one axis, got a scalar")
    cols = x.shape[-1]
    _expect("weight", weight, (cols,))
    _expect("bias", bias, (cols,))
    shape, dtype = x.shape, x.dtype
    leading = shape[:-1]
    y, mean = empty(shape, dtype), empty(leading, dtype)
    tail, rstd = empty(leading, dtype), empty(leading, dtype)
    call("layer_norm_forward", dtype, (y, mean, tail, rstd, x, weight, bias), (cols,),
         (_eps(eps),), rows(x), work=WORK * cols)
    return y, mean, rstd


def layer_norm_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike | None, mean: ArrayLike, rstd: ArrayLike
) -> tuple[Array, Array, Array]:
    r"""Return the gradients of :func:`layer_norm`.

    With :math:`g = dy \cdot w` and :math:`h = (x - \mu) r`, all means over the last axis,

    .. math:: dx = r (g - \overline{g} - h \overline{gh}), \quad dw = \sum dy\,h,
        \quad db = \sum dy

    Parameters
    ----------
    dy, x : array_like, shape (..., n)
    weight : array_like, shape (n,), or None
    mean, rstd : array_like, shape (...)
        As :func:`layer_norm` returned them.

    Returns
    -------
    dx : ndarray, shape (..., n)
    dweight, dbias : ndarray, shape (n,)

    Raises
    ------
    TypeError
        If an argument is no array of real numbers.
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> x = [[1.0, 2.0, 4.0]]
    >>> _, mean, rstd = layer_norm(x)
    >>> dx, dweight, dbias = layer_norm_backward([[1.0, 1.0, 2.0]], x, None, mean, rstd)
    >>> dbias
    array([1., 1., 2.])
    """
    dy, x, mean, rstd, weight = floats(
        ("dy", "x", "mean", "rstd", "weight"), dy, x, mean, rstd, weight, optional=1
    )
    if x.ndim == 0:
        raise ValueError("x: expected at least one axis, got a scalar")
    shape, dtype, count = x.shape, x.dtype, rows(x)
    leading, cols = shape[:-1], shape[-1]
    _expect("dy", dy, shape)
    _expect("weight", weight, (cols,))
    _expect("mean", mean, leading)
    _expect("rstd", rstd, leading)
    dx, tail = empty(shape, dtype), zeros(leading, dtype)
    dweight, dbias = empty((cols,), dtype), empty((cols,), dtype)
    call("layer_norm_backward", dtype, (dx, dy, x, weight, mean, tail, rstd), (cols,), (), count,
         work=WORK * cols)
    call("layer_norm_backward_weight", dtype, (dweight, dbias, dy, x, mean, tail, rstd),
         (cols, count), (), cols, work=WORK * count)
    return dx, dweight, dbias


def _channels(x: Array) -> tuple[int, int, int]:
    """Channels, length and rows of (rows, channels) or (rows, channels, length)."""
    if x.ndim == 2:
        return x.shape[1], 1, x.shape[0]
    if x.ndim != 3:
        raise ValueError(
            f"x: expected (batch, channels) or (batch, channels, length), got shape {x.shape}"
        )
    return x.shape[1], x.shape[2], x.shape[0]


def batch_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array, Array]:
    r"""Normalize every channel with the statistics of the batch.

    .. math:: y = (x - \mu_B) / \sqrt{\sigma_B^2 + \epsilon} \cdot w + b

    Parameters
    ----------
    x : array_like, shape (batch, channels) or (batch, channels, length)
    weight, bias : array_like, shape (channels,), optional
    eps : float
        Greater than 0.

    Returns
    -------
    y : ndarray, shape of `x`
    mean, rstd : ndarray, shape (channels,)

    Raises
    ------
    TypeError
        If an argument is no array of real numbers.
    ValueError
        If a shape does not fit or `eps` is not positive.

    Notes
    -----
    Ioffe & Szegedy 2015, arXiv 1502.03167. The variance is ``1 / rstd**2 - eps``; running
    statistics are the caller's.

    Examples
    --------
    >>> y, mean, rstd = batch_norm([[1.0], [3.0]])
    >>> y.round(3).ravel(), mean
    (array([-1.,  1.]), array([2.]))
    """
    x, weight, bias = floats(("x", "weight", "bias"), x, weight, bias, optional=2)
    channels, length, batch = _channels(x)
    shape, dtype = (channels,), x.dtype
    _expect("weight", weight, shape)
    _expect("bias", bias, shape)
    y, mean, tail = empty(x.shape, dtype), zeros(shape, dtype), zeros(shape, dtype)
    rstd, running_mean, running_var = (
        zeros(shape, dtype), zeros(shape, dtype), zeros(shape, dtype)
    )
    call("batch_norm_forward", dtype,
         (y, mean, tail, rstd, running_mean, running_var, x, weight, bias),
         (channels, length, batch), (_eps(eps), 0.0), channels, work=WORK * batch * length)
    return y, mean, rstd


def batch_norm_inference(
    x: ArrayLike,
    running_mean: ArrayLike,
    running_var: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Array:
    r"""Normalize every channel with given statistics, :math:`(x - m) / \sqrt{v + ε} \cdot w + b`.

    Parameters
    ----------
    x : array_like, shape (batch, channels) or (batch, channels, length)
    running_mean, running_var : array_like, shape (channels,)
    weight, bias : array_like, shape (channels,), optional
    eps : float
        Greater than 0.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError
        If an argument is no array of real numbers.
    ValueError
        If a shape does not fit or `eps` is not positive.

    Examples
    --------
    >>> batch_norm_inference([[1.0], [3.0]], [1.0], [4.0]).round(3).ravel()
    array([0., 1.])
    """
    names = ("x", "running_mean", "running_var", "weight", "bias")
    x, running_mean, running_var, weight, bias = floats(
        names, x, running_mean, running_var, weight, bias, optional=2
    )
    channels, length, batch = _channels(x)
    shape, dtype = (channels,), x.dtype
    _expect("running_mean", running_mean, shape)
    _expect("running_var", running_var, shape)
    _expect("weight", weight, shape)
    _expect("bias", bias, shape)
    y = empty(x.shape, dtype)
    call("batch_norm_inference", dtype, (y, x, running_mean, running_var, weight, bias),
         (channels, length), (_eps(eps),), batch, work=WORK * channels * length)
    return y


def batch_norm_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike | None, mean: ArrayLike, rstd: ArrayLike
) -> tuple[Array, Array, Array]:
    r"""Return the gradients of :func:`batch_norm`, those of :func:`layer_norm` over the batch.

    Parameters
    ----------
    dy, x : array_like, shape (batch, channels) or (batch, channels, length)
    weight : array_like, shape (channels,), or None
    mean, rstd : array_like, shape (channels,)
        As :func:`batch_norm` returned them.

    Returns
    -------
    dx : ndarray, shape of `x`
    dweight, dbias : ndarray, shape (channels,)

    Raises
    ------
    TypeError
        If an argument is no array of real numbers.
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> x = [[1.0], [2.0], [4.0]]
    >>> _, mean, rstd = batch_norm(x)
    >>> dx, dweight, dbias = batch_norm_backward([[1.0], [1.0], [2.0]], x, None, mean, rstd)
    >>> dbias
    array([4.])
    """
    dy, x, mean, rstd, weight = floats(
        ("dy", "x", "mean", "rstd", "weight"), dy, x, mean, rstd, weight, optional=1
    )
    channels, length, batch = _channels(x)
    shape, dtype = (channels,), x.dtype
    _expect("dy", dy, x.shape)
    _expect("weight", weight, shape)
    _expect("mean", mean, shape)
    _expect("rstd", rstd, shape)
    dx, tail = empty(x.shape, dtype), zeros(shape, dtype)
    dweight, dbias = empty(shape, dtype), empty(shape, dtype)
    call("batch_norm_backward", dtype, (dx, dweight, dbias, dy, x, weight, mean, tail, rstd),
         (channels, length, batch), (), channels, work=WORK * batch * length)
    return dx, dweight, dbias


# Recurrence ------------------------------------------------------------------------------------


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
    Hochreiter & Schmidhuber 1997, Neural Computation 9(8). :class:`fastnn.LSTM` has a backward
    pass, several layers and directions.

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
    _expect("h0", h0, (batch, hidden))
    _expect("c0", c0, (batch, hidden))
    dtype, gates = x.dtype, 4 * hidden
    lanes = 64 // dtype.itemsize  # of the widest vector
    packed, total = np.empty((-(-hidden // lanes) * lanes * gates,), dtype), np.empty(gates, dtype)
    z, y = np.empty((batch, steps, gates), dtype), np.empty((batch, steps, hidden), dtype)
    cells, previous = np.empty((batch, steps, 2, hidden), dtype), np.empty_like(y)
    final = np.empty((batch, 2, hidden), dtype)
    call("lstm_pack", dtype, (packed, None, total, weight_hh, bias, None), (hidden,), (), hidden)
    call("linear_forward", dtype, (z, x, weight_ih, total), (features, gates), (), batch * steps,
         work=2 * features * gates)
    call("lstm_forward", dtype,
         (z, cells, previous, final, y, z, np.stack([h0, c0], axis=1), None, packed),
         (hidden, steps, hidden, 0, 0, 0), (), batch, work=2 * steps * hidden * gates)
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
    state = _stream.lstm_step(x, h, c, weight_ih, weight_hh, bias)
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
    _expect("h", h, (batch, hidden))
    _expect("c", c, (batch, hidden))
    state = _stream.lstm_step(x, h, c, weight_ih, weight_hh, bias)
    assert state is not None  # all fits by now
    return state
