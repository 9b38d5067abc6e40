"""Activations and their gradients on arrays. See :mod:`fastnn.ops`."""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import ArrayLike

from fastnn._door.numbers import above_0, at_least_0, choice
from fastnn._kernels.core import call
from fastnn._kernels.door import floats, output, rows
from fastnn._typing import Array

__all__ = [
    "elu", "elu_backward", "exp", "gelu", "gelu_backward", "leaky_relu", "leaky_relu_backward",
    "log_softmax", "log_softmax_backward", "mish", "mish_backward", "relu", "relu_backward", "selu",
    "selu_backward", "sigmoid", "sigmoid_backward", "silu", "silu_backward", "softmax",
    "softmax_backward", "softplus", "softplus_backward", "tanh", "tanh_backward",
]


class Activation(NamedTuple):
    """What others need to know of an activation."""

    scalar: float = 0.0  # of its kernels, by default
    saves_input: bool = False  # backward takes what forward took, and not what it gave
    by_row: bool = False  # an element depends on others of its row


# Those that `linear` takes by name, and that `fastnn.plot.activations` draws.
ACTIVATIONS = {
    "relu": Activation(),
    "leaky_relu": Activation(0.01),
    "elu": Activation(1.0),
    "selu": Activation(),
    "sigmoid": Activation(),
    "tanh": Activation(),
    "gelu": Activation(saves_input=True),
    "gelu_tanh": Activation(saves_input=True),
    "silu": Activation(saves_input=True),
    "mish": Activation(saves_input=True),
    "softplus": Activation(1.0),
    "softmax": Activation(by_row=True),
    "log_softmax": Activation(by_row=True),
}


def _forward(kernel: str, x: Any, out: Array | None, alpha: float = 0.0) -> Array:
    (x,) = floats(("x",), x)
    dtype = x.dtype
    y = output(out, x.shape, dtype, (x,), True)
    call(kernel, dtype, (y, x), (1,), (alpha,), x.size)
    return y


def _backward(kernel: str, dy: Any, saved: Any, out: Array | None, alpha: float = 0.0) -> Array:
    dy, saved = _gradient_and_saved(dy, saved)
    dtype = dy.dtype
    dx = output(out, dy.shape, dtype, (dy, saved), True)
    call(kernel, dtype, (dx, dy, saved), (1,), (alpha,), dy.size)
    return dx


def _gradient_and_saved(dy: Any, saved: Any) -> tuple[Array, Array]:
    dy, saved = floats(("dy", "saved"), dy, saved)
    if dy.shape != saved.shape:
        raise ValueError(f"dy: expected shape {saved.shape}, that of saved, got {dy.shape}")
    return dy, saved


def _columns(name: str, x: Array) -> int:
    if x.ndim == 0:
        raise ValueError(f"{name}: expected at least one axis, got shape ()")
    cols: int = x.shape[-1]
    return cols


def _forward_rows(kernel: str, x: Any, out: Array | None) -> Array:
    (x,) = floats(("x",), x)
    cols = _columns("x", x)
    y = output(out, x.shape, x.dtype, (x,), True)
    if cols:
        call(kernel, x.dtype, (y, x), (cols,), (0.0,), rows(x))
    return y


def _backward_rows(kernel: str, dy: Any, saved: Any, out: Array | None) -> Array:
    dy, saved = _gradient_and_saved(dy, saved)
    cols = _columns("dy", dy)
    dx = output(out, dy.shape, dy.dtype, (dy, saved), True)
    if cols:
        call(kernel, dy.dtype, (dx, dy, saved), (cols,), (0.0,), rows(dy))
    return dx


