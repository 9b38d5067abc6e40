"""Layer and batch normalization."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from numpy.typing import DTypeLike

from fastnn import initializers
from fastnn._door.numbers import above_0, boolean, fraction, positive, shape
from fastnn._planning.builder import BACKWARD, FORWARD, ITEMS, Builder, Pointer, RowCount, Value
from fastnn._typing import Rng, Shape
from fastnn.layers.attribute import fixed, option
from fastnn.layers.base import Layer
from fastnn.layers.shared_statistics import SharedStatistics

__all__ = ["BatchNorm1d", "LayerNorm"]


class _Normalization(Layer):
    """An optional weight, which starts at one, and bias, which starts at zero."""

    eps = option(above_0)

    def _declare(self, affine: bool, shape: Shape) -> None:
        self.weight = self.parameter("weight", shape, initializers.ones) if affine else None
        self.bias = self.parameter("bias", shape, initializers.zeros) if affine else None
        if not affine:
            self.no_parameter("weight")
            self.no_parameter("bias")

    def _values(self) -> list[Pointer]:
        return [None if p is None else p.array for p in (self.weight, self.bias)]

    def _gradients(self) -> list[Pointer]:
        return [None if p is None else p.grad_array for p in (self.weight, self.bias)]


class LayerNorm(_Normalization):
    r"""Zero mean and unit variance of each sample over its trailing axes, then an affine map.

    .. math::
        \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y = w \hat x + b

    with the mean and the biased variance of each sample.

    Parameters
    ----------
    normalized_shape : int or tuple of int
        The trailing axes.
    eps : float
    elementwise_affine : bool
        Whether there are a weight and a bias.
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None

    Attributes
    ----------
    weight, bias : Parameter, shape normalized_shape, or None

    Raises
    ------
    TypeError, ValueError
        If `eps` is no positive number, `normalized_shape` empty or not of positive integers, or
        `elementwise_affine` neither True nor False.

    Notes
    -----
    Ba, Kiros & Hinton 2016, arXiv 1607.06450, equations 3 and 4. Backward, with
    :math:`g = w \odot \partial L / \partial y` and means over the sample,

    .. math::
        \frac{\partial L}{\partial x} = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
        \bigl(g - \overline{g} - \hat x\, \overline{g \hat x}\bigr)

    Statistics are exact for means far from zero: in
    float32 a row of 10000 ± 0.01 loses no digits to its mean.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> fastnn.LayerNorm(2)(np.array([[1.0, 3.0]])).round(3)
    array([[-1.,  1.]], dtype=float32)
    """

    _needs_features = True
    normalized_shape, elementwise_affine = fixed[Shape](), fixed[bool]()

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        *,
        dtype: DTypeLike | None = None,
        rng: Rng = None,
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.normalized_shape = shape("normalized_shape", normalized_shape, 1)
        if not self.normalized_shape:
            raise ValueError("normalized_shape: expected at least one axis, got ()")
        self.eps = eps
        self.elementwise_affine = boolean("elementwise_affine", elementwise_affine)
        self._declare(self.elementwise_affine, self.normalized_shape)

    def input_shape(self) -> Shape:
        """Return the normalized shape."""
        return self.normalized_shape

    def plan(self, builder: Builder, x: Value) -> Value:
        """One operation forward; one for the input and one for the parameters backward."""
        axes = len(self.normalized_shape)
        if x.shape[len(x.shape) - axes :] != self.normalized_shape or len(x.shape) < axes:
            raise ValueError(
                f"x: expected trailing axes {self.normalized_shape}, "
                f"got shape {('batch', *x.shape)}"
            )
        cols = prod(self.normalized_shape)
        rows = x.size // cols
        y = builder.value(x.shape)
        saved = [builder.value((rows,), name) for name in ("mean", "tail", "rstd")]
        builder.forward("layer_norm_forward", [y, *saved, x, *self._values()],
                        sizes=(cols,), scalars=(self.eps,), items=rows)
        builder.backward("layer_norm_backward", [x.grad, y.grad, x, self._values()[0],
                                                 *saved],
                         sizes=(cols,), items=rows)
        if self.weight:
            builder.gradient("layer_norm_backward_weight", [*self._gradients(), y.grad, x,
                                                            *saved],
                             items=cols, sizes=(cols, RowCount(rows)))
        return y

    def __repr__(self) -> str:
        return f"LayerNorm({self.normalized_shape}, eps={self.eps})"


class BatchNorm1d(_Normalization):
    r"""Zero mean and unit variance of each feature over the batch, then an affine map.

    .. math::
        \hat x = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y = w \hat x + b

    In training μ and σ² are the mean and the biased variance of the batch, and running ones are
    kept, :math:`r \leftarrow (1 - m)\, r + m\, s` with the momentum m for a statistic s of the
    batch; otherwise the running ones are used.

    Parameters
    ----------
    num_features : int
    eps : float
    momentum : float
        Share of the new batch in the running statistics, in [0, 1].
    affine : bool
        Whether there are a weight and a bias.
    dtype : {"float32", "float64"}, optional
    rng : int, numpy.random.Generator or None

    Attributes
    ----------
    weight, bias : Parameter, shape (num_features,), or None
    running_mean, running_var : Buffer, shape (num_features,)
        The variance is unbiased, as in PyTorch.

    Raises
    ------
    TypeError, ValueError
        If `num_features` is no positive integer, `eps` no positive number, `momentum` no number in
        [0, 1], or `affine` neither True nor False.

    Notes
    -----
    Ioffe & Szegedy 2015, arXiv 1502.03167, algorithms 1 and 2. Backward, with
    :math:`g = w \odot \partial L / \partial y` and means over the batch,

    .. math::
        \frac{\partial L}{\partial x} = \frac{1}{\sqrt{\sigma^2 + \epsilon}}
        \bigl(g - \overline{g} - \hat x\, \overline{g \hat x}\bigr)

    Input (batch, features), or (batch, features, length)
    with statistics over batch and length.

    Examples
    --------
    >>> import numpy as np, fastnn
    >>> layer = fastnn.BatchNorm1d(1)
    >>> layer.forward(np.array([[1.0], [3.0]]), training=True).round(3)
    array([[-1.],
           [ 1.]], dtype=float32)
    """

    _needs_features = True
    num_features, affine, momentum = fixed[int](), fixed[bool](), option(fraction)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        *,
        dtype: DTypeLike | None = None,
        rng: Rng = None,
    ) -> None:
        super().__init__(dtype=dtype, rng=rng)
        self.num_features = positive("num_features", num_features)
        self.eps = eps
        self.momentum = momentum
        self.affine = boolean("affine", affine)
        self._declare(self.affine, (self.num_features,))
        self.running_mean = self.buffer("running_mean", (self.num_features,), 0)
        self.running_var = self.buffer("running_var", (self.num_features,), 1)

    def input_shape(self) -> Shape:
        """Return ``(num_features,)``."""
        return (self.num_features,)

    def plan(self, builder: Builder, x: Value) -> Value:
        """Statistics are shared by channels among threads, so every pass is one operation."""
        if len(x.shape) not in (1, 2) or x.shape[0] != self.num_features:
            raise ValueError(
                f"x: expected (batch, {self.num_features}) or (batch, {self.num_features}, "
                f"length), got shape {('batch', *x.shape)}"
            )
        channels, length = self.num_features, prod(x.shape[1:])
        running = [self.running_mean.array, self.running_var.array]
        y = builder.value(x.shape)
        if not builder.training:
            builder.forward("batch_norm_inference", [y, x, *running, *self._values()],
                            sizes=(channels, length), scalars=(self.eps,))
            return y
        if builder.shared is not None and builder.group is not None:
            trained = [p for p in (self.weight, self.bias) if p and builder.trains(p)]
            builder.parameters.update(dict.fromkeys(trained))
            shared = SharedStatistics(self, builder.group, trained)
            builder.shared.append(shared)
            builder.python(FORWARD, shared.forward, [y, x])
            builder.python(BACKWARD, shared.backward, [x.grad, y.grad], parameters=True)
            return y
        builder.require_rows(2 if length == 1 else 1)
        saved = [builder.room(name, channels) for name in ("mean", "tail", "rstd")]
        sizes = (channels, length, RowCount())
        builder.forward("batch_norm_forward", [y, *saved, *running, x, *self._values()],
                        sizes=sizes, scalars=(self.eps, self.momentum), split=ITEMS,
                        items=channels)
        builder.backward("batch_norm_backward", [x.grad, *self._gradients(), y.grad, x,
                                                 self._values()[0], *saved],
                         sizes=sizes, split=ITEMS, items=channels)
        return y

    def __repr__(self) -> str:
        return f"BatchNorm1d({self.num_features}, eps={self.eps}, momentum={self.momentum})"
