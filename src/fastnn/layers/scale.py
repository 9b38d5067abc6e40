"""A factor for each feature."""

from __future__ import annotations

from numpy.typing import DTypeLike

from fastnn import initializers
from fastnn._door.numbers import positive
from fastnn._planning.builder import Builder, RowCount, Value
from fastnn._typing import Rng, Shape
from fastnn.layers.attribute import fixed
from fastnn.layers.base import Layer, rows_and_columns

__all__ = ["Scale"]


class Scale(Layer):
    r"""A trainable factor for each feature, :math:`y = x \cdot w`.

    Before the first dense layer it learns which features count, if its rate is larger than that of
    the weights.

    Parameters
    ----------
    num_features : int
        Length of the last axis.
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None

    Attributes
    ----------
    weight : Parameter, shape (num_features,)
        Starts at one.

    Raises
    ------
    TypeError, ValueError
        If `num_features` is no positive integer.

    Notes
    -----
    Takes any number of leading axes. The scaling layer of RealMLP: Holzmüller, Grinsztajn &
    Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular data",
    NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> layer = fastnn.Scale(2)
    >>> layer.weight.data = [1, 10]
    >>> layer(np.array([[3.0, 4.0]]))
    array([[ 3., 40.]], dtype=float32)
    """

    _needs_features = True
    num_features = fixed[int]()

    def __init__(
        self, num_features: int, *, dtype: DTypeLike | None = None, rng: Rng = None
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.num_features = positive("num_features", num_features)
        self.weight = self.parameter("weight", (self.num_features,), initializers.ones)

    def input_shape(self) -> Shape:
        """Return ``(num_features,)``."""
        return (self.num_features,)

    def plan(self, builder: Builder, x: Value) -> Value:
        """One product forward; one for the input and one sum for the factors backward."""
        if not x.shape or x.shape[-1] != self.num_features:
            raise ValueError(
                f"x: expected {self.num_features} features on the last axis, "
                f"got shape {('batch', *x.shape)}"
            )
        cols, weight = self.num_features, self.weight
        rows, _ = rows_and_columns(x.shape)
        y = builder.value(x.shape)
        builder.forward("scale_forward", [y, x, weight.array], sizes=(cols,), items=rows)
        builder.backward("scale_forward", [x.grad, y.grad, weight.array], sizes=(cols,), items=rows)
        builder.gradient(
            "scale_backward_weight", [weight.grad_array, y.grad, x],
            items=cols, sizes=(cols, RowCount(rows)),
        )
        return y

    def __repr__(self) -> str:
        return f"Scale({self.num_features})"