def exp(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return e to the power of x.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> exp([0.0, 1.0])
    array([1.        , 2.71828183])
    """
    return _forward("exp_forward", x, out)


def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return max(x, 0), the rectified linear unit (Nair and Hinton 2010).

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    return _forward("relu_forward", x, out)


def relu_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`relu` from its output: dy where y > 0, else 0.

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`relu`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> relu_backward([3.0, 3.0], saved=relu([-1.0, 2.0]))
    array([0., 3.])
    """
    return _backward("relu_backward", dy, saved, out)


def leaky_relu(
    x: ArrayLike, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Return x where x > 0, else negative_slope x (Maas, Hannun and Ng 2013).

    Parameters
    ----------
    x : array_like, any shape
    negative_slope : float
        At least 0, so that the output's sign is that of x.
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> leaky_relu([-1.0, 2.0])
    array([-0.01,  2.  ])
    """
    return _forward("leaky_relu_forward", x, out, at_least_0("negative_slope", negative_slope))


def leaky_relu_backward(
    dy: ArrayLike, saved: ArrayLike, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Return the gradient of :func:`leaky_relu` from its output: dy or negative_slope dy.

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`leaky_relu`.
    negative_slope : float
        As given to :func:`leaky_relu`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> leaky_relu_backward([3.0, 3.0], saved=leaky_relu([-1.0, 2.0]))
    array([0.03, 3.  ])
    """
    slope = at_least_0("negative_slope", negative_slope)
    return _backward("leaky_relu_backward", dy, saved, out, slope)


def elu(x: ArrayLike, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """Return x where x > 0, else alpha (e^x - 1) (Clevert, Unterthiner and Hochreiter 2015).

    Parameters
    ----------
    x : array_like, any shape
    alpha : float
        At least 0, so that the output's sign is that of x.
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> elu([-1.0, 2.0])
    array([-0.63212056,  2.        ])
    """
    return _forward("elu_forward", x, out, at_least_0("alpha", alpha))


def elu_backward(
    dy: ArrayLike, saved: ArrayLike, alpha: float = 1.0, *, out: Array | None = None
) -> Array:
    """Return the gradient of :func:`elu` from its output: dy where y > 0, else dy (y + alpha).

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`elu`.
    alpha : float
        As given to :func:`elu`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> elu_backward([1.0, 1.0], saved=elu([-1.0, 2.0]))
    array([0.36787944, 1.        ])
    """
    return _backward("elu_backward", dy, saved, out, at_least_0("alpha", alpha))


def selu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return s x where x > 0, else s alpha (e^x - 1), s = 1.0507…, alpha = 1.6732….

    The numbers are those of Klambauer, Unterthiner, Mayr and Hochreiter 2017.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> selu([-1.0, 2.0])
    array([-1.11133074,  2.10140197])
    """
    return _forward("selu_forward", x, out)


def selu_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`selu` from its output: s dy where y > 0, else dy (y + s alpha).

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`selu`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> selu_backward([1.0, 1.0], saved=selu([-1.0, 2.0]))
    array([0.6467686 , 1.05070099])
    """
    return _backward("selu_backward", dy, saved, out)


def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return 1 / (1 + e^-x), the logistic function.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> sigmoid([0.0, 1000.0])
    array([0.5, 1. ])
    """
    return _forward("sigmoid_forward", x, out)


def sigmoid_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`sigmoid` from its output: dy y (1 - y).

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`sigmoid`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> sigmoid_backward([1.0, 1.0], saved=sigmoid([0.0, 1000.0]))
    array([0.25, 0.  ])
    """
    return _backward("sigmoid_backward", dy, saved, out)


def tanh(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the hyperbolic tangent of x.

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> tanh([0.0, 0.5])
    array([0.        , 0.46211716])
    """
    return _forward("tanh_forward", x, out)


def tanh_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`tanh` from its output: dy (1 - y²).

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`tanh`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> tanh_backward([2.0, 2.0], saved=tanh([0.0, 0.5]))
    array([2.        , 1.57289547])
    """
    return _backward("tanh_backward", dy, saved, out)


_GELU = {"none": "gelu", "tanh": "gelu_tanh"}


def _gelu(approximate: str) -> str:
    return _GELU[choice("approximate", approximate, _GELU)]


def gelu(x: ArrayLike, approximate: str = "none", *, out: Array | None = None) -> Array:
    """Return x Φ(x), Φ the normal distribution (Hendrycks and Gimpel 2016).

    The approximation is x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.

    Parameters
    ----------
    x : array_like, any shape
    approximate : {"none", "tanh"}
        The exact function, or its approximation by tanh.
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> gelu([-1.0, 2.0])
    array([-0.15865525,  1.95449974])
    >>> gelu([-1.0, 2.0], approximate="tanh")
    array([-0.15880801,  1.95459769])
    """
    return _forward(f"{_gelu(approximate)}_forward", x, out)


def gelu_backward(
    dy: ArrayLike, saved: ArrayLike, approximate: str = "none", *, out: Array | None = None
) -> Array:
    """Return the gradient of :func:`gelu` from its input: dy (Φ(x) + x Φ'(x)).

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The input of :func:`gelu`.
    approximate : {"none", "tanh"}
        As given to :func:`gelu`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> gelu_backward([1.0, 1.0], saved=[-1.0, 2.0])
    array([-0.08331547,  1.0852318 ])
    """
    return _backward(f"{_gelu(approximate)}_backward", dy, saved, out)


def silu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return x sigmoid(x), also called swish (Elfwing, Uchibe and Doya 2018).

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> silu([-1.0, 2.0])
    array([-0.26894142,  1.76159416])
    """
    return _forward("silu_forward", x, out)


def silu_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`silu` from its input: dy s (1 + x (1 - s)), s = sigmoid(x).

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The input of :func:`silu`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> silu_backward([1.0, 1.0], saved=[-1.0, 2.0])
    array([0.07232949, 1.09078425])
    """
    return _backward("silu_backward", dy, saved, out)


def mish(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return x tanh(log(1 + e^x)) (Misra 2019).

    Parameters
    ----------
    x : array_like, any shape
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> mish([-1.0, 2.0])
    array([-0.30340146,  1.94395896])
    """
    return _forward("mish_forward", x, out)


def mish_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`mish` from its input: dy (t + x (1 - t²) sigmoid(x)).

    Here t = tanh(log(1 + e^x)).

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The input of :func:`mish`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> mish_backward([1.0, 1.0], saved=[-1.0, 2.0])
    array([0.05921676, 1.06931793])
    """
    return _backward("mish_backward", dy, saved, out)


def softplus(x: ArrayLike, beta: float = 1.0, *, out: Array | None = None) -> Array:
    """Return log(1 + e^(beta x)) / beta, a smooth ReLU (Dugas et al. 2001), without overflow.

    Parameters
    ----------
    x : array_like, any shape
    beta : float
        Above 0; the larger, the closer to :func:`relu`.
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> softplus([-1.0, 0.0, 1000.0])
    array([3.13261688e-01, 6.93147181e-01, 1.00000000e+03])
    """
    return _forward("softplus_forward", x, out, above_0("beta", beta))


def softplus_backward(
    dy: ArrayLike, saved: ArrayLike, beta: float = 1.0, *, out: Array | None = None
) -> Array:
    """Return the gradient of :func:`softplus` from its output: dy (1 - e^(-beta y)).

    Parameters
    ----------
    dy : array_like, any shape
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`softplus`.
    beta : float
        As given to :func:`softplus`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> softplus_backward([1.0, 1.0], saved=softplus([0.0, 1000.0]))
    array([0.5, 1. ])
    """
    return _backward("softplus_backward", dy, saved, out, above_0("beta", beta))


def softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return e^x / Σ e^x over the last axis, without overflow.

    Parameters
    ----------
    x : array_like, shape (..., n)
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> softmax([[0.0, 0.0], [0.0, 1000.0]])
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    return _forward_rows("softmax_forward", x, out)


def softmax_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`softmax` from its output: y (dy - Σ dy y).

    Parameters
    ----------
    dy : array_like, shape (..., n)
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`softmax`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> softmax_backward([1.0, 0.0], saved=softmax([0.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return _backward_rows("softmax_backward", dy, saved, out)


def log_softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return x - log Σ e^x over the last axis, without overflow.

    Parameters
    ----------
    x : array_like, shape (..., n)
    out : ndarray, shape of `x`, optional
        Where to put the result; may be `x` itself.

    Returns
    -------
    ndarray, shape of `x`

    Raises
    ------
    TypeError, ValueError
        If `x` or `out` does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> log_softmax([0.0, 1000.0])
    array([-1000.,     0.])
    """
    return _forward_rows("log_softmax_forward", x, out)


def log_softmax_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`log_softmax` from its output: dy - e^y Σ dy.

    Parameters
    ----------
    dy : array_like, shape (..., n)
        Gradient of the loss with respect to the output.
    saved : array_like, shape of `dy`
        The output of :func:`log_softmax`.
    out : ndarray, shape of `dy`, optional
        Where to put the result; may be `dy` or `saved` itself.

    Returns
    -------
    ndarray, shape of `dy`

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; see :mod:`fastnn.ops`.

    Examples
    --------
    >>> log_softmax_backward([1.0, 0.0], saved=log_softmax([0.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return _backward_rows("log_softmax_backward", dy, saved, out)
