"""Functions on arrays: every operation of the library without layers, models or state.

Arguments are NumPy arrays or anything with the buffer protocol or ``__dlpack__``. Where all are
C-contiguous and of one dtype, float32 or float64, nothing is copied; else the arguments (never
`out`) are converted: to float64 if any of them is that, else to float32.

All run without the GIL. A large call of matrix products, activations, normalization, dropout or
`lstm` uses as many threads as :func:`fastnn.set_num_threads` allows; each computes its share of
the rows, channels or elements. The result has the same bits on any number of them.
"""

from __future__ import annotations  # so that help() says ArrayLike

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._checks import floats, generator, number, output
from fastnn._kernels._core import call, empty, linear_shapes, product
from fastnn._ops_elementwise import (
    WORK,
    exp,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    tanh,
    tanh_backward,
)
from fastnn._ops_embedding import embedding, embedding_backward
from fastnn._ops_optim import (
    adagrad_step,
    adam_step,
    adamw_step,
    clip_grad_norm,
    lamb_step,
    nag_step,
    rmsprop_step,
    sgd_step,
)
from fastnn._ops_sequence import (
    batch_norm,
    batch_norm_backward,
    batch_norm_inference,
    layer_norm,
    layer_norm_backward,
    lstm,
    lstm_step,
)

__all__ = [
    "adagrad_step", "adam_step", "adamw_step", "batch_norm", "batch_norm_backward",
    "batch_norm_inference", "clip_grad_norm", "dropout", "dropout_backward", "embedding",
    "embedding_backward", "exp", "gelu", "gelu_backward", "lamb_step", "layer_norm",
    "layer_norm_backward", "leaky_relu", "leaky_relu_backward", "linear", "linear_backward",
    "log_softmax", "log_softmax_backward", "lstm", "lstm_step", "matmul", "nag_step", "relu",
    "relu_backward", "rmsprop_step", "sgd_step", "sigmoid", "sigmoid_backward", "silu",
    "silu_backward", "softmax", "softmax_backward", "tanh", "tanh_backward",
]

Array = NDArray[Any]

# Those that `linear` takes by name; leaky_relu with its default slope.
ACTIVATIONS = (
    "relu", "leaky_relu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "softmax", "log_softmax",
)
NEGATIVE_SLOPE = 0.01


def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    activation: str | None = None,
    *,
    out: Array | None = None,
) -> Array:
    r"""Return the affine map of the last axis, :math:`y = x W^\top + b`, and its activation.

    Parameters
    ----------
    x : array_like, shape (..., in)
    weight : array_like, shape (out, in)
    bias : array_like, shape (out,), optional
    activation : str, optional
        What to apply to y: ``"relu"``, ``"leaky_relu"``, ``"sigmoid"``, ``"tanh"``, ``"gelu"``,
        ``"gelu_tanh"``, ``"silu"``, ``"softmax"`` or ``"log_softmax"``.
    out : ndarray, shape (..., out), optional
        Array of the result's shape and dtype to put it in; may not overlap an argument.

    Returns
    -------
    ndarray, shape (..., out)

    Raises
    ------
    TypeError
        If an argument is no array of real numbers, or `out` has another dtype than the result.
    ValueError
        If a shape does not fit, there is no such activation, or `out` is read-only, not
        C-contiguous or overlaps an argument.

    Examples
    --------
    >>> linear([[1.0, 2.0]], [[3.0, 4.0], [-5.0, -6.0]], [0.5, 0.5], activation="relu")
    array([[11.5,  0. ]])
    """
    if activation is not None and activation not in ACTIVATIONS:
        expected = ", ".join(ACTIVATIONS)
        raise ValueError(f"activation: expected one of {expected}, got {activation!r}")
    x, weight, bias = floats(("x", "weight", "bias"), x, weight, bias, optional=1)
    rows, ins, outs, shape = linear_shapes(x, weight)
    if bias is not None and bias.shape != (outs,):
        raise ValueError(f"bias: expected shape ({outs},), got {bias.shape}")
    dtype = x.dtype
    y = output(out, shape, dtype, (x, weight, bias))
    call("linear_forward", dtype, (y, x, weight, bias), (ins, outs), (), rows,
         work=2 * ins * outs)
    if activation is not None:
        call(f"{activation}_forward", dtype, (y, y), (outs,), (NEGATIVE_SLOPE,), rows,
             work=WORK * outs)
    return y


