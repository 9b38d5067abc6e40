"""Products of the Hessian and a vector: by formula where there is one, else by differences."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnn._door.arrays import convert
from fastnn._typing import Array
from fastnn.analysis.backward import Pass, columns_of, expect_layer, inputs, unchanged
from fastnn.layers.activation import (
    ELU,
    GELU,
    SELU,
    LeakyReLU,
    LogSoftmax,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from fastnn.layers.base import Layer
from fastnn.layers.container import Concat, Residual, Sequential
from fastnn.layers.dropout import Dropout
from fastnn.layers.embedding import Embedding
from fastnn.layers.linear import Linear
from fastnn.layers.normalization import BatchNorm1d, LayerNorm
from fastnn.layers.parameter import Parameter
from fastnn.layers.shape import Flatten
from fastnn.losses import resolve
from fastnn.losses.loss import Loss
from fastnn.reference.activation import SELU_ALPHA, SELU_SCALE

__all__ = ["HessianProduct", "hessian_vector_product"]

Vector = NDArray[np.float64]
Back = Callable[[Vector, Vector], tuple[Vector, Vector]]
AnyLoss = str | Loss | Callable[..., tuple[float, ArrayLike]]


class HessianProduct(np.ndarray[Any, Any]):
    """A float64 vector that knows how it was computed.

    Attributes
    ----------
    exact : bool
        Whether by formula; else by differences of gradients.
    """

    exact: bool | None

    def __array_finalize__(self, other: Any) -> None:
        self.exact = getattr(other, "exact", None)


def hessian_vector_product(
    model: Layer, loss: AnyLoss, x: ArrayLike, y: ArrayLike, v: ArrayLike
) -> HessianProduct:
    r"""Multiply the Hessian of a loss with respect to all parameters by a vector.

    Parameters
    ----------
    model : Layer
        As it predicts: without dropout, with running statistics.
    loss : str or callable
        As of `Trainer`.
    x : array_like, shape (batch, ...)
    y : array_like, shape (batch, ...) or (batch,)
        What the loss compares the predictions with.
    v : array_like, shape (P,)
        In the order of ``model.get_flat()``; frozen parameters count too.

    Returns
    -------
    HessianProduct, shape (P,)
        A float64 vector whose attribute ``exact`` says whether it was computed by formula.

    Raises
    ------
    TypeError
        If an argument is of the wrong kind.
    ValueError
        If a shape does not fit.

    Notes
    -----
    Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6, 1994: the
    derivative along v of every equation of the forward and the backward pass, in float64 whatever
    the model's dtype. Recurrent layers, layers in Python and losses in Python have no such
    equations here; then it is :math:`(g(\theta + \epsilon v) - g(\theta - \epsilon v)) / 2\epsilon`
    in the model's dtype, with :math:`\epsilon \|v\| = u^{1/3} (1 + \|\theta\|)` and u the machine
    epsilon.

    Examples
    --------
    A mean of squares over n samples has the Hessian 2 XᵀX / n:

    >>> import numpy as np, fastnn
    >>> x = np.array([[3.0, 0.0], [0.0, 1.0]])
    >>> model = fastnn.Linear(2, 1, bias=False, dtype="float64", rng=0)
    >>> product = fastnn.analysis.hessian_vector_product(
    ...     model, "mse", x, np.zeros((2, 1)), [1.0, 1.0]
    ... )
    >>> print(product, product.exact)
    [9. 1.] True
    """
    model, resolved = expect_layer(model), resolve(loss)
    x, single = inputs(model, x)
    if single:
        raise ValueError(f"x: expected shape (batch, ...), got {x.shape[1:]}")
    parameters = model.parameters()
    columns = columns_of(parameters)
    v = convert(v, "v", np.dtype(np.float64))
    size = sum(p.size for p in parameters)
    if v.shape != (size,):
        raise ValueError(f"v: expected shape ({size},), got {v.shape}")
    with unchanged(model):
        along = _Along(columns, v)
        try:
            exact = _by_formula(model, resolved, x, y, along)
        except NotImplementedError:
            along.result[...] = _by_differences(model, resolved, x, y, v)
            exact = False
    result = along.result.view(HessianProduct)
    result.exact = exact
    return result


class _Along:
    """The parameters, their direction, and the derivatives of their gradients along it."""

    def __init__(self, columns: dict[Parameter, slice], v: Vector) -> None:
        self.columns, self.v = columns, v
        self.result = np.zeros(v.size)

    def __call__(self, parameter: Parameter) -> tuple[Vector, Vector]:
        """Return values and direction in the parameter's shape."""
        direction = self.v[self.columns[parameter]].reshape(parameter.shape)
        return parameter.array.astype(np.float64), direction

    def add(self, parameter: Parameter, derivative: Vector) -> None:
        self.result[self.columns[parameter]] += derivative.reshape(-1)


