"""Put data on a common scale, and new data on the same one; cut long sequences into batches.

>>> import numpy as np
>>> from fastnn import preprocessing
>>> train, test = np.array([[1.0, 10.0], [3.0, 30.0]]), np.array([[2.0, 40.0]])
>>> train, statistics = preprocessing.standardize(train)
>>> train
array([[-1., -1.],
       [ 1.,  1.]])
>>> statistics.apply(test)
array([[0., 2.]])
>>> statistics.invert(statistics.apply(test))
array([[ 2., 40.]])

The input is never modified. float32 and float64 stay what they are; integers, booleans and float16
become float32. Statistics are computed and applied in float64, so that float32 results are right to
one unit in the last place, however far from 0 the data lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_any, as_array
from fastnn._door.numbers import integer, positive
from fastnn._typing import Array

Axis = int | Sequence[int] | None

__all__ = ["Statistics", "center", "continue_rows", "rescale", "standardize"]


def __dir__() -> list[str]:
    return __all__


class Statistics(NamedTuple):
    """What was done to the data: ``(x - shift) / scale``.

    Attributes
    ----------
    shift, scale : ndarray of float64
        Shapes that broadcast with the data; that of one row for ``axis=0``.
    """

    shift: Array
    scale: Array

    def apply(self, x: ArrayLike) -> Array:
        """Return ``(x - shift) / scale``.

        Parameters
        ----------
        x : array_like
            New data, or a single row of it.

        Returns
        -------
        ndarray, shape of `x`

        Raises
        ------
        TypeError
            If `x` does not hold real numbers.
        ValueError
            If its shape does not fit the statistics.

        Examples
        --------
        >>> from fastnn import preprocessing
        >>> _, statistics = preprocessing.rescale([[0.0], [10.0]])
        >>> statistics.apply([[5.0], [20.0]])
        array([[0.],
               [3.]])
        """
        x = self._fitting(x)
        y = np.subtract(x, self.shift, dtype=np.float64, order="C")
        y /= self.scale
        return y.astype(_result_dtype(x), copy=False)

    def invert(self, x: ArrayLike) -> Array:
        """Return ``x * scale + shift``, the data that `apply` turns into `x`.

        Parameters
        ----------
        x : array_like
            Data on the common scale.

        Returns
        -------
        ndarray, shape of `x`

        Raises
        ------
        TypeError
            If `x` does not hold real numbers.
        ValueError
            If its shape does not fit the statistics.

        Examples
        --------
        >>> from fastnn import preprocessing
        >>> _, statistics = preprocessing.rescale([[0.0], [10.0]])
        >>> statistics.invert([[0.0], [3.0]])
        array([[ 5.],
               [20.]])
        """
        x = self._fitting(x)
        y = np.multiply(x, self.scale, dtype=np.float64, order="C")
        y += self.shift
        return y.astype(_result_dtype(x), copy=False)

    def _fitting(self, x: ArrayLike) -> Array:
        x = as_array(x, "x")
        try:
            fits = np.broadcast_shapes(x.shape, self.shift.shape) == x.shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"x: expected shape (..., *{self.shift.shape}), got {x.shape}")
        return x


def center(x: ArrayLike, axis: Axis = 0) -> tuple[Array, Statistics]:
    r"""Subtract the mean: :math:`x - \bar x`.

    Parameters
    ----------
    x : array_like
        Rows of samples, unless `axis` says otherwise.
    axis : int, tuple of int or None
        Axes over which the mean is taken: 0 for each feature of (samples, features), (0, 1) for
        each feature of (samples, time, features), None for one mean of all.

    Returns
    -------
    ndarray, shape of `x`
    Statistics
        With scale 1.

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.
    ValueError
        If it is empty along `axis`, or has NaN or infinities.

    Examples
    --------
    >>> from fastnn import preprocessing
    >>> y, statistics = preprocessing.center([[1.0, 10.0], [3.0, 30.0]])
    >>> y
    array([[ -1., -10.],
           [  1.,  10.]])
    >>> statistics.shift
    array([ 2., 20.])
    """
    x, axes, low, high = _range(x, axis)
    mean = _mean(x, axes, low, high)
    return _result(x, axes, mean, np.ones_like(mean))


def standardize(x: ArrayLike, axis: Axis = 0) -> tuple[Array, Statistics]:
    r"""Subtract the mean and divide by the standard deviation: :math:`(x - \bar x) / \sigma`.

    The result has mean 0 and variance 1; where all values are equal it is 0.

    Parameters
    ----------
    x : array_like
        Rows of samples, unless `axis` says otherwise.
    axis : int, tuple of int or None
        Axes over which mean and deviation are taken.

    Returns
    -------
    ndarray, shape of `x`
    Statistics
        Mean and standard deviation (1 where all values are equal).

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.
    ValueError
        If it is empty along `axis`, or has NaN or infinities.

    Notes
    -----
    The deviation divides by n, as NumPy's and scikit-learn's do, not by n - 1 as that of pandas.

    Examples
    --------
    >>> from fastnn import preprocessing
    >>> y, statistics = preprocessing.standardize([[1.0, 7.0], [3.0, 7.0]])
    >>> y
    array([[-1.,  0.],
           [ 1.,  0.]])
    >>> statistics.scale
    array([1., 1.])
    """
    x, axes, low, high = _range(x, axis)
    mean = _mean(x, axes, low, high)
    deviation = np.subtract(x, mean, dtype=np.float64)
    # Squares of numbers in [-1, 1] neither overflow nor vanish.
    largest = np.maximum(high - mean, mean - low)
    largest[largest == 0] = 1
    deviation /= largest
    deviation *= deviation
    scale = largest * np.sqrt(deviation.mean(axes, keepdims=True))
    return _result(x, axes, mean, np.where(low == high, 1, scale))


def rescale(x: ArrayLike, axis: Axis = 0) -> tuple[Array, Statistics]:
    r"""Map the range of the data to [-1, 1]: :math:`(x - m) / r`.

    Here :math:`m` is the middle and :math:`r` the half width of the range from minimum to maximum.
    Where all values are equal the result is 0. New data may lie outside [-1, 1].

    Parameters
    ----------
    x : array_like
        Rows of samples, unless `axis` says otherwise.
    axis : int, tuple of int or None
        Axes over which minimum and maximum are taken.

    Returns
    -------
    ndarray, shape of `x`
    Statistics
        Middle and half width of the range (1 where all values are equal).

    Raises
    ------
    TypeError
        If `x` does not hold real numbers.
    ValueError
        If it is empty along `axis`, or has NaN or infinities.

    Examples
    --------
    >>> from fastnn import preprocessing
    >>> y, statistics = preprocessing.rescale([[0.0, 7.0], [1.0, 7.0], [4.0, 7.0]])
    >>> y
    array([[-1. ,  0. ],
           [-0.5,  0. ],
           [ 1. ,  0. ]])
    >>> statistics.shift
    array([2., 7.])
    """
    x, axes, low, high = _range(x, axis)
    middle = np.where(low == high, low, low / 2 + high / 2)
    # Measured from the rounded middle, so that no quotient exceeds 1.
    half = np.maximum(high - middle, middle - low)
    return _result(x, axes, middle, np.where(half == 0, 1, half))


def continue_rows(sequence: ArrayLike, batch_size: int, steps: int) -> Array:
    """Cut one long sequence into batches whose rows continue those of the batch before.

    The sequence is parted into `batch_size` stretches of equal length, and these into windows of
    `steps` elements: batch k holds the k-th window of every stretch. What is left at the end, less
    than ``batch_size * steps`` elements, is dropped.

    Parameters
    ----------
    sequence : array_like, shape (length, ...)
        Of any dtype.
    batch_size : int
        Stretches that are read side by side.
    steps : int
        Elements of a window; gradients go back that far.

    Returns
    -------
    ndarray, shape (windows * batch_size, steps, ...)
        For `Trainer.fit` with ``stateful=True``, ``shuffle=False`` and this batch size.

    Raises
    ------
    TypeError
        If a size is no integer.
    ValueError
        If a size is not positive, or the sequence is too short for one window of each stretch.

    Examples
    --------
    >>> import numpy as np
    >>> from fastnn import preprocessing
    >>> preprocessing.continue_rows(np.arange(14), batch_size=2, steps=3)
    array([[ 0,  1,  2],
           [ 6,  7,  8],
           [ 3,  4,  5],
           [ 9, 10, 11]])
    """
    x = as_any(sequence, "sequence")
    batch, steps = positive("batch_size", batch_size), positive("steps", steps)
    windows = len(x) // (batch * steps) if x.ndim else 0
    if windows == 0:
        raise ValueError(
            f"sequence: expected at least batch_size * steps = {batch * steps} elements, "
            f"got shape {x.shape}"
        )
    stretches = x[: batch * windows * steps].reshape(batch, windows, steps, *x.shape[1:])
    return stretches.swapaxes(0, 1).reshape(windows * batch, steps, *x.shape[1:])


def _result_dtype(x: Array) -> np.dtype:
    double = x.dtype.kind == "f" and x.dtype.itemsize >= 8
    return np.dtype(np.float64 if double else np.float32)


def _range(x: Any, axis: Axis) -> tuple[Array, tuple[int, ...], Array, Array]:
    """Return `x` as an array, the axes, and minimum and maximum with those axes kept."""
    x = as_array(x, "x")
    axes = range(x.ndim) if axis is None else axis if np.iterable(axis) else (axis,)
    axes = [integer("axis", one, -x.ndim, x.ndim - 1) for one in axes]
    axes = np.lib.array_utils.normalize_axis_tuple(axes, x.ndim, "axis")
    if any(x.shape[i] == 0 for i in axes):
        raise ValueError(f"x: expected at least one element along axis {axis}, got shape {x.shape}")
    low, high = (f(x, axis=axes, keepdims=True).astype(np.float64) for f in (np.min, np.max))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("x: expected finite values, got NaN or infinity")
    return x, axes, low, high


def _mean(x: Array, axes: tuple[int, ...], low: Array, high: Array) -> Array:
    """Return the mean, exactly the value itself where all values are equal."""
    mean = x.mean(axes, dtype=np.float64, keepdims=True)
    mean += np.subtract(x, mean, dtype=np.float64).mean(axes, keepdims=True)
    return np.where(low == high, low, mean)


def _result(
    x: Array, axes: tuple[int, ...], shift: Array, scale: Array
) -> tuple[Array, Statistics]:
    # Leading axes of length 1 are of no use to broadcasting; without them a single row fits too.
    leading = next((i for i in range(x.ndim) if i not in axes), x.ndim)
    rows = shift.shape[leading:]
    statistics = Statistics(shift.reshape(rows), scale.reshape(rows))
    return statistics.apply(x), statistics
