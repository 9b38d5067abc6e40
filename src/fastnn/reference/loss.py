"""Losses in NumPy. See :mod:`fastnn.reference`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastnn._typing import Array
from fastnn.reference.activation import log_softmax_forward, sigmoid_forward

__all__ = [
    "binary_cross_entropy_with_logits_loss", "cross_entropy_loss",
    "cross_entropy_probabilities_loss", "gaussian_nll_loss", "huber_loss", "l1_loss", "mse_loss",
    "poisson_nll_loss", "quantile_loss",
]


def mse_loss(
    pred: Array, target: Array, row_weight: Array | None = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """ℓ = (pred - target)²."""
    error = pred - target
    return _weigh(error * error, 2 * error, row_weight, scale)


def l1_loss(
    pred: Array, target: Array, row_weight: Array | None = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """ℓ = |pred - target|."""
    error = pred - target
    return _weigh(np.abs(error), np.sign(error), row_weight, scale)


def huber_loss(
    pred: Array,
    target: Array,
    row_weight: Array | None = None,
    scale: float = 1.0,
    delta: float = 1.0,
) -> tuple[Array, Array]:
    """ℓ = error² / 2 up to |error| = delta, then a straight line: delta (|error| - delta / 2)."""
    error = pred - target
    clipped = np.clip(error, -delta, delta)
    return _weigh(clipped * (error - 0.5 * clipped), clipped, row_weight, scale)


def poisson_nll_loss(
    pred: Array, target: Array, row_weight: Array | None = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """ℓ = e^pred - target · pred, for the logarithm of the rate."""
    rate = np.exp(pred)
    return _weigh(rate - target * pred, rate - target, row_weight, scale)


def quantile_loss(
    pred: Array,
    target: Array,
    row_weight: Array | None = None,
    quantiles: Array | None = None,
    scale: float = 1.0,
) -> tuple[Array, Array]:
    """ℓ = max(q e, (q - 1) e), e = target - pred; a row holds the quantiles q of one number."""
    assert quantiles is not None  # None for the order of the arguments alone
    error = pred - target[:, None]
    # between the slopes at 0; NaN of NaN
    slope = np.where(error > 0, 1 - quantiles, np.where(error < 0, -quantiles, error))
    return _weigh(slope * error, slope, row_weight, scale)


def gaussian_nll_loss(
    pred: Array, target: Array, weight: Array | None = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """ℓ = (v + (m - target)² e^-v) / 2 for rows of means m, then logarithms v of variances.

    Weights are of rows, or of elements.
    """
    mean, log = np.split(pred, 2, axis=1)
    error, precision = mean - target, np.exp(-log)
    square = error * error * precision
    weight = np.ones(len(pred)) if weight is None else weight
    weight = weight.reshape(len(pred), -1)
    gradient = np.hstack([weight * error * precision, weight * (0.5 - 0.5 * square)])
    return (weight * (0.5 * (log + square))).sum(axis=1), scale * gradient


def binary_cross_entropy_with_logits_loss(
    pred: Array, target: Array, row_weight: Array | None = None, scale: float = 1.0
) -> tuple[Array, Array]:
    """ℓ = -t log sigmoid(pred) - (1 - t) log(1 - sigmoid(pred)), written without overflow."""
    loss = np.maximum(pred, 0) - pred * target + np.log1p(np.exp(-np.abs(pred)))
    return _weigh(loss, sigmoid_forward(pred) - target, row_weight, scale)


def cross_entropy_loss(
    pred: Array,
    target: NDArray[np.int64],
    row_weight: Array | None = None,
    class_weight: Array | None = None,
    scale: float = 1.0,
    label_smoothing: float = 0.0,
    ignore_index: int | None = None,
) -> tuple[Array, Array]:
    """The next function for labels (rows,); those equal to ignore_index count nothing."""
    hits = (target[:, None] == np.arange(pred.shape[1])).astype(pred.dtype)
    row_loss, dpred = cross_entropy_probabilities_loss(
        pred, hits, row_weight, class_weight, scale, label_smoothing
    )
    if ignore_index is not None:
        row_loss[target == ignore_index] = 0
        dpred[target == ignore_index] = 0
    return row_loss, dpred


def cross_entropy_probabilities_loss(
    pred: Array,
    target: Array,
    row_weight: Array | None = None,
    class_weight: Array | None = None,
    scale: float = 1.0,
    label_smoothing: float = 0.0,
) -> tuple[Array, Array]:
    """ℓ = -Σ c log softmax(pred), c = class_weight ((1 - smoothing) target + smoothing / cols)."""
    c = (1 - label_smoothing) * target + label_smoothing / max(pred.shape[1], 1)
    if class_weight is not None:
        c = class_weight * c
    y = log_softmax_forward(pred)
    loss = np.where(c == 0, 0, -c * y)  # a class may have the logit -inf if nothing asks for it
    return _weigh(loss, np.exp(y) * c.sum(axis=1, keepdims=True) - c, row_weight, scale)


def _weigh(
    loss: Array, gradient: Array, row_weight: Array | None, scale: float
) -> tuple[Array, Array]:
    row_loss = loss.sum(axis=1)
    if row_weight is None:
        return row_loss, scale * gradient
    return row_weight * row_loss, scale * row_weight[:, None] * gradient
