"""A model as it is now, packed for prediction."""

from __future__ import annotations

import copy
from typing import Any

from fastnn._door.numbers import shape as checked
from fastnn._kernels.door import output
from fastnn._kernels.predictor import ADDRESS, Caller, Frozen
from fastnn._planning.watched import new_lock
from fastnn._typing import Array, Shape
from fastnn.layers.model import Recent
from fastnn.prediction.packing import Packed, copied


class Predictor(Caller):
    """A frozen copy of a model that predicts, from ``model.predictor()``.

    ``p(x)`` has the bits of ``model(x)`` as the model was when the predictor was made; to train
    that further changes nothing here. Weights are packed once. A call makes one check of an array
    that fits and waits for no other: any number of threads may call at once, each on its own
    processor, and only what has to be planned is planned by one after the other.
    With layers in Python it is a copy, too, but calls are as fast as the model's and one waits for
    the other.

    Parameters
    ----------
    model : Layer
    input_shape : tuple of int, optional
        Of one row, where the model takes several; `address` needs it then.

    Attributes
    ----------
    input_shape : tuple of int or None
        Of one row, where it is fixed by the model or when the predictor was made.

    Raises
    ------
    TypeError, ValueError
        If `input_shape` is no shape, or does not fit the model.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Sequential(fastnn.Linear(4, 8), fastnn.ReLU(), fastnn.Linear(8, 2), rng=0)
    >>> p = model.predictor()
    >>> x, y = np.ones((1, 4), np.float32), np.empty((1, 2), np.float32)
    >>> p(x, out=y) is y, np.array_equal(y, model(x))
    (True, True)
    """

    def __init__(self, model: Any, input_shape: Shape | None = None) -> None:
        self._given = None if input_shape is None else checked("input_shape", input_shape)
        model._built()  # a copy made before would draw first values of its own
        self._model = copy.deepcopy(model)
        self._made, self._lock = Recent(), new_lock()
        self._packed = Packed()
        self._fixed: Frozen | None = None
        self.input_shape = self._model.input_shape() if self._given is None else self._given
        self.single = bool(self._model._needs_features)
        if self.input_shape is not None:
            self.last = self._fixed = self._frozen(self.input_shape)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the model."""
        return type(self), (self._model, self._given)

    def _frozen(self, shape: Shape) -> Frozen | None:
        """Return the forward pass for rows of this shape; None if a part of it is in Python."""
        with self._lock:  # two threads that come with new shapes plan one after the other
            if shape in self._made:
                known: Frozen | None = self._made[shape]
                return known
            schedule = self._model._schedule(shape, False)
            found = None
            if not any(op.python for op in schedule.operations):
                found = Frozen(self._packed.program(schedule), shape, schedule.y.shape)
            return self._made.keep(shape, found)

    def _answer(self, x: Any, out: Any) -> Array:
        """Compute what has another shape than the last call, or must be converted or refused."""
        model, dtype = self._model, self._model._built().dtype
        x = model._as_input(x, dtype)
        if x.ndim == 0:
            raise ValueError("x: expected at least one axis, got a scalar")
        single = x.ndim == 1 and self.single
        rows = x[None] if single else x
        found = self._frozen(rows.shape[1:])
        if found is None:
            y = model._run(x, False)
            return y if out is None else copied(output(out, y.shape, dtype, (x,)), y)
        shape = found.y_shape if single else (len(rows), *found.y_shape)
        y = output(out, shape, dtype, (x,))
        found(rows, y[None] if single else y)
        self.last = found
        return y

    # For C -----------------------------------------------------------------------------------

    def _for_c(self) -> Frozen:
        if self._fixed is None and self.input_shape is None:
            raise ValueError(
                "input_shape: expected the shape of one row, since the model takes several; make "
                "the predictor with model.predictor(input_shape=...)"
            )
        if self._fixed is None:
            raise TypeError(
                "model: expected a fastnn layer of kernels alone, got one with a part in Python"
            )
        return self._fixed

    @property
    def address(self) -> int:
        """Of ``void f(void *context, const void *x, ptrdiff_t rows, void *y)``.

        The C function computes y (rows, ...) from x (rows, ...), both contiguous and of the model's
        dtype; indices are int64, and not checked. It needs no GIL, several threads may call it at
        once, and it is good for as long as the predictor lives.
        """
        return ADDRESS if self._for_c() else 0

    @property
    def context(self) -> int:
        """What the function at `address` gets first."""
        return self._for_c().context

    @property
    def capsule(self) -> Any:
        """A PyCapsule of the C function and its context, which keeps the predictor's weights.

        ``scipy.LowLevelCallable`` takes it; so do Numba and Cython.
        """
        return self._for_c().capsule()
