"""Normalization on arrays. See :mod:`fastnn.ops`."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastnn._door.arrays import expect_shape
from fastnn._door.numbers import above_0
from fastnn._kernels.core import call
from fastnn._kernels.door import empty, floats, rows, zeros
from fastnn._typing import Array

__all__ = [
    "batch_norm", "batch_norm_backward", "batch_norm_inference", "layer_norm",
    "layer_norm_backward",
]


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
    eps = above_0("eps", eps)
    x, weight, bias = floats(("x", "weight", "bias"), x, weight, bias, optional=2)
    if x.ndim == 0:
        raise ValueError("x: expected at least one axis, got a scalar")
    cols = x.shape[-1]
    expect_shape("weight", weight, (cols,))
    expect_shape("bias", bias, (cols,))
    shape, dtype = x.shape, x.dtype
    leading = shape[:-1]
    y, mean = empty(shape, dtype), empty(leading, dtype)
    tail, rstd = empty(leading, dtype), empty(leading, dtype)
    call("layer_norm_forward", dtype, (y, mean, tail, rstd, x, weight, bias), (cols,),
         (eps,), rows(x))
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
    expect_shape("dy", dy, shape)
    expect_shape("weight", weight, (cols,))
    expect_shape("mean", mean, leading)
    expect_shape("rstd", rstd, leading)
    dx, tail = empty(shape, dtype), zeros(leading, dtype)
    dweight, dbias = empty((cols,), dtype), empty((cols,), dtype)
    call("layer_norm_backward", dtype, (dx, dy, x, weight, mean, tail, rstd), (cols,), (), count)
    call("layer_norm_backward_weight", dtype, (dweight, dbias, dy, x, mean, tail, rstd),
         (cols, count), (), cols)
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
    eps = above_0("eps", eps)
    x, weight, bias = floats(("x", "weight", "bias"), x, weight, bias, optional=2)
    channels, length, batch = _channels(x)
    shape, dtype = (channels,), x.dtype
    expect_shape("weight", weight, shape)
    expect_shape("bias", bias, shape)
    y, mean, tail = empty(x.shape, dtype), zeros(shape, dtype), zeros(shape, dtype)
    rstd, running_mean, running_var = (
        zeros(shape, dtype), zeros(shape, dtype), zeros(shape, dtype)
    )
    call("batch_norm_forward", dtype,
         (y, mean, tail, rstd, running_mean, running_var, x, weight, bias),
         (channels, length, batch), (eps, 0.0), channels)
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
    eps = above_0("eps", eps)
    names = ("x", "running_mean", "running_var", "weight", "bias")
    x, running_mean, running_var, weight, bias = floats(
        names, x, running_mean, running_var, weight, bias, optional=2
    )
    channels, length, batch = _channels(x)
    shape, dtype = (channels,), x.dtype
    expect_shape("running_mean", running_mean, shape)
    expect_shape("running_var", running_var, shape)
    expect_shape("weight", weight, shape)
    expect_shape("bias", bias, shape)
    y = empty(x.shape, dtype)
    call("batch_norm_inference", dtype, (y, x, running_mean, running_var, weight, bias),
         (channels, length), (eps,), batch)
    return y


def batch_norm_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike | None, mean: ArrayLike, rstd: ArrayLike
) -> tuple[Array, Array, Array]:
    r"""Return the gradients of :func:`batch_norm`, those of :func:`layer_norm` over the batch.

    With :math:`g = dy \cdot w` and :math:`h = (x - \mu) r`, all means and sums over the batch,

    .. math:: dx = r (g - \overline{g} - h \overline{gh}), \quad dw = \sum dy\,h,
        \quad db = \sum dy

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
    expect_shape("dy", dy, x.shape)
    expect_shape("weight", weight, shape)
    expect_shape("mean", mean, shape)
    expect_shape("rstd", rstd, shape)
    dx, tail = empty(x.shape, dtype), zeros(shape, dtype)
    dweight, dbias = empty(shape, dtype), empty(shape, dtype)
    call("batch_norm_backward", dtype, (dx, dweight, dbias, dy, x, weight, mean, tail, rstd),
         (channels, length, batch), (), channels)
    return dx, dweight, dbias
