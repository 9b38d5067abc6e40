"""Derivatives of a model's predictions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.numbers import choice
from fastnn._kernels.door import as_input
from fastnn._typing import Array
from fastnn.analysis.backward import ROWS, Pass, RowJacobian, expect_layer, inputs, unchanged
from fastnn.layers.base import Layer

__all__ = ["input_gradient", "jacobian"]



def input_gradient(model: Layer, x: ArrayLike, dy: ArrayLike) -> Array:
    r"""Back-propagate through a model as it predicts: the product of dy and the Jacobian.

    Parameters
    ----------
    model : Layer
    x : array_like, shape (rows, ...)
    dy : array_like, shape of the prediction
        Gradient of something with respect to the prediction.

    Returns
    -------
    ndarray, shape of `x`
        Its gradient with respect to the input, of the model's dtype.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or the model takes integers, which have no derivative.
    ValueError
        If a shape does not fit.

    Notes
    -----
    "As it predicts" is without dropout and with running statistics. A layer in Python is run with
    ``training=True``, for a backward pass follows.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Sequential(fastnn.Dropout(0.5), fastnn.Linear(2, 1, rng=0))
    >>> model.set_flat([1, 2, 3])
    >>> fastnn.analysis.input_gradient(model, np.zeros((1, 2)), [[1.0]])
    array([[1., 2.]], dtype=float32)
    """
    model = expect_layer(model)
    _refuse_integers(model)
    x, single = inputs(model, x)
    with unchanged(model):
        run = _pass_of(model, x.shape[1:])
        dy = as_input(dy, "dy", run.dtype)
        if single:
            dy = dy[None]
        shape = (len(x), *run.output_shape)
        if dy.shape != shape:
            raise ValueError(f"dy: expected shape {shape[single:]}, got {dy.shape[single:]}")
        run.forward(x)
        dx = run.backward(dy)
    assert dx is not None
    return dx[0] if single else dx


def jacobian(model: Layer, x: ArrayLike, wrt: str = "input") -> Array:
    r"""Return the derivatives of a model's predictions, row by row, as it predicts.

    Parameters
    ----------
    model : Layer
    x : array_like, shape (rows, ...)
    wrt : {"input", "parameters"}
        With respect to what: the row itself, or all parameters in the order of ``get_flat()``.

    Returns
    -------
    ndarray, shape (rows, \*outputs, \*inputs) or (rows, \*outputs, P)
        Of the model's dtype. One sample without an axis for the batch gives a result without.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind, or derivatives with respect to integers are wanted.
    ValueError
        If a shape does not fit, or `wrt` is neither.

    Notes
    -----
    By one backward pass for each output, all rows together. A dense layer's parameters have the
    product of its input and the gradient that comes back to it, row by row; those of recurrent
    layers and of layers in Python take a backward pass per row. "As it predicts" is without dropout
    and with running statistics.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Linear(2, 1, rng=0)
    >>> model.set_flat([1, 2, 3])
    >>> fastnn.analysis.jacobian(model, np.array([[4.0, 5.0]]))
    array([[[1., 2.]]], dtype=float32)
    >>> fastnn.analysis.jacobian(model, np.array([[4.0, 5.0]]), wrt="parameters")
    array([[[4., 5., 1.]]], dtype=float32)
    """
    model = expect_layer(model)
    if choice("wrt", wrt, ("input", "parameters")) == "input":
        _refuse_integers(model)
    x, single = inputs(model, x)
    with unchanged(model):
        if wrt == "input":
            result = _input_jacobian(_pass_of(model, x.shape[1:]), x)
        else:
            rows = RowJacobian(model, x.shape[1:])
            _, result = rows(x)
            result = result.reshape(len(x), *rows.output_shape, result.shape[-1])
    return result[0] if single else result


def _refuse_integers(model: Layer) -> None:
    if model._takes_integers:
        raise TypeError(
            "x: expected a model of real numbers, got one that takes integers, which have no "
            "derivative; wrt='parameters' has that with respect to the parameters"
        )


def _pass_of(model: Layer, shape: tuple[int, ...]) -> Pass:
    """Return the pass for inputs of that shape, which the model keeps until it changes."""
    programs, key = model._built().programs, ("as it predicts", shape)
    found: Pass | None = programs.get(key)
    return found or programs.keep(key, Pass(model, shape))


def _input_jacobian(run: Pass, x: Array) -> Array:
    outputs = run.outputs
    eye = np.eye(outputs, dtype=run.dtype)
    result = np.empty((len(x) * outputs, *x.shape[1:]), run.dtype)
    at_a_time = max(1, ROWS // max(outputs, 1))
    for start in range(0, len(x), at_a_time):
        part = np.repeat(x[start : start + at_a_time], outputs, axis=0)
        dy = np.tile(eye, (len(part) // outputs, 1)).reshape(-1, *run.output_shape)
        run.forward(part)
        result[start * outputs : start * outputs + len(part)] = run.backward(dy)
    return result.reshape(len(x), *run.output_shape, *x.shape[1:])
