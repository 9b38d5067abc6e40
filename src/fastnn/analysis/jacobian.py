"""Derivatives of a model's predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastnn._door.numbers import choice
from fastnn._kernels.door import as_input, empty, ready, repeat_rows
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
    run = _pass_of(model, x.shape[1:])
    with run.lock or unchanged(model):
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
    if wrt == "input":
        single, run = False, _kept(model, x)
        if run is None:
            _refuse_integers(model)
            x, single = inputs(model, x)
            run = _pass_of(model, x.shape[1:])
        with run.lock or unchanged(model):
            result = run.jacobian(x)  # type: ignore[arg-type]  # x is an array by now
        return result[0] if single else result
    choice("wrt", wrt, ("input", "parameters"))
    x, single = inputs(model, x)
    with unchanged(model):
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


class _InputPass(Pass):
    """A pass for derivatives with respect to inputs, which a model keeps until it changes."""

    def __init__(self, model: Layer, shape: tuple[int, ...]) -> None:
        super().__init__(model, shape)
        # to be held during a run; layers in Python may change what they like, others nothing
        in_python = any(type(layer).plan is Layer.plan for _, layer in model._layers())
        self.lock: Any = None if in_python else model._built().lock
        self.shape, self.at_a_time = shape, max(1, ROWS // max(self.outputs, 1))
        self.room = -1  # samples for which there are arrays

    def jacobian(self, x: Array) -> Array:
        """Return (rows, *outputs, *inputs): one backward pass for each output of each row."""
        n = len(x)
        result = empty((n, *self.output_shape, *self.shape), self.dtype)
        if n <= self.at_a_time:
            self._fill(x, result)
            return result
        for start in range(0, n, self.at_a_time):
            part = slice(start, start + self.at_a_time)
            self._fill(x[part], result[part])
        return result

    def _fill(self, x: Array, result: Array) -> None:
        n = len(x)
        if n > self.room:
            self._reserve(n)
        rows = n * self.outputs
        repeat_rows(x, self.outputs, self.x)
        self.program.forward(rows, self.x, self.y, self.arrays)
        self.program.backward(rows, self.dy, result, self.arrays)

    def _reserve(self, n: int) -> None:
        """Make arrays for n samples, each repeated for every output."""
        k, rows = self.outputs, n * self.outputs
        self.x, self.y = empty((n, k, *self.shape), self.dtype), empty((rows, k), self.dtype)
        self.dy = np.tile(np.eye(k, dtype=self.dtype), (n, 1))
        self.arrays = {
            carried.slot: empty((carried.parts, rows, *carried.shape), self.dtype)
            for carried in self.schedule.carried
        }
        self.room = n


def _kept(model: Layer, x: Any) -> _InputPass | None:
    """Return the pass that is kept for an array that kernels read as it is, or None."""
    built = model._model
    if built is None or not ready(x, built.dtype) or x.ndim < 2:
        return None
    found: _InputPass | None = built.programs.get(("as it predicts", x.shape[1:]))
    return found


def _pass_of(model: Layer, shape: tuple[int, ...]) -> _InputPass:
    """Return the pass for inputs of that shape."""
    built, key = model._built(), ("as it predicts", shape)
    found: _InputPass | None = built.programs.get(key)
    if found is None:
        with built.lock:
            found = built.programs.keep(key, _InputPass(model, shape))
    return found
