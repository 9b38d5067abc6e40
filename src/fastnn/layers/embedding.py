"""Tables of vectors by integer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from fastnn import initializers
from fastnn._door.arrays import as_indices
from fastnn._door.numbers import boolean, positive
from fastnn._planning.builder import SERIAL, Builder, RowCount, Value
from fastnn._typing import Array, Rng, Shape
from fastnn.layers.attribute import fixed
from fastnn.layers.base import TYPICAL_LENGTH, Layer

__all__ = ["Embedding"]


class Embedding(Layer):
    r"""A trainable vector for each integer, :math:`y = W_x`.

    Parameters
    ----------
    num_embeddings : int
        Indices run from 0 to ``num_embeddings - 1``.
    embedding_dim : int
    sparse : bool
        Whether a training step leaves alone the rows that its batch does not use: backward writes
        only rows of the gradient that are used or were the last time, and optimizers update only
        the rows used. See Notes.
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None

    Attributes
    ----------
    weight : Parameter, shape (num_embeddings, embedding_dim)
        Starts normal with unit variance, as in PyTorch.

    Raises
    ------
    TypeError, ValueError
        If a size is no positive integer, or `sparse` neither True nor False.

    Notes
    -----
    Takes integers of any shape ``(batch, ...)`` and adds an axis. It must be the first layer;
    ``backward`` returns None, for integers have no gradient. Backward: the gradient of a row of W
    is the sum of dy over the places that hold its index; all other rows get zero.

    With `sparse` a step costs what the rows of the batch cost, however large the table. The update
    is lazy: momentum, moments and weight decay of a row stand still while it is not used, and
    bias correction counts all steps of the optimizer. For SGD without momentum and for Adagrad,
    both without weight decay, that is what the dense update does; for the others it is the rule
    of ``torch.optim.SparseAdam``. LAMB, whose trust ratio is that of the whole table, updates all
    rows, as does a trainer with `l2` or with several processes. ``weight.rows`` names the rows.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.Embedding(10, 3, rng=0)(np.array([[1, 2], [2, 9]])).shape
    (2, 2, 3)
    """

    num_embeddings, embedding_dim, sparse = fixed[int](), fixed[int](), fixed[bool]()

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        sparse: bool = False,
        *,
        dtype: DTypeLike | None = None,
        rng: Rng = None,
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.num_embeddings = positive("num_embeddings", num_embeddings)
        self.embedding_dim = positive("embedding_dim", embedding_dim)
        shape = (self.num_embeddings, self.embedding_dim)
        init = partial(initializers.normal, std=1.0)
        self.sparse = boolean("sparse", sparse)
        self.weight = self.parameter("weight", shape, init, self.sparse)

    def keeps_shape(self) -> bool:
        """Return False."""
        return False

    def _typical_shape(self) -> Shape:
        """Return the shape of a sequence of some length."""
        return (TYPICAL_LENGTH,)

    _takes_integers = True

    def _input(self, builder: Builder, shape: Shape) -> Value:
        return builder.value(shape, "x", "int64", slot="x")

    def _as_input(self, x: Any, dtype: np.dtype[Any]) -> Array:
        return as_indices(x, "x", self.num_embeddings)

    def plan(self, builder: Builder, x: Value) -> Value:
        """One copy of rows forward, one sum over them backward."""
        if x.dtype != np.int64:
            raise ValueError(f"x: expected integers as the input of a model, got {x.dtype}")
        builder.require_indices(self.num_embeddings)
        dim, count = self.embedding_dim, x.size
        y = builder.value((*x.shape, dim))
        builder.forward("gather_rows", [y, self.weight.array, x],
                        sizes=(dim * builder.dtype.itemsize,), items=count)
        weight, num = self.weight, self.num_embeddings
        if weight.sparse:
            rows, used = weight._rows, weight._used
            assert rows is not None  # they are made with the weight's place
            assert used is not None
            arrays = builder.array("rows", rows), builder.array("used", used)
            builder.gradient("embedding_backward_rows", [weight.grad_array, *arrays, y.grad, x],
                             items=1, split=SERIAL,
                             sizes=(dim, RowCount(count), num, builder.dense))
        else:
            builder.gradient("embedding_backward", [weight.grad_array, y.grad, x], items=num,
                             sizes=(dim, RowCount(count), num))
        return y

    def __repr__(self) -> str:
        sparse = ", sparse=True" if self.sparse else ""
        return f"Embedding({self.num_embeddings}, {self.embedding_dim}{sparse})"
