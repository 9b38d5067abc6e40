"""Initial values of parameters, each as ``init(shape, rng=None, dtype="float32") -> ndarray``.

Shapes are PyTorch's: a weight is ``(out, in)``, with ``fan_in = in`` and ``fan_out = out``; further
axes multiply both, and with one axis both are its length. `rng` is an int, a
``numpy.random.Generator`` or None for fresh entropy; there is no global state. Values are drawn in
double precision, so that a seed gives the same weights in float32 and float64, up to rounding.

Layers take the name of a function of this module, or any callable with the same three arguments:

>>> from functools import partial
>>> from fastnn import initializers
>>> initializers.get("lecun_normal")((2, 3), rng=0).round(3)
array([[ 0.073, -0.076,  0.37 ],
       [ 0.061, -0.309,  0.209]], dtype=float32)
>>> initializers.get(partial(initializers.normal, std=1e-3))(2, rng=0).round(4)
array([ 0.0001, -0.0001], dtype=float32)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod, sqrt

import numpy as np
from numpy.typing import DTypeLike

from fastnn._door.numbers import at_least_0, choice, float_dtype, generator, shape as _shape
from fastnn._typing import Array, Rng

__all__ = [
    "get", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "normal", "ones",
    "orthogonal", "uniform", "uniform_fan_in", "xavier_normal", "xavier_uniform", "zeros",
]


def __dir__() -> list[str]:
    return __all__


Initializer = Callable[..., Array]
Shape = int | Sequence[int]


def zeros(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    """Return zeros, the usual start of a bias; `rng` is not used.

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.zeros(3)
    array([0., 0., 0.], dtype=float32)
    """
    generator(rng)
    return np.zeros(_shape("shape", shape), float_dtype(dtype))


def ones(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    """Return ones, the usual start of a normalization's weight; `rng` is not used.

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.ones(3)
    array([1., 1., 1.], dtype=float32)
    """
    generator(rng)
    return np.ones(_shape("shape", shape), float_dtype(dtype))


def normal(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32", *, std: float = 0.01
) -> Array:
    r"""Draw from a normal distribution with mean 0.

    .. math:: W \sim \mathcal N(0, \text{std}^2)

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}
    std : float
        Standard deviation, at least 0 (PyTorch's ``normal_`` has 1).

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.normal((100, 100), rng=0, std=0.5).std().round(2)
    np.float32(0.5)
    """
    std = at_least_0("std", std)
    return (std * generator(rng).standard_normal(_shape("shape", shape))).astype(float_dtype(dtype))


def uniform(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32", *, bound: float = 0.01
) -> Array:
    r"""Draw from a uniform distribution around 0.

    .. math:: W \sim U(-\text{bound}, \text{bound})

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}
    bound : float
        At least 0; 1 / sqrt(in_features) for the bias of PyTorch's linear layer.

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Examples
    --------
    >>> from fastnn import initializers
    >>> abs(initializers.uniform(1000, rng=0, bound=0.5)).max().round(2)
    np.float32(0.5)
    """
    bound = at_least_0("bound", bound)
    return generator(rng).uniform(-bound, bound, _shape("shape", shape)).astype(float_dtype(dtype))


def lecun_normal(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    r"""Draw from a normal distribution that keeps the variance of the input.

    .. math:: W \sim \mathcal N(0, 1 / \text{fan\_in})

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    LeCun et al. 1998, Efficient BackProp, section 4.6: ``randn / sqrt(fan_in)``. Keras and JAX
    truncate the distribution at two standard deviations.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.lecun_normal((200, 100), rng=0).std().round(3)
    np.float32(0.1)
    """
    fan_in, _ = _fans(shape)
    return normal(shape, rng, dtype, std=1 / sqrt(fan_in))


def lecun_uniform(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    r"""Draw from a uniform distribution that keeps the variance of the input.

    .. math:: W \sim U(-b, b), \quad b = \sqrt{3 / \text{fan\_in}}

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    LeCun et al. 1998, Efficient BackProp, section 4.6.

    Examples
    --------
    >>> from fastnn import initializers
    >>> abs(initializers.lecun_uniform((200, 300), rng=0)).max().round(3)
    np.float32(0.1)
    """
    fan_in, _ = _fans(shape)
    return uniform(shape, rng, dtype, bound=sqrt(3 / fan_in))


def xavier_normal(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    r"""Draw from a normal distribution that suits forward and backward pass alike.

    .. math:: W \sim \mathcal N(0, 2 / (\text{fan\_in} + \text{fan\_out}))

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    Glorot & Bengio 2010, equation 12; for sigmoid and tanh.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.xavier_normal((100, 100), rng=0).std().round(3)
    np.float32(0.1)
    """
    fan_in, fan_out = _fans(shape)
    return normal(shape, rng, dtype, std=sqrt(2 / (fan_in + fan_out)))


def xavier_uniform(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    r"""Draw from a uniform distribution that suits forward and backward pass alike.

    .. math:: W \sim U(-b, b), \quad b = \sqrt{6 / (\text{fan\_in} + \text{fan\_out})}

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    Glorot & Bengio 2010, equation 16; for sigmoid and tanh.

    Examples
    --------
    >>> from fastnn import initializers
    >>> abs(initializers.xavier_uniform((300, 300), rng=0)).max().round(3)
    np.float32(0.1)
    """
    fan_in, fan_out = _fans(shape)
    return uniform(shape, rng, dtype, bound=sqrt(6 / (fan_in + fan_out)))


def he_normal(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    r"""Draw from a normal distribution that keeps the variance through a ReLU.

    .. math:: W \sim \mathcal N(0, 2 / \text{fan\_in})

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    He et al. 2015 (arXiv 1502.01852), equation 10; PyTorch's ``kaiming_normal_`` for "relu".

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.he_normal((100, 200), rng=0).std().round(3)
    np.float32(0.1)
    """
    fan_in, _ = _fans(shape)
    return normal(shape, rng, dtype, std=sqrt(2 / fan_in))


def he_uniform(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    r"""Draw from a uniform distribution that keeps the variance through a ReLU.

    .. math:: W \sim U(-b, b), \quad b = \sqrt{6 / \text{fan\_in}}

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    He et al. 2015 (arXiv 1502.01852), equation 10; PyTorch's ``kaiming_uniform_`` for "relu".

    Examples
    --------
    >>> from fastnn import initializers
    >>> abs(initializers.he_uniform((100, 600), rng=0)).max().round(3)
    np.float32(0.1)
    """
    fan_in, _ = _fans(shape)
    return uniform(shape, rng, dtype, bound=sqrt(6 / fan_in))


def uniform_fan_in(shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32") -> Array:
    r"""Draw from the distribution of PyTorch's linear layer.

    .. math:: W \sim U(-b, b), \quad b = 1 / \sqrt{\text{fan\_in}}

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    PyTorch writes it as ``kaiming_uniform_(a=sqrt(5))``. Its variance is a third of LeCun's.

    Examples
    --------
    >>> from fastnn import initializers
    >>> abs(initializers.uniform_fan_in((100, 100), rng=0)).max().round(3)
    np.float32(0.1)
    """
    fan_in, _ = _fans(shape)
    return uniform(shape, rng, dtype, bound=1 / sqrt(fan_in))


def orthogonal(
    shape: Shape, rng: Rng = None, dtype: DTypeLike = "float32", *, gain: float = 1.0
) -> Array:
    r"""Draw a matrix with orthonormal rows or columns, whichever are fewer, times a gain.

    .. math:: W W^\top = \text{gain}^2 I \quad\text{or}\quad W^\top W = \text{gain}^2 I

    Parameters
    ----------
    shape : int or tuple of int
    rng : int, numpy.random.Generator or None
    dtype : {"float32", "float64"}
    gain : float
        Factor of the result, at least 0.

    Returns
    -------
    ndarray, shape `shape`

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong type or out of range.

    Notes
    -----
    Saxe et al. 2014 (arXiv 1312.6120). Q with the signs of R's diagonal is uniform over all
    orthogonal matrices (Mezzadri 2007, arXiv math-ph/0609050).

    Examples
    --------
    >>> from fastnn import initializers
    >>> q = initializers.orthogonal((2, 4), rng=0, dtype="float64")
    >>> abs(q @ q.T - [[1, 0], [0, 1]]).max().round(12)
    np.float64(0.0)
    """
    shape, dtype, gain = _shape("shape", shape), float_dtype(dtype), at_least_0("gain", gain)
    if len(shape) < 2:
        raise ValueError(f"shape: expected at least 2 axes, got {shape}")
    rows, columns = shape[0], prod(shape[1:])
    tall = generator(rng).standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(tall)
    q *= gain * np.copysign(1.0, np.diagonal(r))
    return np.ascontiguousarray(q if rows >= columns else q.T, dtype).reshape(shape)


def get(init: str | Initializer) -> Initializer:
    """Return the initializer of that name, or the callable itself.

    Parameters
    ----------
    init : str or callable

    Returns
    -------
    callable

    Raises
    ------
    TypeError, ValueError
        If `init` is neither a callable nor one of the names here.

    Examples
    --------
    >>> from fastnn import initializers
    >>> initializers.get("he_normal") is initializers.he_normal
    True
    """
    if callable(init):
        return init
    if not isinstance(init, str):
        raise TypeError(f"init: expected a name or a callable, got {init!r}")
    found: Initializer = globals()[choice("init", init, sorted(set(__all__) - {"get"}))]
    return found


def _fans(shape: Shape) -> tuple[int, int]:
    """Return fan_in and fan_out, at least 1 each so that empty weights are no special case."""
    shape = _shape("shape", shape)
    if not shape:
        raise ValueError("shape: expected at least 1 axis, got ()")
    fan_in, fan_out = prod(shape[1:] or shape), shape[0] * prod(shape[2:])
    return max(fan_in, 1), max(fan_out, 1)
