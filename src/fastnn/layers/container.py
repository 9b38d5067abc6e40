"""Layers made of layers."""

from __future__ import annotations

from typing import Any

from fastnn.layers.base import Layer, rows_and_columns

__all__ = ["Concat", "Residual", "Sequential"]


class _Container(Layer):
    """Holds layers under the names "0", "1", ...; the outermost container owns the parameters."""

    def __init__(self, *layers, dtype=None, rng=None):
        super().__init__(dtype=dtype, rng=rng)
        self.layers = layers

    @property
    def layers(self):
        """The layers, a tuple; another one takes effect at the next call."""
        return self._held

    @layers.setter
    def layers(self, layers: Any) -> None:
        layers = tuple(layers)
        for position, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(
                    f"layers[{position}]: expected a fastnn layer, got {type(layer).__name__}"
                )
            if "_parameters" not in layer.__dict__:
                raise TypeError(
                    f"layers[{position}]: expected a layer whose __init__ calls "
                    f"super().__init__(), got {type(layer).__name__}"
                )
            if any(inside is self for _, inside in layer._places()):
                raise ValueError(f"layers[{position}]: expected one that does not hold this one")
        self._held, self._model = layers, None
        self._claim()
        self.changed()

    def _claim(self):
        for layer in self._held:
            if layer._lock is None:
                layer._container = self

    def __setstate__(self, state):
        super().__setstate__(state)
        self._claim()

    def children(self):
        """Return the layers by name."""
        return {str(i): layer for i, layer in enumerate(self._held)}

    def input_shape(self):
        """Return the shape that the first layer which wants one expects, if it gets the input's."""
        for layer in self.layers:
            if (shape := layer.input_shape()) is not None:
                return shape
            if not layer.keeps_shape():
                break
        return None

    def keeps_shape(self):
        """Return whether all layers do."""
        return all(layer.keeps_shape() for layer in self.layers)

    @property
    def _takes_integers(self):
        return bool(self.layers) and self.layers[0]._takes_integers

    @property
    def _needs_features(self):
        return not self._takes_integers

    def _input(self, builder, shape):
        return (self.layers[0] if self.layers else super())._input(builder, shape)

    def _as_input(self, x, dtype):
        return (self.layers[0] if self.layers else super())._as_input(x, dtype)

    def _chain(self, builder, x):
        for name, layer in self.children().items():
            x = builder.plan(layer, x, name)
        return x

    def __len__(self):
        return len(self.layers)

    def __getitem__(self, index):
        return self.layers[index]

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"


class Sequential(_Container):
    """Layers one after the other.

    Parameters
    ----------
    *layers : Layer
    dtype : {"float32", "float64"}
        Of all parameters and buffers.
    rng : int, numpy.random.Generator or None
        Source of all initial values and of dropout.

    Raises
    ------
    TypeError
        If one of `layers` is not a layer.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> model = fastnn.Sequential(fastnn.Linear(4, 8), fastnn.ReLU(), fastnn.Linear(8, 2), rng=0)
    >>> model(np.zeros((5, 4), np.float32)).shape
    (5, 2)
    """

    def __init__(self, *layers, dtype="float32", rng=None):
        super().__init__(*layers, dtype=dtype, rng=rng)

    # What the input is, the first layer decides: an embedding takes integers.

    def plan(self, builder, x):
        """Plan one layer on the output of the other."""
        return self._chain(builder, x)


class Residual(_Container):
    """x + f(x) where f is the layers one after the other (He et al. 2016, arXiv 1512.03385).

    Parameters
    ----------
    *layers : Layer
        Together they must keep the shape.
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None
    """

    def plan(self, builder, x):
        """Plan the layers and a sum; the gradient goes both ways."""
        rows, cols = rows_and_columns(x.shape)
        inner = self._chain(builder, x)
        if inner.shape != x.shape:
            raise ValueError(
                f"layers: expected an output of the input's shape {('batch', *x.shape)}, "
                f"got {('batch', *inner.shape)}"
            )
        y = builder.value(x.shape)
        sizes = {"items": rows}
        builder.forward("add_forward", [y, x, inner], sizes=(cols,), **sizes)
        # runs in reverse: first inner's gradient, then x's, which inner's layers add to
        all_columns = (cols, cols, cols, 0, 0)
        builder.backward("copy_columns", [x.grad, y.grad], sizes=all_columns, **sizes)
        builder.backward("copy_columns", [inner.grad, y.grad], sizes=all_columns, **sizes)
        return y


class Concat(_Container):
    """Outputs of several branches for the same input, joined along the last axis.

    Parameters
    ----------
    *branches : Layer
        Their outputs may differ in the last axis only.
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None
    """

    def keeps_shape(self):
        """Return False."""
        return False

    def _as_input(self, x, dtype):
        for branch in self.layers:  # indices must be in the range of each
            x = branch._as_input(x, dtype)
        return x

    def plan(self, builder, x):
        """Plan every branch and copy its columns into place."""
        if not self.layers:
            raise ValueError("branches: expected at least one")
        parts = [builder.plan(layer, x, name) for name, layer in self.children().items()]
        leading = parts[0].shape[:-1]
        for part in parts:
            if not part.shape or part.shape[:-1] != leading:
                raise ValueError(
                    "branches: expected outputs that differ in the last axis only, got "
                    + ", ".join(str(("batch", *p.shape)) for p in parts)
                )
        width = sum(part.shape[-1] for part in parts)
        y = builder.value((*leading, width))
        rows, _ = rows_and_columns(y.shape)
        start = 0
        for part in parts:
            cols = part.shape[-1]
            details = {"items": rows}
            builder.forward("copy_columns", [y, part], sizes=(cols, width, cols, start, 0),
                            **details)
            builder.backward("copy_columns", [part.grad, y.grad],
                             sizes=(cols, cols, width, 0, start), **details)
            start += cols
        return y
