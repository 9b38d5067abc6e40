"""Layer and batch normalization in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

import numpy as np

from fastnn._typing import Array

__all__ = [
    "batch_norm_backward", "batch_norm_forward", "batch_norm_inference", "layer_norm_backward",
    "layer_norm_backward_weight", "layer_norm_forward",
]


def layer_norm_forward(
    x: Array, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array, Array]:
    """y = (x - mean) rstd weight + bias, rstd = 1 / √(var + eps), over each row (Ba et al. 2016).

    Returns y, and mean, tail and rstd (rows,).
    """
    mean = x.mean(axis=1)
    rstd = 1 / np.sqrt(x.var(axis=1) + eps)
    y = (x - mean[:, None]) * rstd[:, None]
    return _affine(y, weight, bias), mean, np.zeros_like(mean), rstd


def layer_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, tail: Array, rstd: Array
) -> Array:
    """dx = rstd (g - mean(g) - h mean(g h)), g = dy weight, h = (x - mean) rstd."""
    g = _affine(dy, weight, None)
    h = (x - mean[:, None] - tail[:, None]) * rstd[:, None]
    dx: Array = rstd[:, None] * (
        g - g.mean(axis=1, keepdims=True) - h * (g * h).mean(axis=1, keepdims=True)
    )
    return dx


def layer_norm_backward_weight(
    dy: Array, x: Array, mean: Array, tail: Array, rstd: Array
) -> tuple[Array, Array]:
    """dweight = Σ dy h and dbias = Σ dy over the rows, h = (x - mean) rstd."""
    h = (x - mean[:, None] - tail[:, None]) * rstd[:, None]
    return (dy * h).sum(axis=0), dy.sum(axis=0)


def batch_norm_forward(
    running_mean: Array,
    running_var: Array,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """The same over rows and length of each channel (Ioffe and Szegedy 2015).

    Returns y, mean, tail and rstd, and running = (1 - momentum) running + momentum (mean, var)
    with the unbiased variance.
    """
    mean, var = x.mean(axis=(0, 2)), x.var(axis=(0, 2))
    rstd = 1 / np.sqrt(var + eps)
    count = x.shape[0] * x.shape[2]
    y = (x - mean[:, None]) * rstd[:, None]
    return (
        _affine(y, _column(weight), _column(bias)),
        mean,
        np.zeros_like(mean),
        rstd,
        (1 - momentum) * running_mean + momentum * mean,
        (1 - momentum) * running_var + momentum * var * count / (count - 1),
    )


def batch_norm_backward(
    dy: Array, x: Array, weight: Array | None, mean: Array, tail: Array, rstd: Array
) -> tuple[Array, Array, Array]:
    """dx = weight rstd (dy - mean(dy) - h mean(dy h)); and dweight = Σ dy h, dbias = Σ dy."""
    h = (x - mean[:, None] - tail[:, None]) * rstd[:, None]
    dweight, dbias = (dy * h).sum(axis=(0, 2)), dy.sum(axis=(0, 2))
    count = x.shape[0] * x.shape[2]
    dx = rstd[:, None] * (dy - dbias[:, None] / count - h * dweight[:, None] / count)
    return _affine(dx, _column(weight), None), dweight, dbias


def batch_norm_inference(
    x: Array,
    running_mean: Array,
    running_var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
) -> Array:
    """(x - running_mean) / √(running_var + eps) weight + bias."""
    y = (x - running_mean[:, None]) / np.sqrt(running_var[:, None] + eps)
    return _affine(y, _column(weight), _column(bias))


def _affine(x: Array, weight: Array | None, bias: Array | None) -> Array:
    if weight is not None:
        x = x * weight
    return x if bias is None else x + bias


def _column(x: Array | None) -> Array | None:
    return None if x is None else x[:, None]