def _by_formula(model: Layer, loss: Any, x: Array, y: Any, along: _Along) -> bool:
    """Add the product to `along`; returns whether the loss has a formula too."""
    given = x if x.dtype.kind in "iu" else x.astype(np.float64)
    pred, rpred, back = _forward(model, given, np.zeros(given.shape), along)
    dpred = np.asarray(loss(pred, y)[1], np.float64)
    curvature = _CURVATURES.get(loss.name) if isinstance(loss, Loss) else None
    if curvature is None:
        step = float(np.finfo(np.float64).eps) ** (1 / 3)
        step *= 1 + float(np.abs(pred).max(initial=0))
        step /= max(float(np.abs(rpred).max(initial=0)), 1e-100)
        ends = [np.asarray(loss(pred + sign * step * rpred, y)[1]) for sign in (1, -1)]
        rdpred = (ends[0] - ends[1]) / (2 * step)
    else:
        rdpred = curvature(loss, pred, rpred, y)
    back(dpred, rdpred)
    return curvature is not None


def _by_differences(model: Layer, loss: Any, x: Array, y: Any, v: Vector) -> Vector:
    run = Pass(model, x.shape[1:], gradients=True)
    theta = model.get_flat()
    length = float(np.linalg.norm(v))
    if length == 0:
        return np.zeros(v.size)
    unit = float(np.finfo(run.dtype).eps)
    step = unit ** (1 / 3) * (1 + float(np.linalg.norm(theta))) / length
    ends = []
    try:
        for sign in (1, -1):
            model.set_flat(theta + sign * step * v)
            run.backward(np.asarray(loss(run.forward(x), y)[1], run.dtype))
            gradients = [p.grad_array.ravel() for p in model.parameters()]
            ends.append(np.concatenate(gradients).astype(np.float64))
    finally:
        model.set_flat(theta)
    product: Vector = (ends[0] - ends[1]) / (2 * step)
    return product


# Losses: the derivative of the gradient along a change of the predictions. How the gradient is
# scaled by options is read from gradients where the rest of the formula is known.


