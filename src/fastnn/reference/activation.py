"""Activations in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

from math import erfc, pi, sqrt

import numpy as np

from fastnn._typing import Array

__all__ = [
    "elu_backward", "elu_forward", "exp_forward", "gelu_backward", "gelu_forward",
    "gelu_tanh_backward", "gelu_tanh_forward", "leaky_relu_backward", "leaky_relu_forward",
    "log_softmax_backward", "log_softmax_forward", "mish_backward", "mish_forward", "relu_backward",
    "relu_forward", "selu_backward", "selu_forward", "sigmoid_backward", "sigmoid_forward",
    "silu_backward", "silu_forward", "softmax_backward", "softmax_forward", "softplus_backward",
    "softplus_forward", "tanh_backward", "tanh_forward",
]


def exp_forward(x: Array) -> Array:
    """e^x."""
    return np.exp(x)


def relu_forward(x: Array) -> Array:
    """max(x, 0)."""
    return np.maximum(x, 0)


def relu_backward(dy: Array, y: Array) -> Array:
    """dy where y > 0, else 0."""
    return np.where(y > 0, dy, 0)


def leaky_relu_forward(x: Array, negative_slope: float = 0.01) -> Array:
    """x where x > 0, else negative_slope x."""
    return np.where(x > 0, x, negative_slope * x)


def leaky_relu_backward(dy: Array, y: Array, negative_slope: float = 0.01) -> Array:
    """dy where y > 0, else negative_slope dy."""
    return np.where(y > 0, dy, negative_slope * dy)


def elu_forward(x: Array, alpha: float = 1.0) -> Array:
    """x where x > 0, else alpha (e^x - 1) (Clevert, Unterthiner and Hochreiter 2015)."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def elu_backward(dy: Array, y: Array, alpha: float = 1.0) -> Array:
    """dy where y > 0, else dy (y + alpha), which is dy alpha e^x."""
    return np.where(y > 0, dy, dy * (y + alpha))


# The two numbers of SELU, which keep mean 0 and variance 1 from layer to layer.
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934, 1.6732632423543772848


def selu_forward(x: Array) -> Array:
    """scale x where x > 0, else scale alpha (e^x - 1) (Klambauer et al. 2017)."""
    return SELU_SCALE * elu_forward(x, SELU_ALPHA)


def selu_backward(dy: Array, y: Array) -> Array:
    """scale dy where y > 0, else dy (y + scale alpha), which is dy scale alpha e^x."""
    return np.where(y > 0, SELU_SCALE * dy, dy * (y + SELU_SCALE * SELU_ALPHA))


def sigmoid_forward(x: Array) -> Array:
    """1 / (1 + e^-x), written so that no exponential overflows."""
    e = np.exp(-np.abs(x))
    y: Array = np.where(x < 0, e, 1) / (1 + e)
    return y


def sigmoid_backward(dy: Array, y: Array) -> Array:
    """dy y (1 - y)."""
    dx: Array = dy * y * (1 - y)
    return dx


def tanh_forward(x: Array) -> Array:
    """tanh x."""
    return np.tanh(x)


def tanh_backward(dy: Array, y: Array) -> Array:
    """dy (1 - y²)."""
    dx: Array = dy * (1 - y * y)
    return dx


def gelu_forward(x: Array) -> Array:
    """x Φ(x), Φ the normal distribution (Hendrycks and Gimpel 2016)."""
    return x * _normal_distribution(x)


def gelu_backward(dy: Array, x: Array) -> Array:
    """dy (Φ(x) + x φ(x)), φ the normal density."""
    density = np.exp(-0.5 * x * x) / sqrt(2 * pi)
    return dy * (_normal_distribution(x) + x * density)


def _normal_distribution(x: Array) -> Array:
    """Φ(x) = erfc(-x / √2) / 2; NumPy has no error function, so it is Python's."""
    y: Array = (0.5 * _erfc(x * -sqrt(0.5))).astype(x.dtype)
    return y


_erfc = np.vectorize(erfc, otypes=[float])


def gelu_tanh_forward(x: Array) -> Array:
    """x (1 + tanh v) / 2 = x sigmoid(2 v), v = √(2/π) (x + 0.044715 x³)."""
    v = sqrt(2 / pi) * (x + 0.044715 * x**3)
    return x * sigmoid_forward(2 * v)


def gelu_tanh_backward(dy: Array, x: Array) -> Array:
    """dy (s + x s (1 - s) 2 v'), s = sigmoid(2 v)."""
    v = sqrt(2 / pi) * (x + 0.044715 * x**3)
    slope = sqrt(2 / pi) * (1 + 3 * 0.044715 * x**2)
    s = sigmoid_forward(2 * v)
    return dy * (s + x * s * sigmoid_forward(-2 * v) * 2 * slope)


def silu_forward(x: Array) -> Array:
    """x sigmoid(x) (Elfwing, Uchibe and Doya 2017)."""
    return x * sigmoid_forward(x)


def silu_backward(dy: Array, x: Array) -> Array:
    """dy s (1 + x (1 - s)), s = sigmoid(x)."""
    dx: Array = dy * sigmoid_forward(x) * (1 + x * sigmoid_forward(-x))
    return dx


def mish_forward(x: Array) -> Array:
    """x tanh log(1 + e^x) (Misra 2019)."""
    y: Array = x * np.tanh(np.logaddexp(0, x))
    return y


def mish_backward(dy: Array, x: Array) -> Array:
    """dy (t + x (1 - t²) sigmoid(x)), t = tanh log(1 + e^x)."""
    t = np.tanh(np.logaddexp(0, x))
    dx: Array = dy * (t + x * (1 - t * t) * sigmoid_forward(x))
    return dx


def softplus_forward(x: Array, beta: float = 1.0) -> Array:
    """log(1 + e^(beta x)) / beta (Dugas et al. 2001)."""
    return np.logaddexp(0, beta * x) / beta


def softplus_backward(dy: Array, y: Array, beta: float = 1.0) -> Array:
    """dy (1 - e^(-beta y)), which is dy sigmoid(beta x)."""
    return -dy * np.expm1(-beta * y)


def softmax_forward(x: Array) -> Array:
    """e^x / Σ e^x over each row, shifted by the row's largest so that nothing overflows."""
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    y: Array = e / e.sum(axis=-1, keepdims=True)
    return y


def softmax_backward(dy: Array, y: Array) -> Array:
    """y (dy - Σ dy y)."""
    dx: Array = y * (dy - (dy * y).sum(axis=-1, keepdims=True))
    return dx


def log_softmax_forward(x: Array) -> Array:
    """x - log Σ e^x over each row."""
    z = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
    y: Array = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return y


def log_softmax_backward(dy: Array, y: Array) -> Array:
    """dy - e^y Σ dy."""
    dx: Array = dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)
    return dx