def linear_backward(
    dy: ArrayLike, x: ArrayLike, weight: ArrayLike
) -> tuple[Array, Array, Array]:
    r"""Return the gradients of :func:`linear` (without activation) for the output's gradient dy.

    .. math:: dx = dy\,W, \quad dW = dy^\top x, \quad db = \sum dy

    Parameters
    ----------
    dy : array_like, shape (..., out)
    x : array_like, shape (..., in)
    weight : array_like, shape (out, in)

    Returns
    -------
    dx : ndarray, shape (..., in)
    dweight : ndarray, shape (out, in)
    dbias : ndarray, shape (out,)

    Raises
    ------
    TypeError
        If an argument is no array of real numbers.
    ValueError
        If a shape does not fit.

    Examples
    --------
    >>> dx, dweight, dbias = linear_backward([[1.0, 10.0]], [[1.0, 2.0]], [[3.0, 4.0], [5.0, 6.0]])
    >>> dx
    array([[53., 64.]])
    >>> dweight
    array([[ 1.,  2.],
           [10., 20.]])
    >>> dbias
    array([ 1., 10.])
    """
    dy, x, weight = floats(("dy", "x", "weight"), dy, x, weight)
    rows, ins, outs, shape = linear_shapes(x, weight)
    if dy.shape != shape:
        raise ValueError(f"dy: expected shape {shape}, got {dy.shape}")
    dtype = x.dtype
    dx, dweight = empty(x.shape, dtype), empty(weight.shape, dtype)
    dbias = empty((outs,), dtype)
    call("linear_backward_input", dtype, (dx, dy, weight), (ins, outs), (), rows,
         work=2 * ins * outs)
    call("linear_backward_weight", dtype, (dweight, dbias, dy, x), (ins, outs, rows), (), outs,
         work=2 * ins * rows)
    return dx, dweight, dbias


def matmul(a: ArrayLike, b: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the matrix product A B.

    Parameters
    ----------
    a : array_like, shape (..., m, k) or (k,)
    b : array_like, shape (k, n)
        Two matrices whose rows or whose columns lie element by element in memory, such as a
        transposed view, are used where they are; others are copied first.
    out : ndarray, shape (..., m, n) or (n,), optional
        Array of the result's shape and dtype to put it in; may not overlap an argument.

    Returns
    -------
    ndarray, shape (..., m, n) or (n,)

    Raises
    ------
    TypeError
        If an argument is no array of real numbers, or `out` has another dtype than the result.
    ValueError
        If a shape does not fit, or `out` is read-only, not C-contiguous or overlaps an argument.

    Examples
    --------
    >>> a = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> matmul(a.T, a)
    array([[10., 14.],
           [14., 20.]])
    """
    arrays, sizes, rows = product(a, b, out)
    y, _, b = arrays
    call("matmul", y.dtype, arrays, sizes, (), rows, work=2 * b.size)
    return y


def dropout(
    x: ArrayLike, p: float = 0.5, rng: int | np.random.Generator | None = None
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
    p = number("p", p, high=1.0)
    state = generator(rng).integers(0, 2**64, 2, np.uint64)
    y, mask = np.empty_like(x), np.empty(x.shape, np.uint8)
    call("dropout_forward", x.dtype, (y, mask, x, state), (1,), (p,), x.size, work=WORK)
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
    p = number("p", p, high=1.0)
    kept = np.require(mask, np.bool_, ["C"])
    if kept.shape != dy.shape:
        raise ValueError(f"mask: expected shape {dy.shape}, that of dy, got {kept.shape}")
    dx = output(out, dy.shape, dy.dtype, (dy,), True)
    call("dropout_backward", dy.dtype, (dx, dy, kept), (1,), (p,), dy.size, work=WORK)
    return dx
