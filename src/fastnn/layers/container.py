"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike

from fastnn._door.arrays import describe
from fastnn._planning.builder import Builder, Value
from fastnn._typing import Array, Rng, Shape
from fastnn.layers.base import Layer, rows_and_columns

__all__ = ["Concat", "Residual", "Sequential"]


class _Container(Layer):
    """Holds layers under the names "0", "1", ...; the outermost container owns the parameters."""

    def __init__(
        self, *layers: Layer, dtype: DTypeLike | None = None, rng: Rng = None
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.layers = layers

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, a tuple; another one takes effect at the next call."""
        return self._held

    @layers.setter
    def layers(self, layers: Iterable[Layer]) -> None:
        if not isinstance(layers, Iterable):
            raise TypeError(f"layers: expected a list of layers, got {describe(layers)}")
        held = tuple(layers)
        for position, layer in enumerate(held):
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
        before = self._model  # which programs ask whether it has changed: it must still be there
        self._held, self._model = held, None
        self._claim()
        self.changed()
        del before

    def _claim(self) -> None:
        for layer in self._held:
            if layer._lock is None:
                layer._container = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._claim()

    def children(self) -> dict[str, Layer]:
        """Return the layers by name."""
        return {str(i): layer for i, layer in enumerate(self._held)}

    def input_shape(self) -> Shape | None:
        """Return the shape that the first layer which wants one expects, if it gets the input's."""
        return self._first_shape(lambda layer: layer.input_shape())

    def _typical_shape(self) -> Shape | None:
        """Return that of the first layer which has one, if it gets the input's."""
        return self._first_shape(lambda layer: layer._typical_shape())

    def _first_shape(self, wanted: Callable[[Layer], Shape | None]) -> Shape | None:
        for layer in self.layers:
            if (shape := wanted(layer)) is not None:
                return shape
            if not layer.keeps_shape():
                break
        return None

    def keeps_shape(self) -> bool:
        """Return whether all layers do."""
        return all(layer.keeps_shape() for layer in self.layers)

    @property
    def _takes_integers(self) -> bool:
        return bool(self.layers) and self.layers[0]._takes_integers

    @property
    def _needs_features(self) -> bool:
        return not self._takes_integers

    def _input(self, builder: Builder, shape: Shape) -> Value:
        if self.layers:
            return self.layers[0]._input(builder, shape)
        return super()._input(builder, shape)

    def _as_input(self, x: Any, dtype: np.dtype[Any]) -> Array:
        if self.layers:
            return self.layers[0]._as_input(x, dtype)
        return super()._as_input(x, dtype)

    def _chain(self, builder: Builder, x: Value) -> Value:
        for name, layer in self.children().items():
            x = builder.plan(layer, x, name)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    @overload
    def __getitem__(self, index: int) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Layer, ...]: ...
    def __getitem__(self, index: int | slice) -> Layer | tuple[Layer, ...]:
        return self.layers[index]

    def __repr__(self) -> str:
        parts = [repr(layer) for layer in self.layers]
        line = f"{type(self).__name__}({', '.join(parts)})"
        if len(line) <= 80:
            return line
        inside = ",\n".join(parts).replace("\n", "\n    ")
        return f"{type(self).__name__}(\n    {inside},\n)"


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

    def __init__(self, *layers: Layer, dtype: DTypeLike = "float32", rng: Rng = None) -> None:
        super().__init__(*layers, dtype=dtype, rng=rng)

    # What the input is, the first layer decides: an embedding takes integers.

    def plan(self, builder: Builder, x: Value) -> Value:
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

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> layer = fastnn.Residual(fastnn.ReLU(), dtype="float64")
    >>> layer(np.array([[-1.0, 2.0]]))
    array([[-1.,  4.]])
    """

    def plan(self, builder: Builder, x: Value) -> Value:
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

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> layer = fastnn.Concat(fastnn.Tanh(), fastnn.ReLU(), dtype="float64")
    >>> layer(np.array([[-1.0, 2.0]])).round(3)
    array([[-0.762,  0.964,  0.   ,  2.   ]])
    """

    def keeps_shape(self) -> bool:
        """Return False."""
        return False

    def _as_input(self, x: Any, dtype: np.dtype[Any]) -> Array:
        array: Array = x
        for branch in self.layers:  # indices must be in the range of each
            array = branch._as_input(array, dtype)
        return array

    def plan(self, builder: Builder, x: Value) -> Value:
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
