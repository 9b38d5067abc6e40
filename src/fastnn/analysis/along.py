"""Derivatives along a direction of all parameters: of a model's forward and backward pass.

Pearlmutter's operator R: a rule takes a layer, x and R{x}, and returns y, R{y} and what does the
same for the gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn._typing import Array
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
from fastnn.layers.scale import Scale
from fastnn.layers.shape import Flatten
from fastnn.reference.activation import SELU_ALPHA, SELU_SCALE

__all__ = ["Along", "forward", "sigmoid", "softmax"]

Vector = NDArray[np.float64]
Back = Callable[[Vector, Vector], tuple[Vector, Vector]]


class Along:
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


def forward(layer: Layer, x: Array, rx: Vector, along: Along) -> tuple[Vector, Vector, Back]:
    rule = _RULES.get(type(layer))
    if rule is None:
        raise NotImplementedError
    return rule(layer, x, rx, along)


def _sequential(
    layer: Sequential, x: Array, rx: Vector, along: Along
) -> tuple[Vector, Vector, Back]:
    steps = []
    for inner in layer.layers:
        x, rx, back = forward(inner, x, rx, along)
        steps.append(back)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        for back in reversed(steps):
            dy, rdy = back(dy, rdy)
        return dy, rdy

    return x, rx, backward


def _residual(layer: Any, x: Array, rx: Vector, along: Along) -> tuple[Vector, Vector, Back]:
    y, ry, back = _sequential(layer, x, rx, along)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        dx, rdx = back(dy, rdy)
        return dx + dy, rdx + rdy

    return x + y, rx + ry, backward


def _concat(layer: Concat, x: Array, rx: Vector, along: Along) -> tuple[Vector, Vector, Back]:
    parts = [forward(branch, x, rx, along) for branch in layer.layers]
    ends = np.cumsum([y.shape[-1] for y, _, _ in parts])[:-1]

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        pairs = zip(np.split(dy, ends, -1), np.split(rdy, ends, -1), strict=True)
        both = [back(*pair) for (_, _, back), pair in zip(parts, pairs, strict=True)]
        # not 0, with which a sum starts, for there are branches
        return sum(dx for dx, _ in both), sum(rdx for _, rdx in both)  # type: ignore[return-value]

    y, ry = (np.concatenate([part[i] for part in parts], -1) for i in (0, 1))
    return y, ry, backward


def _identity(layer: Layer, x: Array, rx: Vector, along: Along) -> tuple[Vector, Vector, Back]:
    return x, rx, lambda dy, rdy: (dy, rdy)


def _flatten(layer: Layer, x: Array, rx: Vector, along: Along) -> tuple[Vector, Vector, Back]:
    shape = (len(x), prod(x.shape[1:]))
    return (
        x.reshape(shape), rx.reshape(shape),
        lambda dy, rdy: (dy.reshape(x.shape), rdy.reshape(x.shape)),
    )  # fmt: skip


def _rows(x: Vector) -> Vector:
    return x.reshape(-1, x.shape[-1])


def _linear(layer: Linear, x: Array, rx: Vector, along: Along) -> tuple[Vector, Vector, Back]:
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


def _scale(layer: Scale, x: Array, rx: Vector, along: Along) -> tuple[Vector, Vector, Back]:
    w, rw = along(layer.weight)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        along.add(layer.weight, _rows(rdy * x + dy * rx).sum(0))
        return w * dy, w * rdy + rw * dy

    return w * x, w * rx + rw * x, backward


def _embedding(
    layer: Embedding, x: Array, rx: Vector, along: Along
) -> tuple[Vector, Vector, Back]:
    w, rw = along(layer.weight)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        derivative = np.zeros(w.shape)
        np.add.at(derivative, x, rdy)
        along.add(layer.weight, derivative)
        return dy, rdy  # nobody reads them

    return w[x], rw[x], backward


def _affine(
    layer: Any, normal: Vector, rnormal: Vector, along: Along, axes: tuple[int, ...], shape: Any
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
    layer: LayerNorm, x: Array, rx: Vector, along: Along
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
    layer: BatchNorm1d, x: Array, rx: Vector, along: Along
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
    layer: Softmax, x: Array, rx: Vector, along: Along
) -> tuple[Vector, Vector, Back]:
    def total(a: Vector) -> Vector:
        return np.asarray(a.sum(-1, keepdims=True))

    s = softmax(x)
    rs = s * (rx - total(s * rx))

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        inner = dy - total(s * dy)
        return s * inner, rs * inner + s * (rdy - total(rs * dy + s * rdy))

    return s, rs, backward


def _log_softmax(
    layer: LogSoftmax, x: Array, rx: Vector, along: Along
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
    layer: Layer, x: Array, rx: Vector, along: Along
) -> tuple[Vector, Vector, Back]:
    y, slope, bend = _ACTIVATIONS[type(layer)](layer, x)

    def backward(dy: Vector, rdy: Vector) -> tuple[Vector, Vector]:
        return slope * dy, bend * rx * dy + slope * rdy

    return y, slope * rx, backward


# Activations: value, first and second derivative.

Three = tuple[Vector, Vector, Vector]


def sigmoid(x: Vector) -> Vector:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def softmax(x: Vector) -> Vector:
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def _relu(layer: Any, x: Vector) -> Three:
    slope = np.where(x > 0, 1.0, getattr(layer, "negative_slope", 0.0))
    return slope * x, slope, np.zeros(x.shape)


def _elu(layer: Any, x: Vector) -> Three:
    scale, alpha = (
        (SELU_SCALE, SELU_ALPHA) if isinstance(layer, SELU) else (1.0, layer.alpha)
    )
    bend = np.where(x > 0, 0.0, scale * alpha * np.exp(np.minimum(x, 0)))
    slope = np.where(x > 0, scale, bend)
    return np.where(x > 0, scale * x, bend - scale * alpha), slope, bend


def _softplus(layer: Softplus, x: Vector) -> Three:
    slope = sigmoid(layer.beta * x)
    return (
        np.logaddexp(0, layer.beta * x) / layer.beta, slope, layer.beta * slope * (1 - slope),
    )  # fmt: skip


def _mish(layer: Layer, x: Vector) -> Three:
    s, slope_s, _ = _sigmoid_layer(layer, x)
    t = np.tanh(np.logaddexp(0, x))
    first = (1 - t * t) * s
    second = (1 - t * t) * slope_s - 2 * t * first * s
    return x * t, t + x * first, 2 * first + x * second


def _sigmoid_layer(layer: Layer, x: Vector) -> Three:
    s = sigmoid(x)
    slope = s * (1 - s)
    return s, slope, slope * (1 - 2 * s)


def _tanh(layer: Layer, x: Vector) -> Three:
    t = np.tanh(x)
    slope = 1 - t * t
    return t, slope, -2 * t * slope


def _silu(layer: Layer, x: Vector) -> Three:
    s, first, second = _sigmoid_layer(layer, x)
    return x * s, s + x * first, 2 * first + x * second


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
    ReLU: _relu, LeakyReLU: _relu, ELU: _elu, Sigmoid: _sigmoid_layer, Tanh: _tanh, SiLU: _silu,
    GELU: _gelu, SELU: _elu, Mish: _mish, Softplus: _softplus,
}  # fmt: skip

_RULES: dict[type[Layer], Callable[[Any, Array, Vector, Along], tuple[Vector, Vector, Back]]] = {
    Sequential: _sequential,
    Residual: _residual,
    Concat: _concat,
    Linear: _linear,
    Embedding: _embedding,
    Scale: _scale,
    LayerNorm: _layer_norm,
    BatchNorm1d: _batch_norm,
    Softmax: _softmax_layer,
    LogSoftmax: _log_softmax,
    Dropout: _identity,
    Flatten: _flatten,
    **dict.fromkeys(_ACTIVATIONS, _element_wise),
}