def _squares(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    target = np.broadcast_to(np.asarray(y, np.float64), pred.shape)
    return np.asarray(loss(target + 1, y)[1] * rpred)


def _huber(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    target, (delta,) = np.broadcast_to(np.asarray(y, np.float64), pred.shape), loss.scalars
    scale = loss(target + delta, y)[1] / delta
    return np.asarray(scale * (np.abs(pred - target) <= delta) * rpred)


def _absolute(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    return np.zeros(pred.shape)


def _logistic(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    scale = loss(np.full(pred.shape, 1e3), y)[1] - loss(np.full(pred.shape, -1e3), y)[1]
    s = _sigmoid(pred)
    return np.asarray(scale * s * (1 - s) * rpred)


def _cross_entropy(loss: Loss, pred: Vector, rpred: Vector, y: Any) -> Vector:
    """The gradient of a row is m softmax - q; m from where the softmax is known."""
    classes = pred.shape[-1]
    if classes == 1:
        return np.zeros(pred.shape)
    certain = np.zeros(pred.shape)
    certain[..., 0] = 1e3
    difference = loss(certain, y)[1] - loss(np.zeros(pred.shape), y)[1]
    mass = difference[..., :1] / (1 - 1 / classes)
    s = _softmax(pred)
    return np.asarray(mass * s * (rpred - (s * rpred).sum(-1, keepdims=True)))


_CURVATURES: dict[str, Callable[[Loss, Vector, Vector, Any], Vector]] = {
    "mse": _squares,
    "huber": _huber,
    "l1": _absolute,
    "binary_cross_entropy_with_logits": _logistic,
    "cross_entropy": _cross_entropy,
}


# Layers: (layer, x, R{x}, along) -> y, R{y} and what does the same for the gradients.


def _forward(layer: Layer, x: Array, rx: Vector, along: _Along) -> tuple[Vector, Vector, Back]:
    rule = _RULES.get(type(layer))
    if rule is None:
        raise NotImplementedError
    return rule(layer, x, rx, along)


def _sequential(
    layer: Sequential, x: Array, rx: Vector, along: _Along
) -> tuple[Vector, Vector, Back]:
    steps = []
    for inner in layer.layers:
        x, rx, back = _forward(inner, x, rx, along)
        steps.append(back)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        for back in reversed(steps):
            dy, rdy = back(dy, rdy)
        return dy, rdy

    return x, rx, backward


def _residual(layer: Any, x: Array, rx: Vector, along: _Along) -> tuple[Vector, Vector, Back]:
    y, ry, back = _sequential(layer, x, rx, along)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        dx, rdx = back(dy, rdy)
        return dx + dy, rdx + rdy

    return x + y, rx + ry, backward


def _concat(layer: Concat, x: Array, rx: Vector, along: _Along) -> tuple[Vector, Vector, Back]:
    parts = [_forward(branch, x, rx, along) for branch in layer.layers]
    ends = np.cumsum([y.shape[-1] for y, _, _ in parts])[:-1]

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        pairs = zip(np.split(dy, ends, -1), np.split(rdy, ends, -1), strict=True)
        both = [back(*pair) for (_, _, back), pair in zip(parts, pairs, strict=True)]
        # not 0, with which a sum starts, for there are branches
        return sum(dx for dx, _ in both), sum(rdx for _, rdx in both)  # type: ignore[return-value]

    y, ry = (np.concatenate([part[i] for part in parts], -1) for i in (0, 1))
    return y, ry, backward


def _identity(layer: Layer, x: Array, rx: Vector, along: _Along) -> tuple[Vector, Vector, Back]:
    return x, rx, lambda dy, rdy: (dy, rdy)


def _flatten(layer: Layer, x: Array, rx: Vector, along: _Along) -> tuple[Vector, Vector, Back]:
    shape = (len(x), prod(x.shape[1:]))
    return (
        x.reshape(shape), rx.reshape(shape),
        lambda dy, rdy: (dy.reshape(x.shape), rdy.reshape(x.shape)),
    )  # fmt: skip


def _rows(x: Vector) -> Vector:
    return x.reshape(-1, x.shape[-1])


def _linear(layer: Linear, x: Array, rx: Vector, along: _Along) -> tuple[Vector, Vector, Back]:
    w, rw = along(layer.weight)
    y, ry = x @ w.T, rx @ w.T + x @ rw.T
    if layer.bias is not None:
        b, rb = along(layer.bias)
        y, ry = y + b, ry + rb

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        along.add(layer.weight, _rows(rdy).T @ _rows(x) + _rows(dy).T @ _rows(rx))
        if layer.bias is not None:
            along.add(layer.bias, _rows(rdy).sum(0))
        return dy @ w, rdy @ w + dy @ rw

    return y, ry, backward


def _embedding(
    layer: Embedding, x: Array, rx: Vector, along: _Along
) -> tuple[Vector, Vector, Back]:
    w, rw = along(layer.weight)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        derivative = np.zeros(w.shape)
        np.add.at(derivative, x, rdy)
        along.add(layer.weight, derivative)
        return dy, rdy  # nobody reads them

    return w[x], rw[x], backward


def _affine(
    layer: Any, normal: Vector, rnormal: Vector, along: _Along, axes: tuple[int, ...], shape: Any
) -> tuple[Vector, Vector, Back]:
    """weight · normal + bias, summed over `axes` for their gradients; `shape` broadcasts them."""
    if layer.weight is None:
        return normal, rnormal, lambda dy, rdy: (dy, rdy)
    (w, rw), (b, rb) = along(layer.weight), along(layer.bias)
    w, rw, b, rb = (a.reshape(shape) for a in (w, rw, b, rb))

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        along.add(layer.weight, (rdy * normal + dy * rnormal).sum(axes))
        along.add(layer.bias, rdy.sum(axes))
        return w * dy, w * rdy + rw * dy

    return w * normal + b, w * rnormal + rw * normal + rb, backward


def _layer_norm(
    layer: LayerNorm, x: Array, rx: Vector, along: _Along
) -> tuple[Vector, Vector, Back]:
    count = len(layer.normalized_shape)
    last, leading = tuple(range(-count, 0)), tuple(range(x.ndim - count))

    def mean(a: Vector) -> Vector:
        return np.asarray(a.mean(last, keepdims=True))

    centred, rcentred = x - mean(x), rx - mean(rx)
    r = 1 / np.sqrt(mean(centred**2) + layer.eps)
    rr = -(r**3) * mean(centred * rcentred)
    normal, rnormal = centred * r, rcentred * r + centred * rr
    y, ry, affine = _affine(layer, normal, rnormal, along, leading, layer.normalized_shape)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        g, rg = affine(dy, rdy)
        along_normal = mean(g * normal)
        inner = g - mean(g) - normal * along_normal
        rinner = (
            rg - mean(rg) - rnormal * along_normal - normal * mean(rg * normal + g * rnormal)
        )
        return r * inner, rr * inner + r * rinner

    return y, ry, backward


def _batch_norm(
    layer: BatchNorm1d, x: Array, rx: Vector, along: _Along
) -> tuple[Vector, Vector, Back]:
    """With running statistics."""
    shape = (-1, *(1,) * (x.ndim - 2))
    mean = layer.running_mean.array.astype(np.float64).reshape(shape)
    r = 1 / np.sqrt(layer.running_var.array.astype(np.float64) + layer.eps).reshape(shape)
    axes = (0, *range(2, x.ndim))
    y, ry, affine = _affine(layer, (x - mean) * r, rx * r, along, axes, shape)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        g, rg = affine(dy, rdy)
        return r * g, r * rg

    return y, ry, backward


def _softmax_layer(
    layer: Softmax, x: Array, rx: Vector, along: _Along
) -> tuple[Vector, Vector, Back]:
    def total(a: Vector) -> Vector:
        return np.asarray(a.sum(-1, keepdims=True))

    s = _softmax(x)
    rs = s * (rx - total(s * rx))

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        inner = dy - total(s * dy)
        return s * inner, rs * inner + s * (rdy - total(rs * dy + s * rdy))

    return s, rs, backward


def _log_softmax(
    layer: LogSoftmax, x: Array, rx: Vector, along: _Along
) -> tuple[Vector, Vector, Back]:
    def total(a: Vector) -> Vector:
        return np.asarray(a.sum(-1, keepdims=True))

    top = x - x.max(-1, keepdims=True)
    y = top - np.log(total(np.exp(top)))
    s = np.exp(y)
    ry = rx - total(s * rx)
    rs = s * ry

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        return dy - s * total(dy), rdy - rs * total(dy) - s * total(rdy)

    return y, ry, backward


def _element_wise(
    layer: Layer, x: Array, rx: Vector, along: _Along
) -> tuple[Vector, Vector, Back]:
    y, slope, bend = _ACTIVATIONS[type(layer)](layer, x)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        return slope * dy, bend * rx * dy + slope * rdy

    return y, slope * rx, backward


# Activations: value, first and second derivative.

Three = tuple[Vector, Vector, Vector]


def _sigmoid(x: Vector) -> Vector:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _softmax(x: Vector) -> Vector:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def _relu(layer: Any, x: Vector) -> Three:
    slope = np.where(x > 0, 1.0, getattr(layer, "negative_slope", 0.0))
    return slope * x, slope, np.zeros(x.shape)


def _elu(layer: ELU, x: Vector) -> Three:
    return _exponential(x, 1.0, layer.alpha)


def _selu(layer: SELU, x: Vector) -> Three:
    return _exponential(x, SELU_SCALE, SELU_SCALE * SELU_ALPHA)


def _exponential(x: Vector, above: float, limit: float) -> Three:
    bend = np.where(x > 0, 0.0, limit * np.exp(np.minimum(x, 0)))
    slope = np.where(x > 0, above, bend)
    return np.where(x > 0, above * x, bend - limit), slope, bend


def _sigmoid_layer(layer: Layer, x: Vector) -> Three:
    s = _sigmoid(x)
    slope = s * (1 - s)
    return s, slope, slope * (1 - 2 * s)


def _tanh(layer: Layer, x: Vector) -> Three:
    t = np.tanh(x)
    slope = 1 - t * t
    return t, slope, -2 * t * slope


def _silu(layer: Layer, x: Vector) -> Three:
    s, first, second = _sigmoid_layer(layer, x)
    return x * s, s + x * first, 2 * first + x * second


def _mish(layer: Mish, x: Vector) -> Three:
    t, s = np.tanh(np.logaddexp(0, x)), _sigmoid(x)
    first = (1 - t * t) * s  # of t
    return x * t, t + x * first, first * (2 + x * (1 - s - 2 * t * s))


def _softplus(layer: Softplus, x: Vector) -> Three:
    s = _sigmoid(layer.beta * x)
    return np.logaddexp(0, layer.beta * x) / layer.beta, s, layer.beta * s * (1 - s)


def _gelu(layer: GELU, x: Vector) -> Three:
    if layer.approximate == "none":
        cdf = 0.5 * (1 + np.vectorize(erf, otypes=[float])(x / sqrt(2)))
        pdf = np.exp(-0.5 * x * x) / sqrt(2 * pi)
        return x * cdf, cdf + x * pdf, pdf * (2 - x * x)
    c = sqrt(2 / pi)
    u1, u2 = c * (1 + 3 * 0.044715 * x**2), c * 6 * 0.044715 * x
    t = np.tanh(c * (x + 0.044715 * x**3))
    first = 1 - t * t
    slope = 0.5 * (1 + t) + 0.5 * x * first * u1
    return 0.5 * x * (1 + t), slope, first * u1 + 0.5 * x * first * (u2 - 2 * t * u1 * u1)


_ACTIVATIONS: dict[type[Layer], Callable[[Any, Vector], Three]] = {
    ReLU: _relu, LeakyReLU: _relu, ELU: _elu, SELU: _selu, Sigmoid: _sigmoid_layer, Tanh: _tanh,
    SiLU: _silu, Mish: _mish, Softplus: _softplus, GELU: _gelu,
}  # fmt: skip

_RULES: dict[type[Layer], Callable[[Any, Array, Vector, _Along], tuple[Vector, Vector, Back]]] = {
    Sequential: _sequential,
    Residual: _residual,
    Concat: _concat,
    Linear: _linear,
    Embedding: _embedding,
    LayerNorm: _layer_norm,
    BatchNorm1d: _batch_norm,
    Softmax: _softmax_layer,
    LogSoftmax: _log_softmax,
    Dropout: _identity,
    Flatten: _flatten,
    **dict.fromkeys(_ACTIVATIONS, _element_wise),
}
