"""Matrix products on arrays. See :mod:`fastnn.ops`."""

from __future__ import annotations

from numpy.typing import ArrayLike

from fastnn._door.arrays import expect_shape
from fastnn._door.numbers import choice
from fastnn._kernels.core import call
from fastnn._kernels.door import empty, floats, linear_shapes, output, product
from fastnn._typing import Array
from fastnn.ops.activation import ACTIVATIONS

__all__ = ["linear", "linear_backward", "matmul"]


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
        What to apply to y: the name of an activation of :mod:`fastnn.ops`, such as ``"relu"``, with
        its options as they are by default, or ``"gelu_tanh"``.
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
    if activation is not None:
        choice("activation", activation, ACTIVATIONS)
    x, weight, bias = floats(("x", "weight", "bias"), x, weight, bias, optional=1)
    rows, ins, outs, shape = linear_shapes(x, weight)
    expect_shape("bias", bias, (outs,))
    dtype = x.dtype
    y = output(out, shape, dtype, (x, weight, bias))
    call("linear_forward", dtype, (y, x, weight, bias), (ins, outs), (), rows)
    if activation is not None:
        call(f"{activation}_forward", dtype, (y, y), (outs,),
             (ACTIVATIONS[activation].scalar,), rows)
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
    expect_shape("dy", dy, shape)
    dtype = x.dtype
    dx, dweight = empty(x.shape, dtype), empty(weight.shape, dtype)
    dbias = empty((outs,), dtype)
    call("linear_backward_input", dtype, (dx, dy, weight), (ins, outs), (), rows)
    call("linear_backward_weight", dtype, (dweight, dbias, dy, x), (ins, outs, rows), (), outs)
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
    call("matmul", y.dtype, arrays, sizes, (), rows)
    return y
