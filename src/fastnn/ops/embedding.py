"""Embeddings on arrays. See :mod:`fastnn.ops`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.arrays import as_indices
from fastnn._door.numbers import positive, shape
from fastnn._kernels.core import call
from fastnn._kernels.door import floats
from fastnn._typing import Array

__all__ = ["embedding", "embedding_backward"]


def embedding(index: ArrayLike, weight: ArrayLike) -> Array:
    """Return the rows of `weight` that `index` names.

    Parameters
    ----------
    index : array_like of int, any shape
    weight : array_like, shape (num, dim)

    Returns
    -------
    ndarray, shape (..., dim)

    Raises
    ------
    TypeError
        If `index` is not integer or `weight` no array of real numbers.
    ValueError
        If an index is out of range or `weight` has not two axes.

    Examples
    --------
    >>> embedding([2, 0], [[1.0, 1.5], [2.0, 2.5], [3.0, 3.5]])
    array([[3. , 3.5],
           [1. , 1.5]])
    """
    (weight,) = floats(("weight",), weight)
    if weight.ndim != 2:
        raise ValueError(f"weight: expected two axes (num, dim), got shape {weight.shape}")
    places = as_indices(index, "index", weight.shape[0])
    dim = weight.shape[1]
    y = np.empty((*places.shape, dim), weight.dtype)
    # not the stride of the first axis, which of a single row may be anything
    row_bytes = dim * weight.itemsize
    call("gather_rows", weight.dtype, (y, weight, places), (row_bytes,), (), places.size)
    return y


def embedding_backward(dy: ArrayLike, index: ArrayLike, num_embeddings: int) -> Array:
    """Return the gradient of :func:`embedding` for its weight: sums of the rows of dy by index.

    Parameters
    ----------
    dy : array_like, shape (..., dim)
    index : array_like of int, shape (...)
    num_embeddings : int

    Returns
    -------
    ndarray, shape (num_embeddings, dim)

    Raises
    ------
    TypeError
        If `index` or `num_embeddings` is not integer, or `dy` no array of real numbers.
    ValueError
        If an index is out of range, a shape does not fit, or `num_embeddings` is not positive.

    Examples
    --------
    >>> embedding_backward([[1.0], [2.0], [3.0]], [0, 2, 0], 3).ravel()
    array([4., 0., 2.])
    """
    (dy,) = floats(("dy",), dy)
    num_embeddings = positive("num_embeddings", num_embeddings)
    places = as_indices(index, "index", num_embeddings)
    if dy.ndim == 0 or dy.shape[:-1] != places.shape:
        raise ValueError(f"dy: expected shape {(*places.shape, 'dim')}, got {dy.shape}")
    dim = dy.shape[-1]
    dweight = np.empty(shape("num_embeddings", (num_embeddings, dim)), dy.dtype)
    call("embedding_backward", dy.dtype, (dweight, dy, places),
         (dim, places.size, num_embeddings), (), num_embeddings)
    return dweight
