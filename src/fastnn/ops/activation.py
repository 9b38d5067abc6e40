"""Activations and their gradients on arrays. See :mod:`fastnn.ops`."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from fastnn._documented import documented
from fastnn._door.numbers import number
from fastnn._kernels.core import call
from fastnn._kernels.door import floats, output, rows

Array = NDArray[Any]

_documented = documented(
    {
        "x": """
            x : array_like, any shape
                float32 or float64; other real dtypes are converted, integers to float32.""",
        "dy": """
            dy : array_like, any shape
                Gradient of the loss with respect to the output.""",
        "saved": """
            saved : array_like, shape of `dy`
                What forward took or gave, as said above.""",
        "negative_slope": """
            negative_slope : float
                Slope for negative x; at least 0, so that the sign of the output is that of x.""",
        "approximate": """
            approximate : {"none", "tanh"}
                The exact function, or its approximation by tanh.""",
        "out": """
            out : ndarray, optional
                Array of the result's shape and dtype to put it in; may be an argument itself.""",
    },
    """
    Returns
    -------
    ndarray, shape of the first argument
        float64 if an argument is, else float32.

    Raises
    ------
    TypeError
        If an argument is no array of real numbers, or `out` has another dtype than the result.
    ValueError
        If a shape does not fit, a value is out of range, or `out` is read-only, not C-contiguous
        or overlaps an argument in part.
    """,
)



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
    return x.shape[-1]


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


@_documented
def exp(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return e to the power of x.

    Examples
    --------
    >>> exp([0.0, 1.0])
    array([1.        , 2.71828183])
    """
    return _forward("exp_forward", x, out)


@_documented
def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return max(x, 0), the rectified linear unit (Nair and Hinton 2010).

    Examples
    --------
    >>> relu([-1.0, 2.0])
    array([0., 2.])
    """
    return _forward("relu_forward", x, out)


@_documented
def relu_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`relu` from its output: dy where y > 0, else 0.

    Examples
    --------
    >>> relu_backward([3.0, 3.0], saved=relu([-1.0, 2.0]))
    array([0., 3.])
    """
    return _backward("relu_backward", dy, saved, out)


@_documented
def leaky_relu(
    x: ArrayLike, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Return x where x > 0, else negative_slope x (Maas, Hannun and Ng 2013).

    Examples
    --------
    >>> leaky_relu([-1.0, 2.0])
    array([-0.01,  2.  ])
    """
    return _forward("leaky_relu_forward", x, out, number("negative_slope", negative_slope))


@_documented
def leaky_relu_backward(
    dy: ArrayLike, saved: ArrayLike, negative_slope: float = 0.01, *, out: Array | None = None
) -> Array:
    """Return the gradient of :func:`leaky_relu` from its output: dy or negative_slope dy.

    Examples
    --------
    >>> leaky_relu_backward([3.0, 3.0], saved=leaky_relu([-1.0, 2.0]))
    array([0.03, 3.  ])
    """
    slope = number("negative_slope", negative_slope)
    return _backward("leaky_relu_backward", dy, saved, out, slope)


@_documented
def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return 1 / (1 + e^-x), the logistic function.

    Examples
    --------
    >>> sigmoid([0.0, 1000.0])
    array([0.5, 1. ])
    """
    return _forward("sigmoid_forward", x, out)


@_documented
def sigmoid_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`sigmoid` from its output: dy y (1 - y).

    Examples
    --------
    >>> sigmoid_backward([1.0, 1.0], saved=sigmoid([0.0, 1000.0]))
    array([0.25, 0.  ])
    """
    return _backward("sigmoid_backward", dy, saved, out)


@_documented
def tanh(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the hyperbolic tangent of x.

    Examples
    --------
    >>> tanh([0.0, 0.5])
    array([0.        , 0.46211716])
    """
    return _forward("tanh_forward", x, out)


@_documented
def tanh_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`tanh` from its output: dy (1 - y²).

    Examples
    --------
    >>> tanh_backward([2.0, 2.0], saved=tanh([0.0, 0.5]))
    array([2.        , 1.57289547])
    """
    return _backward("tanh_backward", dy, saved, out)


_GELU = {"none": "gelu", "tanh": "gelu_tanh"}


def _gelu(approximate: str) -> str:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate: expected 'none' or 'tanh', got {approximate!r}")
    return _GELU[approximate]


@_documented
def gelu(x: ArrayLike, approximate: str = "none", *, out: Array | None = None) -> Array:
    """Return x Φ(x), Φ the normal distribution (Hendrycks and Gimpel 2016).

    The approximation is x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.

    Examples
    --------
    >>> gelu([-1.0, 2.0])
    array([-0.15865525,  1.95449974])
    >>> gelu([-1.0, 2.0], approximate="tanh")
    array([-0.15880801,  1.95459769])
    """
    return _forward(f"{_gelu(approximate)}_forward", x, out)


@_documented
def gelu_backward(
    dy: ArrayLike, saved: ArrayLike, approximate: str = "none", *, out: Array | None = None
) -> Array:
    """Return the gradient of :func:`gelu` from its input: dy (Φ(x) + x Φ'(x)).

    Examples
    --------
    >>> gelu_backward([1.0, 1.0], saved=[-1.0, 2.0])
    array([-0.08331547,  1.0852318 ])
    """
    return _backward(f"{_gelu(approximate)}_backward", dy, saved, out)


@_documented
def silu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return x sigmoid(x), also called swish (Elfwing, Uchibe and Doya 2018).

    Examples
    --------
    >>> silu([-1.0, 2.0])
    array([-0.26894142,  1.76159416])
    """
    return _forward("silu_forward", x, out)


@_documented
def silu_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`silu` from its input: dy s (1 + x (1 - s)), s = sigmoid(x).

    Examples
    --------
    >>> silu_backward([1.0, 1.0], saved=[-1.0, 2.0])
    array([0.07232949, 1.09078425])
    """
    return _backward("silu_backward", dy, saved, out)


@_documented
def softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return e^x / Σ e^x over the last axis, without overflow.

    Examples
    --------
    >>> softmax([[0.0, 0.0], [0.0, 1000.0]])
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    return _forward_rows("softmax_forward", x, out)


@_documented
def softmax_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`softmax` from its output: y (dy - Σ dy y).

    Examples
    --------
    >>> softmax_backward([1.0, 0.0], saved=softmax([0.0, 0.0]))
    array([ 0.25, -0.25])
    """
    return _backward_rows("softmax_backward", dy, saved, out)


@_documented
def log_softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Return x - log Σ e^x over the last axis, without overflow.

    Examples
    --------
    >>> log_softmax([0.0, 1000.0])
    array([-1000.,     0.])
    """
    return _forward_rows("log_softmax_forward", x, out)


@_documented
def log_softmax_backward(dy: ArrayLike, saved: ArrayLike, *, out: Array | None = None) -> Array:
    """Return the gradient of :func:`log_softmax` from its output: dy - e^y Σ dy.

    Examples
    --------
    >>> log_softmax_backward([1.0, 0.0], saved=log_softmax([0.0, 0.0]))
    array([ 0.5, -0.5])
    """
    return _backward_rows("log_softmax_backward", dy, saved, out)
