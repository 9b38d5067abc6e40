"""Dense layers."""

from __future__ import annotations

from numpy.typing import DTypeLike

from fastnn import initializers
from fastnn._door.numbers import boolean, positive
from fastnn._planning.builder import Builder, RowCount, Value
from fastnn._typing import Rng, Shape
from fastnn.layers.attribute import fixed
from fastnn.layers.base import Layer, rows_and_columns

__all__ = ["Linear"]


class Linear(Layer):
    r"""Affine map of the last axis, :math:`y = x W^\top + b`.

    Parameters
    ----------
    in_features, out_features : int
    bias : bool
    init : str or callable
        Initial weights: a name from :mod:`fastnn.initializers` or ``init(shape, rng, dtype)``.
        The bias starts at zero (PyTorch draws it at random).
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None

    Attributes
    ----------
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter, shape (out_features,), or None

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, `bias` neither True nor False, or `init` no initializer.

    Notes
    -----
    Takes any number of leading axes. Backward: :math:`dx = dy\,W`, :math:`dW = dy^\top x`,
    :math:`db = \sum dy` (Goodfellow, Bengio & Courville 2016, algorithm 6.4).

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.Linear(3, 2, rng=0)(np.ones((4, 3), np.float32)).shape
    (4, 2)
    """

    _needs_features = True
    in_features, out_features = fixed[int](), fixed[int]()

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        init: str | initializers.Initializer = "lecun_normal",
        *,
        dtype: DTypeLike | None = None,
        rng: Rng = None,
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.in_features = positive("in_features", in_features)
        self.out_features = positive("out_features", out_features)
        shape = (self.out_features, self.in_features)
        self.weight = self.parameter("weight", shape, initializers.get(init))
        bias = boolean("bias", bias)
        self.bias = self.parameter("bias", shape[:1], initializers.zeros) if bias else None
        if not bias:
            self.no_parameter("bias")

    def input_shape(self) -> Shape:
        """Return ``(in_features,)``."""
        return (self.in_features,)

    def plan(self, builder: Builder, x: Value) -> Value:
        """One product forward; one for the input and one for the weights backward."""
        if not x.shape or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x: expected {self.in_features} features on the last axis, "
                f"got shape {('batch', *x.shape)}"
            )
        n_in, n_out = self.in_features, self.out_features
        rows, _ = rows_and_columns(x.shape)
        weight, bias = self.weight, self.bias
        y = builder.value((*x.shape[:-1], n_out))
        builder.forward(
            "linear_forward", [y, x, weight.array, None if bias is None else bias.array],
            sizes=(n_in, n_out), items=rows,
        )
        builder.backward(
            "linear_backward_input", [x.grad, y.grad, weight.array],
            sizes=(n_in, n_out), items=rows,
        )
        builder.gradient(
            "linear_backward_weight",
            [weight.grad_array, None if bias is None else bias.grad_array, y.grad, x],
            items=n_out, sizes=(n_in, n_out, RowCount(rows)),
        )
        return y

    def __repr__(self) -> str:
        bias = "" if self.bias else ", bias=False"
        return f"Linear({self.in_features}, {self.out_features}{bias})"
