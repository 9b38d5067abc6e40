"""Arrays that belong to a layer and lie in the arrays of its model."""

from __future__ import annotations

from math import prod

import numpy as np


class _Placed:
    """Arrays of a layer that get their place when the model is built, at the latest when read."""

    __slots__ = ()
    _arrays = ("data",)

    def __getattr__(self, name):
        if name not in self._arrays:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        self._layer._outermost()._model()
        return object.__getattribute__(self, name)

    @property
    def placed(self):
        """Whether the arrays are there."""
        try:
            type(self).data.__get__(self)
        except AttributeError:
            return False
        return True

    def __getstate__(self):
        unset = () if self.placed else self._arrays
        return None, {name: getattr(self, name) for name in self.__slots__ if name not in unset}


class Parameter(_Placed):
    """A trainable array of a layer and its gradient, views into the model's arena.

    Attributes
    ----------
    name : str
        Its key in ``state_dict()``, such as ``"0.weight"``.
    data : ndarray
        The values, C-contiguous; write into it, do not replace it. To read it first gives the
        whole model its initial values.
    grad : ndarray
        The gradient of the last backward pass, same shape.
    shape : tuple of int
    grad_ready : bool
        Whether a backward pass has written `grad`.
    sparse : bool
        Whether backward passes touch only some rows of `grad`, which `rows` names.
    """

    __slots__ = (
        "_init", "_layer", "_rows", "_used", "data", "grad", "grad_ready", "name", "shape",
        "sparse",
    )  # fmt: skip
    _arrays = ("data", "grad")

    def __init__(self, layer, name, shape, init, sparse=False):
        self._layer, self.name, self.shape, self._init = layer, name, tuple(shape), init
        self.sparse, self._rows, self._used, self.grad_ready = sparse, None, None, False

    def _place(self, name, data, grad):
        """Move into arrays of the model's; there is no gradient yet."""
        self.name, self.data, self.grad, self.grad_ready = name, data, grad, False
        if self.sparse:  # as the kernel embedding_backward_rows keeps them
            self._rows = np.zeros(1 + self.shape[0], np.int64)
            self._used = np.zeros(self.shape[0], np.uint8)

    @property
    def rows(self):
        """Indices of the rows of `grad` that may differ from zero; None if all may."""
        if self._rows is None or self._rows[0] < 0:
            return None
        return self._rows[1 : 1 + self._rows[0]].copy()

    def mark_dense(self):
        """Make the next update read all rows of `grad`, after something was added to them."""
        if self._rows is not None:
            self._rows[0] = -1

    @property
    def size(self):
        """Number of elements."""
        return prod(self.shape)

    def __repr__(self):
        return f"Parameter({self.name!r}, shape={self.shape})"


class Buffer(_Placed):
    """A named array that is part of a layer's state but is not trained."""

    __slots__ = ("_layer", "data", "name", "shape", "value")

    def __init__(self, layer, name, shape, value):
        self._layer, self.name, self.shape, self.value = layer, name, tuple(shape), value


def mark_gradients(parameters):
    """Note that a backward pass has written the gradients of `parameters`."""
    for parameter in parameters:
        parameter.grad_ready = True
